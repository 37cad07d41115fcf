"""Loads and runs a number of mutated files, without coverage: for machines without atheris.

    python tests/fuzz/count.py model --count 200000 --processes 2
    python tests/fuzz/count.py onnx --count 200000

Half of the mutations are of `structure`, half of `mutate`. A file that ran or was refused for the
first time in some way is mutated again. Bounds of an execution are 5 seconds, and 500 MB more than
the process had, for files below 10 kB. A crash, a hang, more memory or an exception that is no
`CnnrtError` is a finding. Its file is in the folder, and the status is 1. Files may be up to 64 kB;
those above 10 kB have a share of the bounds. The seconds are those of the CPU, so that other work
beside it makes no finding. A file that is not done after `WAIT` seconds waits for itself.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

SECONDS, MEGABYTES, MOST_BYTES = 5.0, 500, 1 << 16
WAIT = 120.0
SMALL = 10_000
BATCH = 400
"""Executions of a child process: what it has learnt goes with it, but so do its leaks."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=("model", "onnx"))
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="of the findings; default: a temporary one")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix=f"cnnrt-count-{options.kind}-"))
    folder.mkdir(parents=True, exist_ok=True)
    found = run(options.kind, options.count, options.minutes * 60, options.seed, folder)
    print(f"{found[0]}; findings: {found[1] or 'none'}{f', in {folder}' if found[1] else ''}")
    return 1 if found[1] else 0


def run(kind: str, count: int, seconds: float, seed: int, folder: Path) -> tuple[str, int]:
    """A summary of the executions, and the number of findings."""
    import seeds
    import target  # noqa: F401  (once, before the forks)

    files = seeds.model_seeds() if kind == "model" else seeds.onnx_seeds()
    files = [data for data in files if len(data) <= MOST_BYTES]
    start, done, findings = time.monotonic(), 0, 0
    results: Counter[str] = Counter()
    slowest = largest = 0.0
    while done < count and time.monotonic() - start < seconds:
        shared = mmap.mmap(-1, MOST_BYTES + 8192)
        child = os.fork()
        if child == 0:
            os._exit(batch(kind, files, seed + done, min(BATCH, count - done), shared))
        status = os.waitpid(child, 0)[1]
        head, data = shared[:4096].rstrip(b"\0").decode(errors="replace"), shared[4096:]
        words = head.split("\n")
        executed = int(words[0] or 0)
        done += max(executed, 1)
        for word in words[1:-1]:
            name, _, value = word.partition("=")
            if name == "slowest":
                slowest = max(slowest, float(value))
            elif name == "largest":
                largest = max(largest, float(value))
            elif name:
                results[name] += int(value)
        if status:
            findings += 1
            length = int.from_bytes(data[:8], "little")
            path = folder / f"{kind}-{seed + done}"
            path.write_bytes(data[8 : 8 + length])
            print(f"{path}: {length} bytes, status {status}: {words[-1]}", flush=True)
        shared.close()
        if done // 10_000 > (done - executed) // 10_000:
            print(f"{kind}: {done} files in {time.monotonic() - start:.0f} s", flush=True)
    took = time.monotonic() - start
    counts = ", ".join(f"{n} {name}" for name, n in results.most_common())
    return (
        f"{kind}: {done} files in {took:.0f} s ({counts}); slowest {slowest:.2f} s, "
        f"most memory {largest:.0f} MB",
        findings,
    )


def batch(kind: str, files: list[bytes], seed: int, count: int, shared: mmap.mmap) -> int:
    """Executes this many mutated files; returns 0 if there is no finding."""
    import mutate
    import structure
    import target

    rng = random.Random(seed)
    plain = mutate.mutated_model if kind == "model" else mutate.mutated_onnx
    deep = structure.mutated_model if kind == "model" else structure.mutated_onnx
    pool, results = list(files), Counter[str]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    slowest = 0.0
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)

    def note(done: int, last: str = "") -> None:
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        lines = [str(done), *(f"{k}={n}" for k, n in results.items())]
        last = " ".join(last.split())
        text = "\n".join([*lines, f"slowest={slowest}", f"largest={grown}", last])
        shared[:4096] = text.encode()[:4096].ljust(4096, b"\0")

    for i in range(count):
        change = deep if rng.random() < 0.5 else plain
        data = change(rng.choice(pool), rng.choice(pool), rng)
        if len(data) > MOST_BYTES:
            continue
        shared[4096 : 4104 + len(data)] = len(data).to_bytes(8, "little") + data
        share = max(1.0, len(data) / SMALL)
        signal.setitimer(signal.ITIMER_PROF, SECONDS * share)
        signal.setitimer(signal.ITIMER_REAL, WAIT * share)
        start = time.process_time()
        try:
            result = target.execute(data)
        except BaseException as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            note(i + 1, f"{type(error).__name__}: {error} at {place.filename}:{place.lineno}")
            return 1
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        slowest = max(slowest, (time.process_time() - start) / share)
        results[result] += 1
        if result == "ran" and rng.random() < 0.3 and len(data) < SMALL:
            pool[rng.randrange(len(pool))] = data
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        if grown > MEGABYTES * share:
            note(i + 1, f"{grown:.0f} MB")
            return 1
        if i % 20 == 19:
            note(i + 1)
    note(count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
