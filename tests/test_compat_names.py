"""Every name of onnxruntime that a survey of its clients found, called in both libraries.

The clients: rembg, insightface, rapidocr, nudenet, silero-vad, magika, ultralytics, rtmlib,
fastembed and onnxtr, as the package index had them in November 2026.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
theirs = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper  # noqa: E402

import cnnrt.compat  # noqa: E402
from cnnrt.compat import onnxruntime as ours  # noqa: E402

X = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
CPU = "CPUExecutionProvider"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"], "relu")],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"character": "a\nb", "names": "{0: 'cat'}"})
    path = tmp_path_factory.mktemp("names") / "model.onnx"
    onnx.save(model, path)
    return str(path)


Use = Callable[[Any, str], Any]
"""Calls a name of the library with the path of the model; the result is compared."""


def session(ort: Any, file: str, **settings: Any) -> Any:
    """A session with these attributes of its options."""
    options = ort.SessionOptions()
    for name, value in settings.items():
        setattr(options, name, value)
    return ort.InferenceSession(file, sess_options=options, providers=[CPU])


def ran(session: Any) -> list[list[float]]:
    result: list[list[float]] = session.run(None, {"x": X})[0].tolist()
    return result


def profiled(ort: Any, file: str) -> Any:
    s = session(ort, file, enable_profiling=True, profile_file_prefix=f"{file}-profile")
    ran(s)
    return {event["ph"] for event in json.loads(Path(s.end_profiling()).read_text())}


def overridden(ort: Any, file: str) -> Any:
    options = ort.SessionOptions()
    options.add_free_dimension_override_by_name("batch", 2)
    return ort.InferenceSession(file, options).get_inputs()[0].shape


def bound(ort: Any, file: str) -> Any:
    s, y = session(ort, file), np.zeros((2, 3), np.float32)
    binding = s.io_binding()
    binding.bind_input("x", "cpu", 0, np.float32, X.shape, X.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
    s.run_with_iobinding(binding)
    return y.tolist()


def refused(ort: Any, _: str) -> str:
    states = ort.capi.onnxruntime_pybind11_state
    with pytest.raises(states.InvalidProtobuf) as error:
        ort.InferenceSession(b"\xffnonsense" * 9, providers=[CPU])
    return type(error.value).__name__


def installed(ort: Any, _: str) -> bool:
    if ort is theirs:
        return importlib.metadata.version("onnxruntime") == theirs.__version__
    (found,) = cnnrt.compat._Finder().find_distributions()
    return found.metadata["Name"] == "onnxruntime" and found.version == ours.__version__


def with_config(ort: Any, file: str) -> Any:
    options = ort.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ran(ort.InferenceSession(file, options))


def reset(ort: Any, file: str) -> Any:
    s = session(ort, file)
    s.set_providers([CPU])
    return ran(s)


def unregistrable(ort: Any, _: str) -> bool:
    with pytest.raises(Exception, match=r"none\.so"):
        ort.register_execution_provider_library("none", "./none.so")
    return True


def cuda(ort: Any, file: str) -> Any:
    providers = [("CUDAExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"}), CPU]
    with pytest.warns(UserWarning, match="CUDA"):
        s = ort.InferenceSession(file, providers=providers)
    return s.get_providers(), ran(s)


LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")

MUST: dict[str, Use] = {
    "InferenceSession(path)": lambda ort, file: ran(ort.InferenceSession(file)),
    "InferenceSession(bytes)": lambda ort, file: ran(
        ort.InferenceSession(Path(file).read_bytes(), providers=[CPU])
    ),
    "InferenceSession(path_or_bytes=)": lambda ort, file: ran(
        ort.InferenceSession(path_or_bytes=file, providers=[(CPU, {})])
    ),
    "InferenceSession(sess_options=)": lambda ort, file: ran(session(ort, file)),
    "run(names)": lambda ort, file: session(ort, file).run(["y"], {"x": X})[0].tolist(),
    "get_available_providers": lambda ort, _: CPU in ort.get_available_providers(),
    "get_inputs": lambda ort, file: [a.name for a in session(ort, file).get_inputs()],
    "get_outputs": lambda ort, file: [a.name for a in session(ort, file).get_outputs()],
    "NodeArg.shape": lambda ort, file: session(ort, file).get_inputs()[0].shape,
    "NodeArg.type": lambda ort, file: session(ort, file).get_inputs()[0].type,
    "intra_op_num_threads": lambda ort, file: ran(session(ort, file, intra_op_num_threads=1)),
    "inter_op_num_threads": lambda ort, file: ran(session(ort, file, inter_op_num_threads=1)),
    "get_providers": lambda ort, file: session(ort, file).get_providers(),
    "graph_optimization_level": lambda ort, file: [
        ran(session(ort, file, graph_optimization_level=getattr(ort.GraphOptimizationLevel, n)))
        for n in LEVELS
    ],
    "enable_cpu_mem_arena": lambda ort, file: ran(session(ort, file, enable_cpu_mem_arena=False)),
    "get_device": lambda ort, _: ort.get_device(),
    "set_default_logger_severity": lambda ort, _: ort.set_default_logger_severity(3),
    "__version__": lambda ort, _: tuple(map(int, ort.__version__.split(".")[:2])) >= (1, 23),
}
"""At least three clients of ten use these."""

OFTEN: dict[str, Use] = {
    "capi._pybind_state.set_default_logger_severity": lambda ort, _: (
        ort.capi._pybind_state.set_default_logger_severity(3)
    ),
    "capi.onnxruntime_pybind11_state.InvalidProtobuf": refused,
    "execution_mode": lambda ort, file: ran(
        session(ort, file, execution_mode=ort.ExecutionMode.ORT_PARALLEL)
    ),
    "log_severity_level": lambda ort, file: ran(session(ort, file, log_severity_level=4)),
    "provider_options": lambda ort, file: ran(
        ort.InferenceSession(file, providers=[CPU], provider_options=[{}])
    ),
    "get_modelmeta().custom_metadata_map": lambda ort, file: (
        session(ort, file).get_modelmeta().custom_metadata_map
    ),
    'importlib.metadata.version("onnxruntime")': installed,
}
"""Two clients of ten, or three, use these."""

SELDOM: dict[str, Use] = {
    "set_providers": reset,
    "get_provider_options": lambda ort, file: session(ort, file).get_provider_options(),
    "enable_profiling, end_profiling": profiled,
    "enable_mem_pattern": lambda ort, file: ran(session(ort, file, enable_mem_pattern=False)),
    "add_free_dimension_override_by_name": overridden,
    "add_session_config_entry": with_config,
    "RunOptions": lambda ort, file: (
        session(ort, file).run(None, {"x": X}, ort.RunOptions())[0].tolist()
    ),
    "disable_telemetry_events": lambda ort, _: ort.disable_telemetry_events(),
    "preload_dlls": lambda ort, _: ort.preload_dlls(),
    "enable_fallback=": lambda ort, file: ran(ort.InferenceSession(file, enable_fallback=False)),
    "io_binding, bind_input, bind_output, run_with_iobinding": bound,
    "OrtValue": lambda ort, file: (
        session(ort, file).run(None, {"x": ort.OrtValue.ortvalue_from_numpy(X)})[0].tolist()
    ),
    "get_ep_devices": lambda ort, _: isinstance(ort.get_ep_devices(), list),
    "register_execution_provider_library": unregistrable,
}
"""One client of ten uses these."""

IGNORED: dict[str, Use] = {
    "CUDAExecutionProvider, arena_extend_strategy": cuda,
    "intra_op_num_threads=0": lambda ort, file: ran(session(ort, file, intra_op_num_threads=0)),
    "intra_op_num_threads=-1": lambda ort, file: ran(session(ort, file, intra_op_num_threads=-1)),
}
"""Clients give these, and the result does not depend on them."""


@pytest.mark.parametrize("name", [*MUST, *OFTEN, *SELDOM, *IGNORED])
def test_a_name_does_the_same_in_both(name: str, file: str) -> None:
    use = (MUST | OFTEN | SELDOM | IGNORED)[name]
    found = use(ours, file)
    assert found is not False
    assert found == use(theirs, file)


ABSENT = (
    *("ModelPackage", "OrtEpContextData", "get_session_initializer", "SessionObjectInitializer"),
    *("get_compatibility_info_", "get_model_compatibility_for_ep_devices"),
    *("get_hardware_device_ep_incompatibility_details", "OrtCompiledModelCompatibility"),
    *("OrtDeviceEpIncompatibilityReason", "get_all_operator_schema", "get_all_opkernel_def"),
    *("get_registered_ep_kernel_defs", "schemadef", "opkernel", "quantize_matmul_"),
    *("quantize_qdq_matmul_", "pack_fp4_weights_for_cuda_moe_gemm", "SparseCooView"),
    *("SparseCsrView", "SparseBlockSparseView", "InferenceSession"),
)
"""How the public names of onnxruntime begin that are not there; the documentation says why."""


def test_every_public_name_is_there_or_documented() -> None:
    page = (Path(__file__).parents[1] / "docs" / "onnxruntime.md").read_text()
    for prefix in ABSENT:
        assert prefix in page, prefix
    inner = "onnxruntime_pybind11_state"
    for mine, other in ((ours, theirs), (getattr(ours.capi, inner), getattr(theirs.capi, inner))):
        # Not modules that were imported, nor the error of an import, which is None.
        things = {name: getattr(other, name) for name in dir(other) if not name.startswith("_")}
        public = {n for n, x in things.items() if x is not None and not inspect.ismodule(x)}
        missing = {name for name in public if not hasattr(mine, name)}
        assert {name for name in missing if not name.startswith(ABSENT)} == set()
