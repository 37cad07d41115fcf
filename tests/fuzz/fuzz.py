"""Fuzzes the loaders by coverage (libFuzzer by way of atheris) with mutations that know the files.

    pip install atheris
    python tests/fuzz/fuzz.py model --minutes 20
    python tests/fuzz/fuzz.py onnx --runs 1000000 --folder /tmp/onnx-fuzz

Every execution loads a file and, if it loads, runs it once (`target.execute`). An exception that is
no `CnnrtError`, a crash, more than 10 seconds or 4 GiB is a finding. It ends the run with its
traceback, and its file is in the folder as crash-*, oom-* or timeout-*. The corpus stays in the
folder, too: the next run with it goes on from there. At the end it prints executions and time.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

SECONDS, MEGABYTES = 10, 4096
"""Limits of one execution."""
MAX_BYTES = 1 << 14


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("model", "onnx"))
    parser.add_argument("--runs", type=int, default=-1, help="executions")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--folder", type=Path, help="of the files found; default: a temporary one")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations; 0: any")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        return fuzz(arguments)
    # In a process of its own: libFuzzer ends the process at a finding.
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix=f"cnnrt-fuzz-{arguments.kind}-"))
    corpus = folder / "corpus"
    if not corpus.exists():
        write_seeds(arguments.kind, corpus)
    command = [sys.executable, __file__, arguments.kind, "--here", "--folder", str(folder)]
    command += ["--runs", str(arguments.runs), "--minutes", str(arguments.minutes)]
    command += ["--seed", str(arguments.seed)]
    start = time.monotonic()
    result = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    seconds = time.monotonic() - start
    if result.returncode:
        print(result.stderr[-8000:])
    counts = [int(w[1:]) for w in result.stderr.split() if w[:1] == "#" and w[1:].isdigit()]
    print(
        f"{arguments.kind}: {max(counts, default=0)} executions in {seconds:.0f} s, "
        f"{'a finding: see ' + str(folder) if result.returncode else 'no finding'}"
    )
    return result.returncode


def write_seeds(kind: str, corpus: Path) -> None:
    import seeds

    files = seeds.model_seeds() if kind == "model" else seeds.onnx_seeds()
    corpus.mkdir(parents=True)
    for i, data in enumerate(files):
        (corpus / f"seed{i:04}").write_bytes(data)


def fuzz(arguments: argparse.Namespace) -> int:
    import atheris

    os.chdir(arguments.folder)  # where its findings go
    corpus = arguments.folder / "corpus"
    with atheris.instrument_imports(include=["cnnrt"]):
        import cnnrt  # noqa: F401
    import mutate
    import structure
    import target

    name = "mutated_model" if arguments.kind == "model" else "mutated_onnx"
    plain, deep = getattr(mutate, name), getattr(structure, name)
    others = [path.read_bytes() for path in sorted(corpus.glob("seed*"))]

    def mutated(data: bytes, size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        change = deep if rng.random() < 0.3 else plain
        result = change(data, rng.choice(others), rng)
        return result if len(result) <= size else data

    options = [
        *(sys.argv[0], str(corpus), f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}"),
        *(f"-runs={arguments.runs}", f"-max_total_time={int(arguments.minutes * 60)}"),
        *(f"-max_len={MAX_BYTES}", f"-seed={arguments.seed}", "-print_final_stats=1"),
    ]
    atheris.Setup(
        options, lambda data: target.execute(bytes(data)) and None, custom_mutator=mutated
    )
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
