"""The table of what images of each class were taken for."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Array

WIDEST = 20
"""Maximum number of classes for which it is printed."""


def confusion_lines(confusion: Array, labels: Sequence[str]) -> list[str]:
    """A row per class, with a column for each class that its images were taken for."""
    wide = max(map(len, labels))
    cell = max(len(str(confusion.max())), len(str(len(labels)))) + 1
    numbers = "".join(f"{i + 1:>{cell}}" for i in range(len(labels)))
    rows = [f"{'taken for':>{wide + cell + 1}} {numbers}"]
    for i, (label, row) in enumerate(zip(labels, confusion, strict=True)):
        counts = "".join(f"{n or '.':>{cell}}" for n in row)
        rows.append(f"{label:>{wide}} {i + 1:>{cell}} {counts}")
    return rows
