"""cnnrt.compat.onnxruntime beside onnxruntime itself: the same calls, the same answers."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
theirs = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper  # noqa: E402

import cnnrt  # noqa: E402
from cnnrt.compat import onnxruntime as ours  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 8, 8)).astype(np.float32)
CPU = ["CPUExecutionProvider"]
BOTH = pytest.mark.parametrize("ort", [ours, theirs], ids=["cnnrt", "onnxruntime"])


def value(name: str, code: int, shape: Any) -> Any:
    return helper.make_tensor_value_info(name, code, shape)


def proto() -> Any:
    """A convolution of a free batch with two outputs, metadata, and a bias that may be given."""
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["y"], "relu"),
            helper.make_node("ReduceMean", ["y"], ["mean"], "mean", axes=[2, 3], keepdims=0),
        ],
        "net",
        [
            value("x", TensorProto.FLOAT, ["n", 3, None, 8]),
            value("b", TensorProto.FLOAT, [4]),
        ],
        [
            value("y", TensorProto.FLOAT, ["n", 4, None, 8]),
            value("mean", TensorProto.FLOAT, ["n", 4]),
        ],
        [
            helper.make_tensor("w", 1, [4, 3, 3, 3], RNG.standard_normal(108)),
            helper.make_tensor("b", 1, [4], [0.0, 1.0, 2.0, 3.0]),
        ],
        doc_string="a graph",
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 17)],
        producer_name="maker",
        domain="org.example",
        doc_string="a model",
        model_version=7,
        ir_version=8,
    )
    helper.set_model_props(model, {"names": "{0: 'cat'}", "stride": "32"})
    return model


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("compat") / "model.onnx"
    onnx.save(proto(), path)
    return str(path)


def facts(session: Any) -> Any:
    meta = session.get_modelmeta()
    return (
        [(a.name, a.shape, a.type) for a in session.get_inputs()],
        [(a.name, a.shape, a.type) for a in session.get_outputs()],
        [(a.name, a.shape, a.type) for a in session.get_overridable_initializers()],
        (meta.producer_name, meta.graph_name, meta.domain, meta.description),
        (meta.graph_description, meta.version, meta.custom_metadata_map),
        session.get_providers(),
        session.get_provider_options(),
    )


def test_what_a_session_says_of_its_model(file: str) -> None:
    mine, other = (facts(ort.InferenceSession(file, providers=CPU)) for ort in (ours, theirs))
    assert mine == other
    arg = ours.InferenceSession(file).get_inputs()[0]
    assert str(arg) == str(theirs.InferenceSession(file, providers=CPU).get_inputs()[0])


def test_results(file: str) -> None:
    sessions = [ort.InferenceSession(file, providers=CPU) for ort in (ours, theirs)]
    for names in (None, [], ["mean"], ["mean", "y"], ["y", "mean", "y"]):
        mine, other = (s.run(names, {"x": X}) for s in sessions)
        assert isinstance(mine, list)
        assert len(mine) == len(other)
        for a, b in zip(mine, other, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    bias = np.float32([9, 8, 7, 6])
    mine, other = (s.run(["mean"], {"x": X, "b": bias})[0] for s in sessions)
    np.testing.assert_allclose(mine, other, rtol=1e-4)
    assert sessions[0].run(["y"], {"x": X[:0]})[0].shape == (0, 4, 8, 8)


@BOTH
def test_sources(ort: Any, file: str, tmp_path: Path) -> None:
    data = Path(file).read_bytes()
    for source in (file, Path(file), data):
        assert len(ort.InferenceSession(source, providers=CPU).run(None, {"x": X})) == 2
    assert ort.InferenceSession(path_or_bytes=data, sess_options=None, providers=CPU)
    with pytest.raises(TypeError, match="Unable to load from type"):
        ort.InferenceSession(3, providers=CPU)
    states = ort.capi.onnxruntime_pybind11_state
    with pytest.raises(states.NoSuchFile, match="NO_SUCHFILE"):
        ort.InferenceSession(str(tmp_path / "none.onnx"), providers=CPU)
    with pytest.raises(states.InvalidProtobuf, match="INVALID_PROTOBUF"):
        ort.InferenceSession(b"\xffnonsense" * 9, providers=CPU)


@BOTH
def test_mistakes_in_a_feed(ort: Any, file: str) -> None:
    session = ort.InferenceSession(file, providers=CPU)
    invalid = ort.capi.onnxruntime_pybind11_state.InvalidArgument
    with pytest.raises(ValueError, match=r"Required inputs \(\['x'\]\) are missing"):
        session.run(None, {})
    with pytest.raises(invalid, match="Invalid input name"):
        session.run(None, {"x": X, "z": X})
    with pytest.raises(invalid, match=r"Actual: \(tensor\(double\)\) , expected: \(tensor\(float"):
        session.run(None, {"x": X.astype(np.float64)})
    with pytest.raises(invalid, match="x"):
        session.run(None, {"x": X[:, :2]})
    with pytest.raises(invalid, match="x"):
        session.run(None, {"x": X[0]})
    with pytest.raises((invalid, ValueError), match="Invalid output name"):
        session.run(["nothing"], {"x": X})


def test_errors_are_ours_too(file: str) -> None:
    with pytest.raises(cnnrt.ShapeError):
        ours.InferenceSession(file).run(None, {"x": X[0]})
    with pytest.raises(cnnrt.FormatError):
        ours.InferenceSession("there/is/none.onnx")


@BOTH
def test_options_of_sessions(ort: Any) -> None:
    options = ort.SessionOptions()
    for name, default in (
        ("enable_cpu_mem_arena", True),
        ("enable_mem_pattern", True),
        ("enable_mem_reuse", True),
        ("enable_profiling", False),
        ("execution_mode", ort.ExecutionMode.ORT_SEQUENTIAL),
        ("execution_order", ort.ExecutionOrder.DEFAULT),
        ("graph_optimization_level", ort.GraphOptimizationLevel.ORT_ENABLE_ALL),
        ("inter_op_num_threads", 0),
        ("intra_op_num_threads", 0),
        ("log_severity_level", -1),
        ("log_verbosity_level", 0),
        ("logid", ""),
        ("optimized_model_filepath", ""),
        ("profile_file_prefix", "onnxruntime_profile_"),
        ("use_deterministic_compute", False),
        ("use_per_session_threads", True),
    ):
        assert getattr(options, name) == default, name
        setattr(options, name, default)
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    with pytest.raises(AttributeError):
        options.intra_op_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    with pytest.raises(RuntimeError, match="none"):
        options.get_session_config_entry("none")
    assert not options.has_providers()
    levels = ["DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED", "ENABLE_LAYOUT", "ENABLE_ALL"]
    level = ort.GraphOptimizationLevel
    assert [int(getattr(level, f"ORT_{name}")) for name in levels] == [0, 1, 2, 3, 99]


@BOTH
def test_free_sizes_are_overridden(ort: Any, file: str) -> None:
    options = ort.SessionOptions()
    options.add_free_dimension_override_by_name("n", 2)
    session = ort.InferenceSession(file, options, providers=CPU)
    assert session.get_inputs()[0].shape == [2, 3, None, 8]
    assert session.get_session_options().intra_op_num_threads == options.intra_op_num_threads
    assert session.run(["mean"], {"x": X})[0].shape == (2, 4)
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument):
        session.run(None, {"x": X[:1]})


def test_a_denotation_is_overridden(tmp_path: Path) -> None:
    model = proto()
    model.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    options = ours.SessionOptions()
    options.add_free_dimension_override_by_denotation("DATA_BATCH", 1)
    session = ours.InferenceSession(model.SerializeToString(), options)
    assert session.get_inputs()[0].shape[0] == 1


@BOTH
def test_an_initializer_is_replaced(ort: Any, file: str) -> None:
    weight = np.zeros((4, 3, 3, 3), np.float32)
    held = ort.OrtValue.ortvalue_from_numpy(weight)
    options = ort.SessionOptions()
    options.add_initializer("w", held)
    session = ort.InferenceSession(file, options, providers=CPU)
    (mean,) = session.run(["mean"], {"x": X})
    np.testing.assert_array_equal(mean, np.tile(np.float32([0, 1, 2, 3]), (2, 1)))


@BOTH
def test_threads(ort: Any, file: str) -> None:
    results = []
    for threads in (0, 1, 2):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = ort.InferenceSession(file, sess_options=options, providers=CPU)
        results.append(session.run(None, {"x": X})[0])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5)
    np.testing.assert_allclose(results[0], results[2], rtol=1e-5)


@BOTH
def test_profiles(ort: Any, file: str, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile_")
    session = ort.InferenceSession(file, options, providers=CPU)
    session.run(None, {"x": X})
    assert session.get_profiling_start_time_ns() > 0
    path = session.end_profiling()
    assert path.startswith(str(tmp_path / "profile_"))
    events = json.loads(Path(path).read_text())
    assert {e["cat"] for e in events} == {"Session", "Node"}
    assert "model_run" in {e["name"] for e in events}
    nodes = [e for e in events if e["cat"] == "Node" and e["name"].endswith("_kernel_time")]
    assert nodes
    for event in nodes:
        assert event["ph"] == "X"
        assert event["dur"] >= 0
        assert event["args"]["provider"] == "CPUExecutionProvider"


@BOTH
def test_an_optimised_model_is_written(ort: Any, file: str, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "out.onnx")
    expected = ort.InferenceSession(file, options, providers=CPU).run(None, {"x": X})
    again = theirs.InferenceSession(options.optimized_model_filepath, providers=CPU)
    np.testing.assert_allclose(again.run(None, {"x": X})[0], expected[0], rtol=1e-4, atol=1e-5)


@BOTH
def test_options_of_runs(ort: Any, file: str) -> None:
    options = ort.RunOptions()
    for name, default in (
        ("log_severity_level", -1),
        ("log_verbosity_level", 0),
        ("logid", ""),
        ("only_execute_path_to_fetches", False),
        ("terminate", False),
    ):
        assert getattr(options, name) == default
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    assert options.get_run_config_entry("memory.enable_memory_arena_shrinkage") == "cpu:0"
    session = ort.InferenceSession(file, providers=CPU)
    assert len(session.run(None, {"x": X}, options)) == 2
    options.terminate = True
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.Fail, match="terminate"):
        session.run(None, {"x": X}, options)


@BOTH
def test_bindings(ort: Any, file: str) -> None:
    session = ort.InferenceSession(file, providers=CPU)
    expected = session.run(None, {"x": X})
    binding = session.io_binding()
    binding.bind_cpu_input("x", X)
    binding.bind_output("y")
    place = ort.OrtValue.ortvalue_from_shape_and_type([2, 4], np.float32)
    binding.bind_ortvalue_output("mean", place)
    binding.synchronize_inputs()
    session.run_with_iobinding(binding)
    binding.synchronize_outputs()
    for y, want in zip(binding.copy_outputs_to_cpu(), expected, strict=True):
        np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(place.numpy(), expected[1])
    assert [v.shape() for v in binding.get_outputs()] == [[2, 4, 8, 8], [2, 4]]
    binding.clear_binding_inputs()
    binding.clear_binding_outputs()
    mean = np.zeros((2, 4), np.float32)
    binding.bind_input("x", "cpu", 0, np.float32, X.shape, X.ctypes.data)
    binding.bind_output("mean", "cpu", 0, np.float32, mean.shape, mean.ctypes.data)
    session.run_with_iobinding(binding, ort.RunOptions())
    np.testing.assert_array_equal(mean, expected[1])
    binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(X))
    session.run_with_iobinding(binding)
    assert len(list(binding.get_outputs_as_ortvaluevector())) == 1


@BOTH
def test_values(ort: Any, file: str) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    value = ort.OrtValue.ortvalue_from_numpy(x)
    assert (value.shape(), value.data_type(), value.element_type()) == ([2, 3], "tensor(float)", 1)
    assert (value.device_name(), value.has_value(), value.is_tensor()) == ("cpu", True, True)
    assert not value.is_sparse_tensor()
    assert not value.is_tensor_sequence()
    assert value.data_ptr()
    value.update_inplace(x + 1)
    np.testing.assert_array_equal(value.numpy(), np.arange(1, 7).reshape(2, 3))
    made = ort.OrtValue.ortvalue_from_shape_and_type((3, 2), np.int64, "cpu", 0)
    assert (made.shape(), made.data_type()) == ([3, 2], "tensor(int64)")
    bits = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.zeros(3, np.uint16), 16)
    assert (bits.data_type(), bits.element_type()) == ("tensor(bfloat16)", 16)
    session = ort.InferenceSession(file, providers=CPU)
    results = session.run_with_ort_values(
        ["mean"], {"x": ort.OrtValue.ortvalue_from_numpy(X)}, ort.RunOptions()
    )
    assert results[0].shape() == [2, 4]


@BOTH
def test_a_run_in_a_thread(ort: Any, file: str) -> None:
    session = ort.InferenceSession(file, providers=CPU)
    done, found = threading.Event(), []

    def callback(results: Any, data: Any, error: str) -> None:
        found.append((results, data, error))
        done.set()

    session.run_async(["mean"], {"x": X}, callback, "mine")
    assert done.wait(30)
    ((results, data, error),) = found
    assert (len(results), data, error) == (1, "mine", "")


@BOTH
def test_providers(ort: Any, file: str) -> None:
    assert "CPUExecutionProvider" in ort.get_available_providers()
    assert "CPUExecutionProvider" in ort.get_all_providers()
    assert ort.get_device() == "CPU"
    wanted = [("CUDAExecutionProvider", {"device_id": 0}), "CPUExecutionProvider"]
    with pytest.warns(UserWarning, match="'CUDAExecutionProvider' is not in available"):
        session = ort.InferenceSession(file, providers=wanted)
    assert session.get_providers() == CPU
    assert session.get_provider_options() == {"CPUExecutionProvider": {}}
    session.set_providers(CPU)
    session.disable_fallback()
    session.enable_fallback()
    ort.InferenceSession(file, providers=CPU, provider_options=[{}], enable_fallback=False)


def test_providers_that_are_no_names(file: str) -> None:
    """onnxruntime prints such an error and goes on with the CPU."""
    for providers, options in ((7, None), ([3], None), (CPU, []), ([("a",)], None), (CPU, [1])):
        with pytest.raises(ValueError, match="provider"):
            ours.InferenceSession(file, providers=providers, provider_options=options)


@BOTH
def test_the_process(ort: Any) -> None:
    ort.set_default_logger_severity(3)
    ort.set_default_logger_verbosity(0)
    ort.disable_telemetry_events()
    assert isinstance(ort.get_version_string(), str)
    assert isinstance(ort.get_build_info(), str)
    assert ort.has_collective_ops() is False
    ort.preload_dlls()
    assert tuple(map(int, ort.__version__.split(".")[:2])) >= (1, 23)
    assert ort.capi._pybind_state.set_default_logger_severity
    assert isinstance(ort.get_ep_devices(), list)


@BOTH
def test_other_kinds_of_values(ort: Any) -> None:
    """Sequences, numbers without axes, and every element type."""
    graph = helper.make_graph(
        [
            helper.make_node("SplitToSequence", ["x", "one"], ["s"], axis=0, keepdims=1),
            helper.make_node("Cast", ["n"], ["half"], to=TensorProto.FLOAT16),
        ],
        "g",
        [value("x", TensorProto.FLOAT, ["k", 2]), value("n", TensorProto.INT64, [])],
        [
            helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None),
            value("half", TensorProto.FLOAT16, []),
        ],
        [helper.make_tensor("one", TensorProto.INT64, [], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=CPU)
    types = [a.type for a in (*session.get_inputs(), *session.get_outputs())]
    expected = ["tensor(float)", "tensor(int64)", "seq(tensor(float))", "tensor(float16)"]
    assert types == expected
    assert session.get_inputs()[1].shape == []
    x = np.float32([[1, 2], [3, 4]])
    parts, half = session.run(None, {"x": x, "n": np.array(5, np.int64)})
    assert isinstance(parts, list)
    np.testing.assert_array_equal(np.concatenate(parts), x)
    assert half == np.float16(5)
    assert half.dtype == np.float16


def test_what_there_is_not() -> None:
    options = ours.SessionOptions()
    for call in (
        lambda: options.register_custom_ops_library("x.so"),
        lambda: ours.RunOptions().add_active_adapter(None),
        lambda: ours.register_execution_provider_library("p", "x.so"),
        lambda: ours.set_seed(1),
        ours.SparseTensor,
        lambda: ours.ModelCompiler(options, "x"),
        lambda: ours.OrtValue.ortvalue_from_numpy(X, "cpu").as_sparse_tensor(),
    ):
        with pytest.raises(NotImplementedError, match=r"cnnrt|seed"):
            call()
    with pytest.raises(ours.capi.onnxruntime_pybind11_state.InvalidArgument, match="cuda"):
        ours.OrtValue.ortvalue_from_numpy(X, "cuda", 0)


def test_a_model_bin(tmp_path: Path) -> None:
    lenet = Path(__file__).parent.parent / "examples" / "lenet5.bin"
    session = ours.InferenceSession(lenet)
    (spec,) = session.get_inputs()
    x = np.zeros([1, *spec.shape[1:]], np.float32)
    np.testing.assert_array_equal(session.run(None, {spec.name: x})[0], cnnrt.load(lenet)(x))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that gives an error")
@pytest.mark.parametrize("configured", [0, 1])
def test_a_file_that_cannot_be_read(configured: int) -> None:
    replaced = ours.SessionOptions()
    replaced.add_initializer("w", X)
    for options in (None, replaced):
        with pytest.raises(ours.capi.onnxruntime_pybind11_state.InvalidProtobuf, match="be read"):
            ours.InferenceSession("/proc/self/mem", options, read_config_from_model=configured)


def test_an_initializer_of_a_model_bin_is_replaced() -> None:
    lenet = Path(__file__).parent.parent / "examples" / "lenet5.bin"
    rng = np.random.default_rng(0)
    x = rng.random((2, 1, 28, 28), np.float32)
    values = np.arange(10, dtype=np.float32)
    for source in (lenet, lenet.read_bytes()):
        options = ours.SessionOptions()
        options.add_initializer("fc3.weight", np.zeros((10, 84), np.float32))
        options.add_initializer("fc3.bias", values)
        session = ours.InferenceSession(source, options)
        (y,) = session.run(None, {session.get_inputs()[0].name: x})
        np.testing.assert_array_equal(y, np.tile(values, (2, 1)))
    options.add_initializer("fc3.bias", values[:9])
    invalid = ours.capi.onnxruntime_pybind11_state.InvalidArgument
    with pytest.raises(invalid, match=r"float32\[10\], not float32\[9\]"):
        ours.InferenceSession(lenet, options)


PROGRAM = """
import importlib.metadata, sys
import numpy as np
import onnxruntime as ort
from onnxruntime.capi import _pybind_state as C
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidProtobuf
import onnxruntime.capi.onnxruntime_inference_collection as collection

