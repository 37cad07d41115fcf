"""The devices that a client may choose from: there is one, the CPU."""

from __future__ import annotations

import enum
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .devices import CPU_MEMORY, OrtMemoryInfo
from .errors import InvalidArgument, status
from .providers import CPU

VENDORS = {"AuthenticAMD": ("AMD", 0x1022), "GenuineIntel": ("Intel", 0x8086)}
"""Names of makers as Linux has them: those of ONNX Runtime, and their PCI numbers."""


class OrtHardwareDeviceType(enum.IntEnum):
    """Kinds of devices."""

    CPU = 0
    GPU = 1
    NPU = 2


class OrtExecutionProviderDevicePolicy(enum.IntEnum):
    """Preferences by which a session chooses among devices. The CPU meets each of them."""

    DEFAULT = 0
    PREFER_CPU = 1
    PREFER_NPU = 2
    PREFER_GPU = 3
    MAX_PERFORMANCE = 4
    MAX_EFFICIENCY = 5
    MIN_OVERALL_POWER = 6


@dataclass(frozen=True)
class OrtHardwareDevice:
    """A device by its kind and its maker."""

    type: OrtHardwareDeviceType
    vendor: str
    vendor_id: int
    device_id: int = 0
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class OrtEpDevice:
    """A device, and the execution provider that runs on it."""

    ep_name: str
    ep_vendor: str
    device: OrtHardwareDevice
    ep_metadata: dict[str, str]
    ep_options: dict[str, str] = field(default_factory=dict)

    def memory_info(self, _: object = None) -> OrtMemoryInfo:
        """The memory of the device."""
        return CPU_MEMORY

    def create_sync_stream(self, *_: object) -> None:
        """Raises NotImplementedError: a run is over when the call returns."""
        raise NotImplementedError("cnnrt has no streams: a run is over when the call returns")


@functools.cache
def _cpu() -> OrtEpDevice:
    from ... import __version__  # noqa: PLC0415  (found on first use)

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id"))
    vendor, number = VENDORS.get(next(names, ""), ("", 0))
    device = OrtHardwareDevice(OrtHardwareDeviceType.CPU, vendor, number)
    return OrtEpDevice(CPU, "cnnrt", device, {"version": __version__})


def get_ep_devices() -> list[OrtEpDevice]:
    """The devices that sessions can run on: the CPU."""
    return [_cpu()]


def get_hardware_devices() -> list[OrtHardwareDevice]:
    """The devices of the machine that cnnrt knows: the CPU."""
    return [_cpu().device]


def check_devices(devices: Sequence[OrtEpDevice]) -> None:
    """Raises InvalidArgument unless these are one or more devices of `get_ep_devices`."""
    if not devices:
        raise status(InvalidArgument, "Must provide one or more OrtEpDevice instances.")
    for device in devices:
        if device != _cpu():
            raise status(InvalidArgument, f"{device!r} is none of get_ep_devices()")
