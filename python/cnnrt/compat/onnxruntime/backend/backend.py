"""Sessions by the interface of `onnx.backend.base.Backend`."""

from __future__ import annotations

from typing import Any, NoReturn

from onnx.backend.base import Backend

from ..options import SessionOptions
from ..providers import get_device
from ..session import InferenceSession
from .backend_rep import OnnxRuntimeBackendRep, with_attributes

ALLOWED = frozenset(
    {
        "enable_cpu_mem_arena",
        "enable_mem_pattern",
        "enable_mem_reuse",
        "execution_mode",
        "execution_order",
        "graph_optimization_level",
        "inter_op_num_threads",
        "intra_op_num_threads",
        "log_severity_level",
        "log_verbosity_level",
        "logid",
        "use_deterministic_compute",
        "use_per_session_threads",
    }
)
"""Options of a session that a caller of the backend may set: those that write no files."""


class OnnxRuntimeBackend(Backend):  # type: ignore[misc,unused-ignore]
    """Makes sessions of models."""

    @classmethod
    def is_compatible(cls, model: Any, device: str | None = None, **_: Any) -> bool:
        """True if a model can run on the device; the model itself is not looked at."""
        del model
        return cls.supports_device(device or get_device())

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """True for "CPU"."""
        return device == get_device()

    @classmethod
    def prepare(cls, model: Any, device: str | None = None, **kwargs: Any) -> OnnxRuntimeBackendRep:
        """A model that is ready to run.

        Args:
            model: a path, bytes, an onnx.ModelProto, an `InferenceSession` or what this returns.
            device: "CPU" or None.
            kwargs: attributes of `SessionOptions`; unknown names are skipped.

        Raises:
            RuntimeError: another device, or an attribute that may not be set here.
        """
        if device is not None and not cls.supports_device(device):
            raise RuntimeError(f"Incompatible device expected '{device}', got '{get_device()}'")
        if isinstance(model, OnnxRuntimeBackendRep):
            return model
        if isinstance(model, InferenceSession):
            return OnnxRuntimeBackendRep(model)
        if hasattr(model, "SerializeToString"):
            model = model.SerializeToString()
        options = with_attributes(SessionOptions(), kwargs, ALLOWED)
        return OnnxRuntimeBackendRep(InferenceSession(model, options))

    @classmethod
    def run_model(cls, model: Any, inputs: Any, device: str | None = None, **kwargs: Any) -> Any:
        """Prepares a model and runs it once; see `prepare` and `OnnxRuntimeBackendRep.run`."""
        return cls.prepare(model, device, **kwargs).run(inputs, **kwargs)

    @classmethod
    def run_node(cls, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("single nodes are not run; make a model of the node")


is_compatible = OnnxRuntimeBackend.is_compatible
prepare = OnnxRuntimeBackend.prepare
run = OnnxRuntimeBackend.run_model
supports_device = OnnxRuntimeBackend.supports_device
