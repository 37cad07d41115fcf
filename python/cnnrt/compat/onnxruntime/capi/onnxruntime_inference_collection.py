"""Sessions and values by the module that onnxruntime defines them in."""

from ..binding import IOBinding
from ..devices import OrtDevice, OrtDeviceVendorId
from ..providers import check_and_normalize_provider_args
from ..session import InferenceSession
from ..values import OrtValue

Session = InferenceSession

__all__ = [
    "IOBinding",
    "InferenceSession",
    "OrtDevice",
    "OrtDeviceVendorId",
    "OrtValue",
    "Session",
    "check_and_normalize_provider_args",
]
