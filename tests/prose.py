"""Measures the project's English: long sentences, and docstrings that open with a riddle.

`python tests/prose.py FILE...` prints the sentences of more than 25 words and fails if there are
any; without files it goes over all pages. `tests/test_prose.py` holds the sources to the same.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
MAX_WORDS = 25
"""Words of a sentence, as CONTRIBUTING.md limits them."""
RIDDLES = re.compile(r"(Of|Who|Whose|Whom|What|Whether|Those|That of)\b")
"""First words of a docstring that says nothing without the identifier beside it."""

_CODE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
_END = re.compile(r"(?<![Ee]\.g)(?<!i\.e)(?<!vs)(?<!cf)(?<! al)[.!?][)\"'*_`]*(?=\s|$)")


class Sentence(NamedTuple):
    """A sentence and the place where its paragraph begins."""

    at: str
    text: str

    @property
    def words(self) -> int:
        return sum(any(c.isalnum() for c in word) for word in self.text.split())


def pages() -> list[Path]:
    """The pages that people read, from the README on."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/*.md")])


def sentences_of_page(path: Path) -> Iterator[Sentence]:
    """The sentences of a Markdown page without its code, tables, headings and images."""
    text = _CODE.sub(lambda code: "\n" * code[0].count("\n"), path.read_text(encoding="utf-8"))
    paragraph, begin = "", 0
    in_list = False
    for number, line in enumerate([*text.splitlines(), ""], 1):
        item = re.match(r"\s*([*+-]|\d+\.) +", line)
        code = re.match(r" {4}", line) and not paragraph and not in_list
        if not line.strip() or item or code or line.lstrip().startswith(("#", "|", "<", "![", ">")):
            yield from _split(_plain(paragraph), f"{path.relative_to(ROOT)}:{begin}")
            paragraph, begin = "", number
            in_list = bool(item) or (in_list and (not line.strip() or line.startswith(" ")))
        if item:
            paragraph = line[item.end() :]
        elif not code and line.strip() and not line.lstrip().startswith(("#", "|", "<", "![", ">")):
            begin = begin if paragraph else number
            paragraph += " " + line.strip()


def sentences_of_python(path: Path) -> Iterator[Sentence]:
    """The sentences of docstrings and comments; not those of a docstring's Raises section."""
    source = path.read_text(encoding="utf-8")
    for line, text in docstrings(source):
        body = re.split(r"^\s*(?:Args|Raises|Returns):$", text, flags=re.MULTILINE)[0]
        for paragraph in re.split(r"\n\s*\n|\n\s*[*-] ", body):
            if not re.match(r"\s{8,}|.*(?:>>> |= | -> )", paragraph):
                yield from _split(paragraph, f"{path.relative_to(ROOT)}:{line}")
    block, begin, last = "", 0, -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or re.match(r"# (noqa|type:)|#!", token.string):
            continue
        row, alone = token.start[0], not token.line[: token.start[1]].strip()
        if row != last + 1 or not alone:
            yield from _split(block, f"{path.relative_to(ROOT)}:{begin}")
            block, begin = "", row
        block, last = f"{block} {token.string.lstrip('# ')}", row
    yield from _split(block, f"{path.relative_to(ROOT)}:{begin}")


def sentences_of_cpp(path: Path) -> Iterator[Sentence]:
    """The sentences of comments; lines of comment that follow each other are one paragraph.

    Lines indented like code are tables, and have no sentences.
    """
    block, begin, column = "", 0, -1
    for number, line in enumerate([*path.read_text(encoding="utf-8").splitlines(), ""], 1):
        comment = re.search(r"//+ ?(.*)", line)
        alone = line.lstrip().startswith("//")
        table = alone and comment and re.match(r" {2}", comment[1])
        text = comment[1].strip() if comment and not table else ""
        at = line.find("//")
        if block and not (text and alone and at == column):
            yield from _split(block, f"{path.relative_to(ROOT)}:{begin}")
            block = ""
        begin = begin if block else number
        block, column = f"{block} {text}".strip(), at


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring, those under a variable too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            for child in node.body:
                match child:
                    case ast.Expr(ast.Constant(str(text))):
                        yield child.lineno, text


def riddles(path: Path) -> Iterator[str]:
    """Place and first line of the docstrings that open with one of `RIDDLES`."""
    for line, text in docstrings(path.read_text(encoding="utf-8")):
        if RIDDLES.match(text.lstrip()):
            yield f"{path.relative_to(ROOT)}:{line}: {text.lstrip().splitlines()[0]}"


def _plain(text: str) -> str:
    """Markdown as it is read: links by their text."""
    return re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)


def _split(text: str, at: str) -> Iterator[Sentence]:
    begin = 0
    text = " ".join(text.split())
    for end in _END.finditer(text):
        yield Sentence(at, text[begin : end.end()].strip())
        begin = end.end()
    if text[begin:].strip():
        yield Sentence(at, text[begin:].strip())


def main() -> int:
    paths = [Path(name).resolve() for name in sys.argv[1:]] or pages()
    kinds = {".md": sentences_of_page, ".py": sentences_of_python}
    found = 0
    for path in paths:
        for sentence in kinds.get(path.suffix, sentences_of_cpp)(path):
            if sentence.words > MAX_WORDS:
                print(f"{sentence.at}: {sentence.words} words: {sentence.text}")
                found += 1
        for riddle in riddles(path) if path.suffix == ".py" else ():
            print(riddle)
            found += 1
    return found > 0


if __name__ == "__main__":
    sys.exit(main())
