"""The locks under everything: calls from within, forks, and what is put off."""

from __future__ import annotations

import ast
import os
import re
import threading
from pathlib import Path

import pytest

import cnnrt
from cnnrt.process.locks import Lock, cached_property, nested, when_free


def test_one_thread_at_a_time() -> None:
    lock, inside, most = Lock(), [], []

    def work() -> None:
        inside.append(True)
        most.append(len(inside))
        threading.Event().wait(0.005)
        inside.pop()

    threads = [threading.Thread(target=lock.run, args=(work,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6


def test_a_call_from_within_does_not_wait() -> None:
    lock, other, seen = Lock(), Lock(), []

    def outer() -> None:
        assert nested()
        lock.run(lambda: seen.append("inner"))
        other.run(lambda: seen.append("other"))
        assert nested()
        when_free(lambda: seen.append(f"later, nested: {nested()}"))
        seen.append("outer")

    lock.run(outer)
    assert seen == ["inner", "other", "outer", "later, nested: False"]
    assert not nested()
    when_free(lambda: seen.append("at once"))
    assert seen[-1] == "at once"


def test_two_threads_that_are_inside_call_each_others() -> None:
    """Models do so if their finalisers call one another."""
    one, two, both = Lock(), Lock(), threading.Barrier(2, timeout=10)
    calls: list[str] = []

    def work(mine: Lock, others: Lock) -> None:
        def inside() -> None:
            both.wait()
            others.run(lambda: calls.append("done"))

        mine.run(inside)

    thread = threading.Thread(target=work, args=(two, one), daemon=True)
    thread.start()
    work(one, two)
    thread.join(10)
    assert calls == ["done", "done"]


def test_an_error_opens_the_lock() -> None:
    lock, later = Lock(), []

    def fails() -> None:
        when_free(lambda: later.append(True))
        raise KeyError

    with pytest.raises(KeyError):
        lock.run(fails)
    assert later == [True]
    assert lock.run(lambda: 3) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python's, of all forks
def test_a_child_finds_the_lock_open() -> None:
    lock, entered, leave = Lock(), threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        leave.wait(30)

    thread = threading.Thread(target=lock.run, args=(hold,))
    thread.start()
    entered.wait()
    child = os.fork()
    if child == 0:
        os._exit(lock.run(lambda: 7))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    leave.set()
    thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_from_within() -> None:
    """The child goes on inside, and its next call takes a lock of its own."""
    lock = Lock()

    def work() -> None:
        child = os.fork()
        if child == 0:
            os._exit(lock.run(lambda: 5) if not nested() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5

    lock.run(work)


def test_cached_property() -> None:
    class Circle:
        def __init__(self) -> None:
            self.asked = 0

        @cached_property
        def area(self) -> int:
            self.asked += 1
            return 7

    circle = Circle()
    assert (circle.area, circle.area, circle.asked) == (7, 7, 1)
    assert isinstance(Circle.area, cached_property)


def test_nothing_takes_the_lock_of_functools() -> None:
    """Before Python 3.12 a child hangs in it if a thread of its parent held it."""
    sources = Path(cnnrt.__file__).parent.rglob("*.py")
    pattern = re.compile(r"functools(\.| import .*)cached_property(?!` )")
    found = [str(p) for p in sources if p.name != "locks.py" and pattern.search(p.read_text())]
    assert found == []


def imports_without_lock(node: ast.AST, *, called: bool = False) -> list[int]:
    """Lines of imports that a call runs, and not within `with importing`."""
    found = []
    for child in ast.iter_child_nodes(node):
        held = isinstance(child, ast.With) and any(
            ast.unparse(item.context_expr).endswith("importing") for item in child.items
        )
        if held:
            continue
        if called and isinstance(child, (ast.Import, ast.ImportFrom)):
            found.append(child.lineno)
        inside = called or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
        found += imports_without_lock(child, called=inside)
    return found


def test_imports_on_demand_hold_off_forks() -> None:
    """Wherever a model is loaded, planned, packed, run or saved."""
    root = Path(cnnrt.__file__).parent
    rooms = "analysis graph.py lowering passes planning process storage weights __init__.py"
    paths = [root / room for room in rooms.split()] + list((root / "formats").glob("*.py"))
    files = [f for path in paths for f in ([path] if path.suffix else path.rglob("*.py"))]
    found = [
        f"{file.relative_to(root)}:{line}"
        for file in files
        if file.name != "torch_exporter.py"  # PyTorch is imported already
        for line in imports_without_lock(ast.parse(file.read_text()))
    ]
    assert len(files) > 50
    # The version is a name of a package that is imported already.
    assert [f for f in found if not f.startswith("formats/safetensors.py")] == []
