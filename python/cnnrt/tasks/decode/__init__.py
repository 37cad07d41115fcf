"""The outputs of each family of networks as candidates: one module for each."""

from __future__ import annotations

from collections.abc import Callable

from ...process.locks import importing
from ..boxes import Candidates
from .outputs import Outputs

Decoder = Callable[[Outputs], Candidates]


def decoder(family: str) -> Decoder:
    """The function that reads the outputs of a family for one picture.

    It raises `ShapeError` if they are not of that family.
    """
    with importing:  # each module, only once it is needed
        if family == "yolo":
            from .yolo import decode  # noqa: PLC0415
        else:
            raise KeyError(family)
    return decode