assert importlib.metadata.version("onnxruntime") == ort.__version__
assert "cnnrt" in ort.get_build_info()
assert C.InvalidProtobuf is InvalidProtobuf
assert collection.InferenceSession is ort.InferenceSession
session = ort.InferenceSession(sys.argv[1], providers=ort.get_available_providers())
print(session.run(None, {"x": np.zeros((1, 3, 8, 8), np.float32)})[1].shape, sys.argv[2:])
"""


@pytest.mark.parametrize("way", ["program", "module", "install"])
def test_a_program_that_is_not_changed(way: str, file: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = {
        "program": ["-m", "cnnrt.compat", str(tmp_path / "program.py")],
        "module": ["-m", "cnnrt.compat", "-m", "program"],
        "install": ["-c", f"import cnnrt.compat; cnnrt.compat.install()\n{PROGRAM}"],
    }[way]
    done = subprocess.run(
        [sys.executable, *command, file, "--flag"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(1, 4) ['--flag']\n"


def test_the_command_without_a_program(tmp_path: Path) -> None:
    for arguments, code in (([], 2), (["--help"], 0), ([str(tmp_path / "none.py")], 2)):
        done = subprocess.run(
            [sys.executable, "-m", "cnnrt.compat", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code
        assert "python -m cnnrt.compat" in done.stdout + done.stderr


def test_install_comes_first() -> None:
    with pytest.raises(ImportError, match="imported already"):
        __import__("cnnrt.compat").compat.install()


def test_a_session_is_freed_at_once() -> None:
    """Programs that make a session for each call would hold several until a collection."""
    gc.disable()
    try:
        session = ours.InferenceSession(proto().SerializeToString(), providers=CPU)
        session.run(["mean"], {"x": X})
        session._sess.run(["mean"], {"x": X}, None)
        kept = weakref.ref(session._model)
        del session
        assert kept() is None
    finally:
        gc.enable()
