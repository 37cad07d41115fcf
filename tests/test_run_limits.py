"""Limits of a run behind the first stage of its plan: loops without end, values that grow."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

import cnnrt  # noqa: E402
from cnnrt.errors import CnnrtError  # noqa: E402
from cnnrt.process import limits  # noqa: E402
from scripts import environment  # noqa: E402

HEAD = '<ir_version: 10, opset_import: ["": 21]> '
LOOP = """g (float[n] x) => (float[m] y) {
    t = Constant <value = bool {1}> ()
    o = Constant <value = float[1] {1}> ()
    y = Loop <body = b (int64 i, bool c, float[k] v) => (bool d, float[k] w) {
        d = Identity (c)
        BODY }> ("", t, x) }"""
GROWING = """g (float[n] x) => (float[m] y) {
    s = ReduceSum <keepdims = 1> (x)
    f = Constant <value = float[1] {1e7}> ()
    p = Mul (s, f)
    c = Cast <to = 7> (p)
    o = Constant <value = float[1] {1}> ()
    e = Expand (o, c)
    BODY }"""
HOSTILE = {
    "endless": LOOP.replace("BODY", "w = Add (v, v)"),
    "endless without a node": LOOP.replace("BODY", "w = Identity (v)"),
    "endless in an endless one": LOOP.replace(
        "BODY",
        """w = Loop <body = b2 (int64 i2, bool c2, float[k] v2) => (bool d2, float[k] w2) {
            d2 = Identity (c2)
            w2 = Add (v2, v2) }> ("", c, v)""",
    ),
    "one more element each time": LOOP.replace("BODY", "w = Concat <axis = 0> (v, o)"),
    "twice as much each time": LOOP.replace("BODY", "w = Concat <axis = 0> (v, v)"),
    "stacked without end": LOOP.replace("=> (float[m] y)", "=> (float[m] y, float[q, n] z)")
    .replace("y = Loop", "y, z = Loop")
    .replace("(bool d, float[k] w)", "(bool d, float[k] w, float[k] u)")
    .replace("BODY", "w = Add (v, v)\n u = Expand (w, large)")
    .replace("d = Identity", "large = Constant <value_ints = [1000, 2]> ()\n d = Identity"),
    "a sequence without end": """g (float[n] x) => (float[m] y) {
        t = Constant <value = bool {1}> ()
        e = SequenceEmpty ()
        s = Loop <body = b (int64 i, bool c, seq(float[k]) v) => (bool d, seq(float[k]) w) {
            d = Identity (c)
            w = SequenceInsert (v, x) }> ("", t, e)
        y = ConcatFromSequence <axis = 0> (s) }""",
    "places of places": "g (float[n] x) => (int64[a, b] y) {\n"
    + "o = Constant <value = int64 {1}> ()\n a0 = NonZero (x)\n"
    + "\n".join(f"c{i} = Add (a{i}, o)\n a{i + 1} = NonZero (c{i})" for i in range(40))
    + "\n y = Identity (a40) }",
    "a range": GROWING.replace(
        "BODY",
        """z = Constant <value = float {0}> ()
        i = Constant <value = float {0.01}> ()
        q = Squeeze (p)
        r = Range (z, q, i)
        y = ReduceSum (r)""",
    ),
    "ten million arrays": GROWING.replace(
        "BODY", "q = SplitToSequence (e)\n y = ConcatFromSequence <axis = 0> (q)"
    ),
    "all pairs of boxes": GROWING.replace("1e7", "1e6").replace(
        "BODY",
        """k = Constant <value = int64[1] {4}> ()
        i = Constant <value = int64[1] {1}> ()
        bs = Concat <axis = 0> (i, c, k)
        ss = Concat <axis = 0> (i, i, c)
        most = Constant <value = int64 {1000000}> ()
        b = Expand (s, bs)
        sc = Expand (s, ss)
        y = NonMaxSuppression (b, sc, most)""",
    ),
}


def data_of(text: str) -> bytes:
    return bytes(onnx.parser.parse_model(HEAD + text).SerializeToString())


@pytest.fixture(autouse=True)
def automatic() -> Iterator[None]:
    yield
    cnnrt.set_work_limit(None)
    cnnrt.set_memory_limit(None)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_small_file_ends_soon_and_stays_small(name: str) -> None:
    """In a process of its own, as the peak of memory is that of all tests before."""
    done = subprocess.run(
        [sys.executable, __file__, name],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    seconds, megabytes, error = done.stdout.split(maxsplit=2)
    assert float(seconds) < 60, done.stdout  # an endless loop ends: not a measurement
    assert float(megabytes) < 500, done.stdout
    assert error.startswith(("WorkLimitError", "MemoryLimitError")), error


def attack(name: str) -> None:
    """Prints what a run took: seconds of the CPU, megabytes, and how it ended."""
    model = cnnrt.load(data_of(HOSTILE[name]), threads=1)
    start = time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        model(np.ones(2, np.float32))
        text = "no error"
    except CnnrtError as error:
        text = f"{type(error).__name__}: {error}"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{time.process_time() - start:.2f} {grown:.0f} {text}")


COUNTING = (
    LOOP.replace("BODY", "w = Add (v, o)")
    .replace('("", t, x)', "(n, t, x)")
    .replace("g (float[n] x)", "g (float[n] x, int64 n)")
)


def test_the_limit_of_work_is_the_callers_to_set() -> None:
    model = cnnrt.load(data_of(COUNTING), threads=1)
    x = np.zeros(3, np.float32)
    assert model.run({"x": x, "n": np.array(1000)}).tolist() == [1000] * 3
    cnnrt.set_work_limit(0.005)
    with pytest.raises(cnnrt.WorkLimitError, match=r"'y' \(loop\).*0.0 s.*set_work_limit"):
        model.run({"x": x, "n": np.array(1000)})
    assert model.run({"x": x, "n": np.array(10)}).tolist() == [10] * 3
    cnnrt.set_work_limit(1000)
    assert model.run({"x": x, "n": np.array(1000)}).tolist() == [1000] * 3
    with pytest.raises(ValueError, match="above 0"):
        cnnrt.set_work_limit(0)


def test_more_may_be_done_for_more_bytes() -> None:
    assert limits.work_limit(0) == limits.WORK_FLOOR
    assert limits.work_limit(10**6) == limits.WORK_FLOOR + 10**6 * limits.WORK_FACTOR


def test_an_interrupted_loop_leaves_the_model_usable() -> None:
    model = cnnrt.load(data_of(COUNTING), threads=1)
    cnnrt.set_work_limit(1e9)
    x = np.zeros(3, np.float32)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            model.run({"x": x, "n": np.array(10**15)})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert model.run({"x": x, "n": np.array(7)}).tolist() == [7] * 3


def test_values_that_pass_through_are_counted_once() -> None:
    """Sixty sequences of one large array each, every one with one more, are that array."""
    lines = ["s0 = SequenceEmpty ()"]
    lines += [f"s{i + 1} = SequenceInsert (s{i}, x)" for i in range(60)]
    text = f"""g (float[n] x) => (float[m] y) {{
        {"; ".join(lines).replace("; ", chr(10))}
        z = Constant <value = int64 {{59}}> ()
        y = SequenceAt (s60, z) }}"""
    cnnrt.set_memory_limit(16 << 20)
    x = np.ones(1 << 20, np.float32)
    assert np.array_equal(cnnrt.load(data_of(text))(x), x)


if __name__ == "__main__":
    attack(sys.argv[1])
