"""Execution providers: the CPU's is the only one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

CPU = "CPUExecutionProvider"
"""The name that a session reports for cnnrt's kernels."""
KNOWN = (
    "TensorrtExecutionProvider",
    "CUDAExecutionProvider",
    "MIGraphXExecutionProvider",
    "OpenVINOExecutionProvider",
    "DnnlExecutionProvider",
    "VitisAIExecutionProvider",
    "QNNExecutionProvider",
    "NnapiExecutionProvider",
    "VSINPUExecutionProvider",
    "JsExecutionProvider",
    "CoreMLExecutionProvider",
    "DmlExecutionProvider",
    "RknpuExecutionProvider",
    "WebNNExecutionProvider",
    "WebGpuExecutionProvider",
    "XnnpackExecutionProvider",
    "CANNExecutionProvider",
    "AzureExecutionProvider",
    CPU,
)
"""Names that clients pass on whether or not the build at hand has them."""


def get_available_providers() -> list[str]:
    """The providers that a session can use."""
    return [CPU]


def get_all_providers() -> list[str]:
    """The providers that ONNX Runtime knows, best first; `get_available_providers` has cnnrt's."""
    return list(KNOWN)


def get_device() -> str:
    """The kind of device that sessions run on."""
    return "CPU"


def check_and_normalize_provider_args(
    providers: Sequence[str | tuple[str, dict[Any, Any]]] | str | None,
    provider_options: Sequence[dict[Any, Any]] | None,
    available_provider_names: Sequence[str],
) -> tuple[list[str], list[dict[str, str]]]:
    """Names and options of the providers that a client asks for, each once.

    Args:
        providers: names, or pairs of name and options.
        provider_options: options by provider, if `providers` are names alone.
        available_provider_names: those that cause no warning.

    Raises:
        ValueError: the arguments are not sequences of names, or of names and dicts.
    """
    if isinstance(providers, str):
        providers = [providers]
    if providers is None:
        return [], []
    if not isinstance(providers, Sequence):
        raise ValueError("'providers' should be a sequence.")
    if provider_options is not None:
        if not isinstance(provider_options, Sequence) or len(provider_options) != len(providers):
            raise ValueError(
                "'providers' and 'provider_options' should be sequences of the same length"
            )
        if not all(isinstance(p, str) for p in providers):
            raise ValueError("'providers' are names if 'provider_options' are given")
        if not all(isinstance(o, dict) for o in provider_options):
            raise ValueError("'provider_options' values must be dicts.")
        pairs: list[Any] = list(zip(providers, provider_options, strict=True))
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
        if name in found:
            warnings.warn(f"Duplicate provider '{name}' encountered, ignoring.", stacklevel=5)
            continue
        if name not in available_provider_names:
            warnings.warn(
                f"Specified provider '{name}' is not in available provider names. "
                f"Available providers: '{', '.join(available_provider_names)}'",
                UserWarning,
                stacklevel=5,
            )
        found[name] = {str(key): str(value) for key, value in given.items()}
    return list(found), list(found.values())


def chosen(
    providers: Sequence[str | tuple[str, dict[Any, Any]]] | str | None,
    options: Sequence[dict[Any, Any]] | None,
    *,
    strict: bool = False,
) -> dict[str, dict[str, str]]:
    """The providers of a session with their options, from the arguments that a client gave.

    Providers other than the CPU's are skipped with a warning, as ONNX Runtime does with those that
    its build lacks.

    Args:
        providers, options: see `check_and_normalize_provider_args`.
        strict: refuses names that no build of ONNX Runtime knows.

    Raises:
        ValueError: the arguments are not sequences of names, or of names and dicts.
        RuntimeError: a name is unknown, and `strict` is true.
    """
    names, given = check_and_normalize_provider_args(providers, options, [CPU])
    for name in names:
        if strict and name not in KNOWN:
            raise RuntimeError(f"Unknown Provider Type: {name}")
    found = {name: o for name, o in zip(names, given, strict=True) if name == CPU}
    return found or {CPU: {}}
