"""The outputs of each family of networks as candidates: one module for each."""

from __future__ import annotations

from collections.abc import Callable

from ... import import_on_demand
from ..boxes import Candidates
from .outputs import Outputs

Decoder = Callable[[Outputs], Candidates]


def decoder(family: str) -> Decoder:
    """The function that reads the outputs of a family for one picture.

    It raises `ShapeError` if they are not of that family.
    """
    module = import_on_demand(f".tasks.decode.{family}")  # each only once it is needed
    decode: Decoder = module.decode
    return decode
