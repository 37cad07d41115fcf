"""Masks as COCO's run-length codes: the lengths of the runs of 0 and 1, column by column.

A length is written in digits of five bits from the lowest on. From the fourth length on it is the
difference to the length two before. A digit has a sixth bit if another one follows, and 48 is added
to make it a printable character. This is how pycocotools stores a mask as text.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from ..graph import Array

DIGIT, MORE, SIGN, FIRST = 0x1F, 0x20, 0x10, 48
"""The five bits of a digit, the bit that another follows, the sign's bit, the first character."""


def runs(mask: Array) -> list[int]:
    """The lengths of the runs of a bool mask (H, W) in columns; the first run is one of zeros."""
    flat = np.asarray(mask, bool).T.reshape(-1)
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = [0, *ends.tolist(), flat.size]
    lengths = [b - a for a, b in pairwise(bounds)]
    return [0, *lengths] if flat.size and flat[0] else lengths


def encode(mask: Array) -> dict[str, Any]:
    """The code of a bool mask (H, W): `size` (H, W) and the text `counts`, as pycocotools has
    them."""
    lengths = runs(mask)
    text = []
    for i, length in enumerate(lengths):
        value = length - lengths[i - 2] if i > 2 else length
        more = True
        while more:
            digit = value & DIGIT
            value >>= 5
            more = value != (-1 if digit & SIGN else 0)
            text.append(chr((digit | MORE if more else digit) + FIRST))
    return {"size": list(mask.shape), "counts": "".join(text)}
