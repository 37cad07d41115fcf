"""Devices and their memory, as clients name them. All memory of cnnrt is the CPU's."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from .errors import InvalidArgument, status


class OrtDeviceVendorId(enum.IntEnum):
    """PCI numbers of the makers of devices."""

    NONE = 0
    AMD = 0x1002
    NVIDIA = 0x10DE
    ARM = 0x13B5
    MICROSOFT = 0x1414
    HUAWEI = 0x19E5
    QUALCOMM = 0x5143
    INTEL = 0x8086


class OrtAllocatorType(enum.IntEnum):
    """Kinds of allocators."""

    INVALID = -1
    ORT_DEVICE_ALLOCATOR = 0
    ORT_ARENA_ALLOCATOR = 1


class ArenaExtendStrategy(enum.IntEnum):
    """Ways in which an arena grows; see `OrtArenaCfg`."""

    kNextPowerOfTwo = 0  # noqa: N815  (ONNX Runtime's names)
    kSameAsRequested = 1  # noqa: N815


class OrtMemType(enum.IntEnum):
    """Kinds of memory."""

    CPU_INPUT = -2
    CPU_OUTPUT = -1
    CPU = -1
    DEFAULT = 0


class OrtDeviceMemoryType(enum.IntEnum):
    """Kinds of memory of a device."""

    DEFAULT = 0
    HOST_ACCESSIBLE = 5


class OrtMemoryInfoDeviceType(enum.IntEnum):
    """Kinds of devices that have memory."""

    CPU = 0
    GPU = 1
    FPGA = 2
    NPU = 3


_KINDS = {"cpu": 0, "gpu": 1, "cuda": 1, "dml": 1, "webgpu": 1, "npu": 3, "cann": 3}
_VENDORS = {
    "cuda": OrtDeviceVendorId.NVIDIA,
    "dml": OrtDeviceVendorId.MICROSOFT,
    "cann": OrtDeviceVendorId.HUAWEI,
}


class OrtDevice:
    """A device by the numbers of its kind, its memory, itself and its maker.

    Any device can be named, and memory be had on the CPU alone.
    """

    def __init__(self, device_type: int, mem_type: int, *numbers: int) -> None:
        """
        Args:
            device_type: the kind.
            mem_type: the kind of memory.
            numbers: that of the device; or that of its maker, and that of the device.
        """
        self._type, self._memory = int(device_type), int(mem_type)
        if not 1 <= len(numbers) <= 2:
            raise TypeError("OrtDevice takes three or four numbers")
        self._vendor, self._id = map(int, (0, *numbers)[-2:])

    @staticmethod
    def make(ort_device_name: str, device_id: int, vendor_id: int = -1) -> OrtDevice:
        """The device of this name; see `OrtDevice.cpu` for the kinds.

        Args:
            ort_device_name: such as "cpu" or "cuda".
            device_id: the number of the device among those of its kind.
            vendor_id: PCI number of its maker; negative: that of the name, or none.

        Raises:
            InvalidArgument: there is no device of this name.
        """
        name = ort_device_name
        if name not in _KINDS:
            raise status(InvalidArgument, f"Unsupported device type: {name}")
        vendor = _VENDORS.get(name, OrtDeviceVendorId.NONE) if vendor_id < 0 else vendor_id
        return OrtDevice(_KINDS[name], 0, vendor, device_id)

    @staticmethod
    def cpu() -> int:
        """The kind of the CPU."""
        return 0

    @staticmethod
    def cuda() -> int:
        """The kind of GPUs by CUDA."""
        return 1

    @staticmethod
    def dml() -> int:
        """The kind of GPUs by DirectML."""
        return 4

    @staticmethod
    def gpu() -> int:
        """The kind of any GPU."""
        return 1

    @staticmethod
    def webgpu() -> int:
        """The kind of GPUs by WebGPU."""
        return 1

    @staticmethod
    def fpga() -> int:
        """The kind of programmable gates."""
        return 2

    @staticmethod
    def npu() -> int:
        """The kind of neural processors."""
        return 3

    @staticmethod
    def cann() -> int:
        """The kind of neural processors by CANN."""
        return 3

    @staticmethod
    def default_memory() -> int:
        """The usual memory of a device."""
        return 0

    def device_type(self) -> int:
        return self._type

    def device_id(self) -> int:
        return self._id

    def device_mem_type(self) -> int:
        return self._memory

    def device_vendor_id(self) -> int:
        return self._vendor

    def mem_type(self) -> int:
        return self._memory

    def vendor_id(self) -> int:
        return self._vendor


def check_device(device: str | OrtDevice) -> None:
    """Raises InvalidArgument unless the device is the CPU."""
    if isinstance(device, OrtDevice):
        here, name = device.device_type() == OrtDevice.cpu(), f"number {device.device_type()}"
    else:
        here, name = str(device).lower() in ("cpu", "default"), repr(device)
    if not here:
        raise status(InvalidArgument, f"cnnrt has memory on the device 'cpu' alone, not on {name}")


_MEMORIES = {
    "Cpu": ("Cpu", 0, 0),
    "Cuda": ("Cuda", 0, OrtDeviceVendorId.NVIDIA),
    "CudaPinned": ("CudaPinned", 5, OrtDeviceVendorId.NVIDIA),
    "DML": ("DML", 0, OrtDeviceVendorId.MICROSOFT),
    "Hip": ("Hip", 0, OrtDeviceVendorId.AMD),
    "HipPinned": ("HipPinned", 5, OrtDeviceVendorId.AMD),
    "OpenVINO_GPU": ("OpenVINO_GPU", 0, OrtDeviceVendorId.INTEL),
    "OpenVINO_RT_NPU": ("OpenVINO_RT_NPU", 0, OrtDeviceVendorId.INTEL),
    "QnnHtpShared": ("QnnHtpShared", 5, OrtDeviceVendorId.QUALCOMM),
    "WebGPU_Buffer": ("WebGPU_Buf", 0, 0),
    "WebGPU_Buf": ("WebGPU_Buf", 0, 0),
    "WebNN_Tensor": ("WebNN_Ten", 0, 0),
    "WebNN_Ten": ("WebNN_Ten", 0, 0),
}
"""Names of memories: the name that is kept, the kind of memory, and the maker."""


class OrtMemoryInfo:
    """A kind of memory on a device. Any can be described; cnnrt has that of the CPU."""

    def __init__(
        self, name: str, allocator_type: OrtAllocatorType, device_id: int, mem_type: OrtMemType
    ) -> None:
        """Describes a memory that ONNX Runtime has a name for.

        Raises:
            RuntimeError: it has none.
        """
        if name not in _MEMORIES:
            raise RuntimeError("Specified device is not supported. Try CreateMemoryInfo_V2.")
        self.name, memory, vendor = _MEMORIES[name]
        self.allocator_type = OrtAllocatorType(allocator_type)
        self.device_id = 0 if name == "Cpu" else int(device_id)
        self.mem_type = OrtMemType(mem_type)
        self.device_mem_type = OrtDeviceMemoryType(memory)
        self.device_vendor_id = int(vendor)

    @staticmethod
    def create_v2(
        name: str,
        device_type: OrtMemoryInfoDeviceType,
        vendor_id: int,
        device_id: int,
        mem_type: OrtDeviceMemoryType,
        alignment: int,
        allocator_type: OrtAllocatorType,
    ) -> OrtMemoryInfo:
        """A description of the memory of any device, with all that can be said."""
        del device_type, alignment
        made = OrtMemoryInfo("Cpu", allocator_type, 0, OrtMemType.DEFAULT)
        made.name, made.device_id, made.device_vendor_id = name, int(device_id), int(vendor_id)
        made.device_mem_type = OrtDeviceMemoryType(mem_type)
        if made.device_mem_type == OrtDeviceMemoryType.HOST_ACCESSIBLE:
            made.mem_type = OrtMemType.CPU_OUTPUT
        return made


CPU_MEMORY = OrtMemoryInfo(
    "Cpu", OrtAllocatorType.ORT_DEVICE_ALLOCATOR, 0, OrtMemType.DEFAULT
)  # the memory of every input and output


@dataclass(init=False)
class OrtArenaCfg:
    """Sizes of an arena; -1 is the default. They are kept and change nothing in cnnrt.

    A cnnrt model has the memory that its plans need, see `cnnrt.Model.memory`.
    """

    max_mem: int = -1
    arena_extend_strategy: int = -1
    initial_chunk_size_bytes: int = -1
    max_dead_bytes_per_chunk: int = -1
    initial_growth_chunk_size_bytes: int = -1
    max_power_of_two_extend_bytes: int = -1

    def __init__(self, *sizes: Any) -> None:
        """Takes the first four numbers in order, or a dict by name.

        Raises:
            RuntimeError: a name is unknown.
            TypeError: there are neither four numbers nor one dict.
        """
        names = [field.name for field in fields(self)]
        if len(sizes) == 1 and isinstance(sizes[0], Mapping):
            given = dict(sizes[0])
        elif len(sizes) == 4:
            given = dict(zip(names, sizes, strict=False))
        else:
            raise TypeError("OrtArenaCfg takes four numbers, or one dict")
        for name, value in given.items():
            if name not in names:
                raise RuntimeError(f"Invalid OrtArenaCfg option: {name}")
            setattr(self, name, int(value))


def create_and_register_allocator(
    memory_info: OrtMemoryInfo, arena_cfg: OrtArenaCfg | None = None
) -> None:
    """Takes an allocator of the CPU and changes nothing: plans share the memory of a model.

    Raises:
        RuntimeError: the memory is another device's.
    """
    del arena_cfg
    if memory_info.name.lower() != "cpu":
        raise RuntimeError(
            "Error when creating and registering allocator: cnnrt has memory on the device 'Cpu' "
            f"alone, not on {memory_info.name!r}"
        )


def create_and_register_allocator_v2(
    provider_type: str,
    memory_info: OrtMemoryInfo,
    provider_options: Mapping[str, str] | None = None,
    arena_cfg: OrtArenaCfg | None = None,
) -> None:
    """As `create_and_register_allocator`, by the name of a provider."""
    del provider_options
    if provider_type != "CPUExecutionProvider":
        raise RuntimeError(f"{provider_type} is not supported; cnnrt has CPUExecutionProvider")
    create_and_register_allocator(memory_info, arena_cfg)
