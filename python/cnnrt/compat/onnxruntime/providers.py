"""Execution providers: the CPU's is the only one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

CPU = "CPUExecutionProvider"
"""The name that a session reports for cnnrt's kernels."""


def get_available_providers() -> list[str]:
    """The providers that a session can use."""
    return [CPU]


def get_all_providers() -> list[str]:
    """The providers that this build knows, best first."""
    return [CPU]


def get_device() -> str:
    """The kind of device that sessions run on."""
    return "CPU"


def get_ep_devices() -> list[Any]:
    """Devices of plugin providers: there are none."""
    return []


def chosen(
    providers: Sequence[str | tuple[str, dict[Any, Any]]] | str | None,
    options: Sequence[dict[Any, Any]] | None,
) -> dict[str, dict[str, str]]:
    """The providers of a session with their options, from the arguments that a client gave.

    Providers other than the CPU's are skipped with a warning, as ONNX Runtime does with those that
    its build lacks.

    Raises:
        ValueError: the arguments are not sequences of names, or of names and dicts.
    """
    if isinstance(providers, str):
        providers = [providers]
    if providers is None:
        providers = []
    if not isinstance(providers, Sequence):
        raise ValueError("'providers' should be a sequence.")
    if options is not None:
        if not isinstance(options, Sequence) or len(options) != len(providers):
            raise ValueError(
                "'providers' and 'provider_options' should be sequences of the same length"
            )
        if not all(isinstance(p, str) for p in providers):
            raise ValueError("'providers' are names if 'provider_options' are given")
        if not all(isinstance(o, dict) for o in options):
            raise ValueError("'provider_options' values must be dicts.")
        pairs: list[Any] = list(zip(providers, options, strict=True))
    else:
        pairs = [(p, {}) if isinstance(p, str) else p for p in providers]
    found: dict[str, dict[str, str]] = {}
    for pair in pairs:
        match pair:
            case (str(name), dict(given)):
                pass
            case _:
                raise ValueError(
                    "'providers' values must be either strings or (string, dict) tuples."
                )
        if name != CPU:
            warnings.warn(
                f"Specified provider '{name}' is not in available provider names. "
                f"Available providers: '{CPU}'",
                UserWarning,
                stacklevel=4,
            )
        elif name in found:
            warnings.warn(f"Duplicate provider '{name}' encountered, ignoring.", stacklevel=4)
        else:
            found[name] = {str(key): str(value) for key, value in given.items()}
    return found or {CPU: {}}
