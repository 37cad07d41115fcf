"""Sessions and values by the module that onnxruntime defines them in."""

from ..binding import IOBinding
from ..session import InferenceSession
from ..values import OrtDevice, OrtDeviceVendorId, OrtValue

Session = InferenceSession

__all__ = [
    "IOBinding",
    "InferenceSession",
    "OrtDevice",
    "OrtDeviceVendorId",
    "OrtValue",
    "Session",
]
