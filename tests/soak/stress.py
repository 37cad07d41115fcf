"""Forks, signals and threads against one process, for as long as requested.

    python tests/soak/stress.py forks --count 20000
    python tests/soak/stress.py signals --count 20000
    python tests/soak/stress.py all --minutes 10

* forks: children are forked while other threads load, plan, run, trim and write compiled files.
  Each child loads a model, plans and runs.
* signals: a handler raises at a random moment of every public method of a model. After each, the
  model must give the bits that it gave before, and trim and describe itself.
* nested: a handler and a finaliser call the model in the midst of its own planning.
* imports: processes whose threads load an ONNX file for the first time while children are forked.

A child that takes 30 seconds, or a call that takes 20, hangs: the script says so and ends with 1.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import cnnrt
from cnnrt import ops
from cnnrt.formats import write_model
from cnnrt.graph import Graph, Node, TensorSpec

CHILD_SECONDS, CALL_SECONDS = 30, 20
Budget = Callable[[int], bool]
"""Takes the number so far; True if there is time, and count, for one more."""


def network(layers: int = 6) -> bytes:
    """A model.bin of convolutions whose batch, height and width are free."""
    rng = np.random.default_rng(0)
    constants = {
        f"w{i}": rng.standard_normal((8, 8, 3, 3)).astype("f") * 0.1 for i in range(layers)
    }
    nodes = [
        Node("conv", f"t{i + 1}", [f"t{i}", f"w{i}"], [f"t{i + 1}"], {"pads": [1] * 4})
        for i in range(layers)
    ]
    for node in nodes:
        ops.complete(node)
    first, last = (TensorSpec(f"t{i}", ("n", 8, "h", "w")) for i in (0, layers))
    data = write_model(None, Graph([first], [last], nodes, constants, name="stress"))
    assert data is not None
    return data


def selection() -> bytes:
    """A model.bin that runs in stages: the elements of x that are not 0, then their sums."""
    nodes = [
        Node("non_zero", "places", ["x"], ["places"]),
        Node("gather", "chosen", ["x", "places"], ["chosen"], {"axis": 0}),
        Node("cumsum", "y", ["chosen", "axis"], ["y"]),
    ]
    for node in nodes:
        ops.complete(node)
    graph = Graph(
        [TensorSpec("x", ("n",))],
        [TensorSpec("y", ())],
        nodes,
        {"axis": np.array(1)},
        name="stages",
    )
    data = write_model(None, graph)
    assert data is not None
    return data


def image(size: int, batch: int = 1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(size).standard_normal((batch, 8, size, size)).astype("f")


def ramp(size: int) -> np.ndarray[Any, Any]:
    return np.arange(size, dtype="f")


def forks(more: Budget) -> str:
    """Forks children beside threads that plan."""
    sys.setswitchinterval(1e-5)
    data = network()
    want = cnnrt.load(data, threads=1)(image(9))
    file = Path(tempfile.mkdtemp()) / "compiled.bin"
    staged = cnnrt.load(selection(), threads=1)

    def work(seed: int) -> None:
        rng = random.Random(seed)
        model = cnnrt.load(data, threads=1 + seed % 2)
        while True:
            model(image(rng.randint(5, 40), rng.randint(1, 3)))
            kind = rng.randrange(12)
            if kind == 0:
                model.trim()
            elif kind == 1:
                model.memory()
            elif kind == 2:
                model.save_compiled(file.with_suffix(f".{seed}"))
                cnnrt.load(file.with_suffix(f".{seed}"), threads=1)(image(7))
            elif kind == 3:
                model = cnnrt.load(data, threads=1 + seed % 2)
            elif kind == 4:
                model.run(image(8), outputs=[f"t{rng.randint(1, 6)}"])
            elif kind < 8:
                staged(ramp(rng.randint(3, 60)))

    for seed in range(4):
        threading.Thread(target=work, args=(seed,), daemon=True).start()
    model = cnnrt.load(data, threads=2)
    model(image(9))
    count = 0
    while more(count):
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(CHILD_SECONDS)
            good = np.array_equal(model(image(9)), want)
            good &= model(image(11, 2)).shape == (2, 8, 11, 11)
            good &= staged(ramp(70 + count % 9)).shape == (1, 69 + count % 9)
            model.trim()
            model.memory()
            if count % 10 == 0:
                good &= np.array_equal(cnnrt.load(data, threads=1)(image(9)), want)
            os._exit(0 if good else 3)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            fail(f"child {count} ended with {status} (-14: it hung)")
        count += 1
    return f"{count} children beside 4 planning threads: none hung"


class Stop(Exception):
    """Raised by the handler."""


def signals(more: Budget) -> str:
    """Raises at random moments of every public method, from a signal handler."""
    data = network(3)
    file = Path(tempfile.mkdtemp()) / "model.bin"
    file.write_bytes(data)
    os.environ["CNNRT_CACHE"] = str(file.parent / "cache")
    model, staged = cnnrt.load(file, threads=1), cnnrt.load(selection(), threads=1)
    model.tune(image(9))  # once, as another algorithm gives other bits
    want, want2, want3 = model(image(9)), model(image(12, 2)), staged(ramp(9))
    rng = random.Random(1)
    compiled = file.with_name("compiled.bin")

    def size() -> int:
        return rng.randint(5, 60)

    ways: list[Callable[[], Any]] = [
        *[lambda: model(image(9))] * 2,
        *[lambda: model.run(image(9))] * 2,
        *[lambda: model(image(size(), rng.randint(1, 3)))] * 4,
        *[lambda: staged(ramp(size()))] * 2,
        lambda: model.run(image(9), outputs=["t2"]),
        model.memory,
        model.trim,
        lambda: model.describe(image(size())),
        lambda: model.summary((1, 8, size(), size())),
        lambda: model.save_compiled(compiled, image(size())),
        lambda: model.tune(image(9)),
        lambda: model.profile((1, 8, 9, 9), seconds=0.001),
        lambda: cnnrt.load(file, threads=2)(image(9)),
        lambda: cnnrt.load(data, threads=1)(image(size())),
    ]

    def stop(number: int, frame: object) -> None:
        raise Stop

    signal.signal(signal.SIGALRM, stop)
    count = rounds = 0
    with Watch() as watch:
        while more(count):
            way = ways[rounds % len(ways)]
            rounds += 1
            try:
                # The first part of the longest call is met as often as all of the shortest.
                signal.setitimer(signal.ITIMER_REAL, 10 ** rng.uniform(-4.7, -1.8))
                for _ in range(50):
                    way()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Stop:
                count += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            watch.beat()
            same = np.array_equal(model(image(9)), want)
            if not (same and np.array_equal(staged(ramp(9)), want3)):
                fail("other bits after an interruption")
            if rounds % 50 == 0:
                if not np.array_equal(model.run(image(12, 2)), want2):
                    fail("other bits after an interruption")
                model.trim()
                if len(model.memory().plans) != 1:
                    fail(f"{len(model.memory().plans)} plans after trim()")
            watch.beat()
    return f"{count} calls of {len(set(ways))} kinds ended by a handler that raised: none hung"


def nested(more: Budget) -> str:
    """Calls the model while it plans, from a handler and a finaliser."""
    data = network(10)
    model, other = cnnrt.load(data, threads=1), cnnrt.load(data, threads=1)
    staged = cnnrt.load(selection(), threads=1)
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        kind = calls % 6
        if kind == 0:
            model.memory()
        elif kind == 1:
            model.trim()
        elif kind == 2:
            model(image(6))
        elif kind == 3:
            other(image(5 + calls % 40))
        elif kind == 4:
            staged(ramp(5 + calls % 40))
        else:
            other.trim()

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            call()

    signal.signal(signal.SIGVTALRM, lambda *_: call())
    gc.set_threshold(300)

    def beside() -> None:  # the same from another thread, the other way round
        while not done.is_set():
            other(image(5 + int(time.monotonic() * 1e3) % 40))
            Cycle()
            time.sleep(0.005)  # a collection calls all that wait

    done = threading.Event()
    thread = threading.Thread(target=beside)
    thread.start()
    rounds = 0
    with Watch() as watch:
        while more(calls):
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.003)
            model(image(5 + rounds % 50))
            staged(ramp(5 + rounds % 50))
            for _ in range(3):
                Cycle()
            rounds += 1
            watch.beat()
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    done.set()
    thread.join()
    return f"{calls} calls from handlers and finalisers within {rounds} plans: none hung"


IMPORTS = """
import os, signal, sys, threading, time
import numpy as np
import cnnrt
data = open(sys.argv[1], "rb").read()
def load():
    assert cnnrt.load(data, threads=1)(np.zeros((1, 8, 9, 9), "f")).shape == (1, 8, 9, 9)
