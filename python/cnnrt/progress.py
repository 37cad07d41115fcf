"""A progress bar on a terminal, where tqdm is installed."""

from __future__ import annotations

import sys
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


def progress_bar(total: int, unit: str = "image", *, show: bool | None = None) -> ProgressBar:
    """A bar for `total` items, on stderr.

    Args:
        total: how many items there will be.
        unit: what one item is called.
        show: None: for several items, if stderr is a terminal.
    """
    if show is None:
        show = total >= SHOW_FROM and sys.stderr.isatty()
    if not show:
        return _NoBar()
    try:
        from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415
    except ImportError:
        return _NoBar()
    bar: ProgressBar = tqdm(total=total, unit=unit, file=beneath(sys.stderr))
    return bar
