"""Turns pictures into the array that a network takes, and finds the numbers for that."""

from __future__ import annotations

from .presets import PRESETS
from .steps import CHANNELS, INTERPOLATIONS, Preprocessing

__all__ = ["CHANNELS", "INTERPOLATIONS", "PRESETS", "Preprocessing"]
