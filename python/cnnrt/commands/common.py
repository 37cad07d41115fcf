"""What several commands share: kinds of arguments, and how an error is printed."""

from __future__ import annotations

import argparse
import sys
from fractions import Fraction


def count(text: str) -> int:
    """An argument that is a whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def number(text: str) -> float:
    """An argument such as 0.5 or 1/255."""
    try:
        return float(Fraction(text))
    except (ValueError, ArithmeticError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number or fraction") from None


def complain(error: Exception) -> None:
    """Prints an error as one line on stderr."""
    reason = getattr(error, "strerror", None)
    name = getattr(error, "filename", None)
    print(f"cnnrt: error: {f'{name}: {reason}' if reason and name else error}", file=sys.stderr)