thread = threading.Thread(target=load)
thread.start()
children = []
while thread.is_alive():
    if (child := os.fork()) == 0:
        signal.alarm(30)
        load()
        os._exit(0)
    children.append(child)
    time.sleep(0.02)
print(len(children), sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


def imports(more: Budget) -> str:
    """Forks while another thread imports the modules that an ONNX file needs."""
    from cnnrt.formats.onnx.writer import write_onnx
    from cnnrt.formats.safetensors import read_model

    file = Path(tempfile.mkdtemp()) / "model.onnx"
    write_onnx(file, read_model(network()).graph)
    count = rounds = 0
    while more(count):
        command = [sys.executable, "-c", IMPORTS, str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        children, hung = map(int, done.stdout.split())
        if hung:
            fail(f"{hung} of {children} children hung")
        count += children
        rounds += 1
    return f"{count} children of {rounds} processes forked during their first import: none hung"


class Watch:
    """Ends the process when nothing has happened for `CALL_SECONDS`."""

    def __enter__(self) -> Watch:
        self._last, self._done = time.monotonic(), threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()

    def beat(self) -> None:
        self._last = time.monotonic()

    def _watch(self) -> None:
        while not self._done.wait(1):
            if time.monotonic() - self._last > CALL_SECONDS:
                faulthandler.dump_traceback()
                fail("a call did not come back")


def fail(what: str) -> None:
    print(f"FAILED: {what}", flush=True)
    os._exit(1)


KINDS = {"forks": forks, "signals": signals, "nested": nested, "imports": imports}


def budgets(count: int | None, seconds: float) -> Iterator[Budget]:
    """Budgets, one after the other; each begins when it is taken."""
    while True:
        end = time.monotonic() + seconds

        def more(done: int, end: float = end) -> bool:
            return time.monotonic() < end if count is None else done < count

        yield more


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=(*KINDS, "all"))
    parser.add_argument("--count", type=int, help="of each kind, instead of a time")
    parser.add_argument("--minutes", type=float, default=10, help="in all")
    options = parser.parse_args()
    kinds = list(KINDS) if options.kind == "all" else [options.kind]
    if len(kinds) == 1:
        more = next(budgets(options.count, options.minutes * 60))
        start = time.monotonic()
        print(f"{kinds[0]}: {KINDS[kinds[0]](more)} in {time.monotonic() - start:.0f} s")
        sys.stdout.flush()
        os._exit(0)  # its daemon threads are still at work
    share = ["--minutes", str(options.minutes / len(kinds))]
    amount = ["--count", str(options.count)] if options.count else share
    commands = [[sys.executable, __file__, kind, *amount] for kind in kinds]
    return max(subprocess.run(command, check=False).returncode for command in commands)


if __name__ == "__main__":
    sys.exit(main())
