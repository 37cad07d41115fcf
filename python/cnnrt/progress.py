"""Progress on a terminal: a bar, if tqdm is installed, or the step that long work is at."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Any, Protocol

from .storage.text import beneath

SHOW_FROM = 5
"""Items from which on a progress bar is worth its line."""


class ProgressBar(Protocol):
    """The part of tqdm that is used."""

    def update(self, n: int) -> Any:
        """Counts n more items as done."""

    def write(self, s: str) -> Any:
        """Prints a line above the bar, on stdout."""

    def __enter__(self) -> ProgressBar: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Any: ...


class _NoBar:
    """Shows nothing."""

    def update(self, n: int) -> None:
        pass

    def write(self, s: str) -> None:
        print(s)

    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def progress_bar(
    total: int | None, unit: str = "image", *, show: bool | None = None
) -> ProgressBar:
    """A bar for `total` items, on stderr.

    Args:
        total: how many items there will be; None: nobody knows.
        unit: what one item is called.
        show: None: for several items, if stderr is a terminal.
    """
    if show is None:
        show = (total is None or total >= SHOW_FROM) and sys.stderr.isatty()
    if not show:
        return _NoBar()
    try:
        from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415
    except ImportError:
        return _NoBar()
    bar: ProgressBar = tqdm(total=total, unit=unit, file=beneath(sys.stderr))
    return bar


class Steps:
    """The step that work of several seconds is at: a line on stderr, which goes away at the end.

    The logger `cnnrt` tells the same at the level INFO.
    """

    def __init__(self, title: str, *, show: bool | None = None) -> None:
        """`show`: None: if stderr is a terminal."""
        self.title = title
        self.stream = sys.stderr
        self.show = self.stream.isatty() if show is None else show
        self.begin = time.monotonic()

    def __call__(self, step: str) -> None:
        """Says what comes now."""
        logging.getLogger("cnnrt").info("%s: %s", self.title, step)
        if self.show:
            seconds = time.monotonic() - self.begin
            self.stream.write(f"\r\x1b[K{self.title}: {step} (after {seconds:.0f} s)")
            self.stream.flush()

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *_: object) -> None:
        if self.show:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
