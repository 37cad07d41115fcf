"""Names below those of onnxruntime's Python classes, beside onnxruntime itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
theirs = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper  # noqa: E402

from cnnrt.compat import onnxruntime as ours  # noqa: E402

X = np.arange(6, dtype=np.float32).reshape(2, 3)
CPU = ["CPUExecutionProvider"]
BOTH = pytest.mark.parametrize("ort", [ours, theirs], ids=["cnnrt", "onnxruntime"])


def proto(**metadata: str) -> Any:
    """y = relu(x + w) of a (2, 3) tensor, with w of 6 numbers."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "w"], ["s"], "add"),
            helper.make_node("Relu", ["s"], ["y"], "relu"),
        ],
        "net",
        [value("x", TensorProto.FLOAT, [2, 3])],
        [value("y", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor("w", TensorProto.FLOAT, [2, 3], np.full(6, -2.0))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata)
    return model


EXPECTED = np.maximum(X - 2, 0)


def session(ort: Any, options: Any = None, **metadata: str) -> Any:
    return ort.InferenceSession(proto(**metadata).SerializeToString(), options, providers=CPU)


@BOTH
def test_devices(ort: Any) -> None:
    device = ort.OrtDevice.make("cpu", 0)
    assert (device.device_type(), device.device_id(), device.device_mem_type()) == (0, 0, 0)
    assert device.device_vendor_id() == ort.OrtDeviceVendorId.NONE
    gpu = ort.OrtDevice.make("cuda", 1)
    assert (gpu.device_type(), gpu.device_id()) == (1, 1)
    assert gpu.device_vendor_id() == ort.OrtDeviceVendorId.NVIDIA
    inner = ort.capi._pybind_state.OrtDevice
    assert (inner.cpu(), inner.cuda(), inner.dml(), inner.default_memory()) == (0, 1, 4, 0)
    kinds = (inner.gpu(), inner.webgpu(), inner.fpga(), inner.npu(), inner.cann())
    assert kinds == (1, 1, 2, 3, 3)
    made = inner(inner.cpu(), inner.default_memory(), 3)
    assert (made.device_type(), made.mem_type(), made.device_id()) == (0, 0, 3)
    made = inner(inner.gpu(), inner.default_memory(), 4318, 2)
    assert (made.vendor_id(), made.device_id()) == (4318, 2)
    numbers = {
        "dml": (1, 0x1414),
        "cann": (3, 0x19E5),
        "gpu": (1, 0),
        "npu": (3, 0),
        "webgpu": (1, 0),
    }
    for name, (kind, vendor) in numbers.items():
        device = ort.OrtDevice.make(name, 0)
        assert (device.device_type(), device.device_vendor_id()) == (kind, vendor)
    assert ort.OrtDevice.make("gpu", 1, 0x1002).device_vendor_id() == 0x1002
    for name in ("fpga", "CPU", "nonsense"):
        with pytest.raises(Exception, match=f"Unsupported device type: {name}"):
            ort.OrtDevice.make(name, 0)


@BOTH
def test_devices_to_choose_from(ort: Any) -> None:
    state = ort.capi._pybind_state
    (device,) = ort.get_ep_devices()
    assert device.ep_name == CPU[0]
    assert device.device.type == ort.OrtHardwareDeviceType.CPU
    (hardware,) = state.get_hardware_devices()
    assert hardware.type == ort.OrtHardwareDeviceType.CPU
    assert (hardware.vendor, hardware.vendor_id) == (device.device.vendor, device.device.vendor_id)
    for policy in ort.OrtExecutionProviderDevicePolicy.__members__.values():
        options = ort.SessionOptions()
        options.set_provider_selection_policy(policy)
        assert options.has_providers()
    options = ort.SessionOptions()
    options.add_provider_for_devices([device], {})
    assert options.has_providers()
    by_device = ort.InferenceSession(proto().SerializeToString(), options)
    assert by_device.get_providers() == CPU
    assert [d.ep_name for d in by_device.get_input_epdevices()] == CPU
    with pytest.raises(state.InvalidArgument, match="one or more OrtEpDevice"):
        options.add_provider_for_devices([], {})
    options = ort.SessionOptions()
    options.set_load_cancellation_flag(True)
    with pytest.raises(state.ModelLoadCanceled):
        session(ort, options)


@BOTH
def test_memory_is_described(ort: Any) -> None:
    arena, default = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, ort.OrtMemType.DEFAULT
    info = ort.OrtMemoryInfo("Cpu", arena, 0, default)
    other = ort.OrtMemoryInfo.create_v2(
        "Mine",
        ort.OrtMemoryInfoDeviceType.CPU,
        0,
        0,
        ort.OrtDeviceMemoryType.DEFAULT,
        128,
        arena,
    )
    for found, name in ((info, "Cpu"), (other, "Mine")):
        assert (found.name, found.device_id, found.mem_type) == (name, 0, default)
        assert (found.allocator_type, found.device_vendor_id) == (arena, 0)
        assert found.device_mem_type == ort.OrtDeviceMemoryType.DEFAULT
    for name, kind, vendor in (("Cuda", 0, 0x10DE), ("CudaPinned", 5, 0x10DE), ("DML", 0, 0x1414)):
        named = ort.OrtMemoryInfo(name, arena, 1, default)
        assert (named.name, named.device_id, named.device_vendor_id) == (name, 1, vendor)
        assert named.device_mem_type == ort.OrtDeviceMemoryType(kind)
    for name in ("cpu", "nonsense"):
        with pytest.raises(RuntimeError, match="not supported"):
            ort.OrtMemoryInfo(name, arena, 0, default)
    gpu, npu = ort.OrtMemoryInfoDeviceType.GPU, ort.OrtMemoryInfoDeviceType.NPU
    shared = ort.OrtDeviceMemoryType.HOST_ACCESSIBLE
    for kind in (gpu, npu):
        named = ort.OrtMemoryInfo.create_v2("Other", kind, 0x10DE, 1, shared, 0, arena)
        assert (named.name, named.device_id, named.device_vendor_id) == ("Other", 1, 0x10DE)
        assert (named.device_mem_type, named.mem_type) == (shared, ort.OrtMemType.CPU_OUTPUT)
    s = session(ort)
    assert len(s.get_input_memory_infos()) == len(s.get_output_memory_infos()) == 1
    assert len(s.get_input_epdevices()) == 1


@BOTH
def test_arenas(ort: Any) -> None:
    sizes = ort.OrtArenaCfg(8, 0, 4, 2)
    assert (sizes.max_mem, sizes.arena_extend_strategy) == (8, 0)
    assert (sizes.initial_chunk_size_bytes, sizes.max_dead_bytes_per_chunk) == (4, 2)
    named = ort.OrtArenaCfg({"max_mem": 16, "initial_growth_chunk_size_bytes": 3})
    assert (named.max_mem, named.initial_growth_chunk_size_bytes) == (16, 3)
    assert named.max_power_of_two_extend_bytes == -1
    with pytest.raises(RuntimeError, match="nonsense"):
        ort.OrtArenaCfg({"nonsense": 1})
    with pytest.raises(TypeError):
        ort.OrtArenaCfg(1, 2)
    arena, default = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, ort.OrtMemType.DEFAULT
    memory = ort.OrtMemoryInfo("Cuda", arena, 0, default)
    with pytest.raises(RuntimeError, match="Error when creating and registering allocator"):
        ort.create_and_register_allocator(memory, sizes)


def test_an_arena_changes_nothing() -> None:
    memory = ours.OrtMemoryInfo("Cpu", ours.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, 0)
    ours.create_and_register_allocator(memory, ours.OrtArenaCfg(0, -1, -1, -1))
    ours.create_and_register_allocator_v2(CPU[0], memory, {}, None)
    with pytest.raises(RuntimeError, match="CUDA"):
        ours.create_and_register_allocator_v2("CUDAExecutionProvider", memory, {}, None)
    np.testing.assert_array_equal(session(ours).run(None, {"x": X})[0], EXPECTED)


@BOTH
def test_the_session_below(ort: Any) -> None:
    inner = ort.capi._pybind_state
    below = session(ort)._sess
    given = ort.OrtValue.ortvalue_from_numpy(X)
    found = below.run_with_ort_values({"x": given._get_c_value()}, ["y"], ort.RunOptions())
    assert isinstance(found, inner.OrtValueVector)
    np.testing.assert_array_equal(found[0].numpy(), EXPECTED)
    np.testing.assert_array_equal(below.run(["y"], {"x": X}, None)[0], EXPECTED)


@BOTH
def test_bindings_by_devices(ort: Any) -> None:
    inner = ort.capi._pybind_state
    device = inner.OrtDevice(inner.OrtDevice.cpu(), inner.OrtDevice.default_memory(), 0)
    below = session(ort)._sess
    assert ort.SessionIOBinding is inner.SessionIOBinding
    binding = ort.SessionIOBinding(below)
    held = inner.OrtValue.ortvalue_from_numpy(X, device)
    binding.bind_ortvalue_input("x", held)
    binding.bind_output("y", device)
    below.run_with_iobinding(binding, None)
    assert isinstance(binding.get_outputs(), inner.OrtValueVector)
    np.testing.assert_array_equal(binding.get_outputs()[0].numpy(), EXPECTED)
    np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[0], EXPECTED)
    y = np.zeros((2, 3), np.float32)
    binding.clear_binding_inputs()
    binding.clear_binding_outputs()
    binding.bind_input("x", device, np.float32, X.shape, held.data_ptr())
    binding.bind_output("y", device, np.float32, y.shape, y.ctypes.data)
    binding.synchronize_inputs()
    below.run_with_iobinding(binding, None)
    binding.synchronize_outputs()
    np.testing.assert_array_equal(y, EXPECTED)
    binding.bind_input("x", X + 1)
    binding.clear_binding_outputs()
    place = ort.OrtValue.ortvalue_from_shape_and_type([2, 3], np.float32)
    binding.bind_ortvalue_output("y", place._get_c_value())
    below.run_with_iobinding(binding, None)
    np.testing.assert_array_equal(place.numpy(), np.maximum(X - 1, 0))


@BOTH
def test_capsules(ort: Any) -> None:
    flag = [False] if ort is ours else []  # which older ones took

    def read(capsule: Any) -> Any:
        return ort.capi._pybind_state.OrtValue.from_dlpack(capsule, *flag)

    value = ort.OrtValue.ortvalue_from_numpy(X)
    again = read(value._ortvalue.to_dlpack())
    assert again.data_ptr() == value.data_ptr()
    np.testing.assert_array_equal(again.numpy(), X)
    for shape in ((0,), (1, 8, 0, 4), (4, 0)):
        empty = read(np.zeros(shape, np.float32).__dlpack__())
        assert list(empty.shape()) == list(shape)
    for array in (np.array([True, False]), np.array([1, 255], np.uint8)):
        kept = ort.OrtValue.from_dlpack(ort.OrtValue.ortvalue_from_numpy(array)).numpy()
        assert kept.dtype == array.dtype
        np.testing.assert_array_equal(kept, array)
    changed = ort.OrtValue.from_dlpack(np.zeros((2, 3), np.float32))
    changed.update_inplace(X)
    np.testing.assert_array_equal(changed.numpy(), X)
    shared = np.asarray(value)
    assert shared.ctypes.data == value.data_ptr()
    assert np.asarray(value, np.float64).dtype == np.float64


@BOTH
def test_vectors_of_values(ort: Any) -> None:
    vector = ort.capi._pybind_state.OrtValueVector()
    vector.reserve(3)
    vector.push_back(ort.OrtValue.ortvalue_from_numpy(X)._get_c_value())
    vector.push_back(X.__dlpack__(), *([False] if ort is ours else []))
    assert len(vector) == 2
    assert [vector.element_type_at(i) for i in range(2)] == [TensorProto.FLOAT] * 2
    read = ort.capi._pybind_state.OrtValue.from_dlpack
    flag = [False] if ort is ours else []
    tensors = [vector.dlpack_at(0), *vector.to_dlpacks(None)]
    for capsule in tensors:
        np.testing.assert_array_equal(read(capsule, *flag).numpy(), X)
    for value in vector.to_dlpacks(lambda capsule: read(capsule, *flag)):
        np.testing.assert_array_equal(value.numpy(), X)
    vector.shrink_to_fit()


def test_what_a_capsule_holds() -> None:
    inner = ours.capi._pybind_state
    for dtype, expected in ((np.uint8, True), (np.int8, False), (np.uint16, False), (bool, False)):
        capsule = np.zeros(3, dtype).__dlpack__()
        assert inner.is_dlpack_uint8_tensor(capsule) is expected, dtype


def test_tensors_are_copied() -> None:
    """onnxruntime itself copies between devices alone."""
    target = ours.OrtValue.ortvalue_from_numpy(np.zeros((2, 3), np.float32))
    ours.copy_tensors([ours.OrtValue.ortvalue_from_numpy(X)], [target], None)
    np.testing.assert_array_equal(target.numpy(), X)


@BOTH
def test_provider_arguments(ort: Any) -> None:
    check = ort.capi.onnxruntime_inference_collection.check_and_normalize_provider_args
    known = ["a", "b"]
    assert tuple(check(None, None, known)) == ([], [])
    assert tuple(check([("a", {1: 2}), "b"], None, known)) == (["a", "b"], [{"1": "2"}, {}])
    assert tuple(check(["a"], [{1: 2}], known)) == (["a"], [{"1": "2"}])
    with pytest.warns(UserWarning, match="Duplicate"):
        assert tuple(check(["a", "a"], [{"x": 1}, {}], known)) == (["a"], [{"x": "1"}])
    for providers, options in ((3, None), ([3], None), (["a"], 3), (["a"], ["b"]), (["a"], [])):
        with pytest.raises(ValueError, match="provider"):
            check(providers, options, known)
    with (
        pytest.warns(UserWarning, match="Nonsense"),
        pytest.raises(RuntimeError, match="Unknown Provider Type: Nonsense"),
    ):
        session(ort).set_providers(["Nonsense"])
    assert ort.get_all_providers()[-1] == CPU[0]


@BOTH
def test_messages(ort: Any) -> None:
    found: list[Any] = []
    ort.set_default_logger_callback(lambda *message: found.append(message), severity=0)
    try:
        session(ort)
        assert found
        for severity, *texts in found:
            assert isinstance(severity, int)
            assert [type(text) for text in texts] == [str] * 4
        ort.set_default_logger_callback(lambda *_: 1 / 0, severity=0)
        if ort is ours:  # the other reports it to sys.unraisablehook, which pytest looks at
            session(ort)
        quiet = len(found)
        ort.set_default_logger_callback(lambda *message: found.append(message), severity=4)
        session(ort)
        assert len(found) == quiet
        for callback, severity in ((print, 5), (print, -1), ("text", 2)):
            with pytest.raises(RuntimeError):
                ort.set_default_logger_callback(callback, severity=severity)
    finally:
        ort.set_default_logger_callback(None)
        ort.set_default_logger_severity(2)


@BOTH
def test_options_that_a_model_states(ort: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = '{"session_options": {"inter_op_num_threads": 5, "intra_op_num_threads": 2}}'
    assert session(ort, ort_config=config).get_session_options().inter_op_num_threads == 0
    monkeypatch.setenv("ORT_LOAD_CONFIG_FROM_MODEL", "1")
    found = session(ort, ort_config=config).get_session_options()
    assert (found.inter_op_num_threads, found.intra_op_num_threads) == (5, 2)
    assert found.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL
    with pytest.raises(Exception, match=r"ort_config|JSON|json"):
        session(ort, ort_config="nonsense")
    refusal = ours.capi.onnxruntime_pybind11_state.InvalidProtobuf if ort is ours else RuntimeError
    with pytest.raises(refusal):
        ort.InferenceSession(b"\x08junk", providers=CPU)


def external(folder: Path) -> Path:
    """The model with its weight in a file beside it, which is not there."""
    path = folder / "model.onnx"
    model = proto()
    (tensor,) = model.graph.initializer
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    onnx.save(model, path)
    return path


@BOTH
def test_initializers_from_memory(ort: Any, tmp_path: Path) -> None:
    path = external(tmp_path)
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    by_value, by_file = ort.SessionOptions(), ort.SessionOptions()
    value = ort.OrtValue.ortvalue_from_numpy(weight)
    by_value.add_external_initializers(["w"], [value])
    data = weight.tobytes()
    by_file.add_external_initializers_from_files_in_memory(["w.bin"], [data], [len(data)])
    for options in (by_value, by_file):
        found = ort.InferenceSession(str(path), options, providers=CPU).run(None, {"x": X})
        np.testing.assert_array_equal(found[0], X + weight)
    with pytest.raises(Exception, match=r"w\.bin"):
        ort.InferenceSession(str(path), providers=CPU)


def test_an_initializer_that_does_not_fit() -> None:
    invalid = ours.capi.onnxruntime_pybind11_state.InvalidArgument
    for name, array in (("w", X[:1]), ("w", X.astype(np.float64)), ("z", X)):
        options = ours.SessionOptions()
        options.add_initializer(name, array)
        with pytest.raises(invalid, match=f"initializer '{name}'"):
            session(ours, options)
    with pytest.raises(ours.capi.onnxruntime_pybind11_state.Fail, match="lengths"):
        options.add_external_initializers_from_files_in_memory(["a"], [b""], [])


@BOTH
def test_a_written_model_with_its_weights_beside_it(ort: Any, tmp_path: Path) -> None:
    for _ in range(2):  # the second time over the first
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "out.onnx")
        prefix = "session.optimized_model_external_initializers"
        options.add_session_config_entry(f"{prefix}_file_name", "weights.bin")
        options.add_session_config_entry(f"{prefix}_min_size_in_bytes", "10")
        session(ort, options)
        assert (tmp_path / "weights.bin").stat().st_size >= 24
        again = theirs.InferenceSession(options.optimized_model_filepath, providers=CPU)
        np.testing.assert_array_equal(again.run(None, {"x": X})[0], EXPECTED)
    if ort is ours:
        options.add_session_config_entry(f"{prefix}_file_name", "../weights.bin")
        with pytest.raises(ours.capi.onnxruntime_pybind11_state.InvalidProtobuf, match="folder"):
            session(ort, options)


@BOTH
def test_nodes_of_providers(ort: Any) -> None:
    with pytest.raises(ort.capi._pybind_state.Fail, match="record_ep_graph_assignment_info"):
        session(ort).get_provider_graph_assignment_info()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    parts = session(ort, options).get_provider_graph_assignment_info()
    assert {part.ep_name for part in parts} == set(CPU)
    nodes = [node for part in parts for node in part.get_nodes()]
    assert {(n.domain, n.op_type, n.name) for n in nodes} == {
        ("", "Add", "add"),
        ("", "Relu", "relu"),
    }


@BOTH
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_backend(ort: Any, tmp_path: Path) -> None:
    place = "cnnrt.compat.onnxruntime" if ort is ours else "onnxruntime"
    backend = __import__(f"{place}.backend", fromlist=["backend"])
    onnx.save(proto(), tmp_path / "model.onnx")
    path = str(tmp_path / "model.onnx")
    rep = backend.prepare(path)
    for model in (path, Path(path).read_bytes(), proto(), session(ort), rep):
        prepared = backend.prepare(model, "CPU", intra_op_num_threads=1, nonsense=3)
        np.testing.assert_array_equal(prepared.run(X, logid="mine")[0], EXPECTED)
    np.testing.assert_array_equal(backend.run(path, [X])[0], EXPECTED)
    assert backend.supports_device("CPU")
    assert not backend.supports_device("GPU")
    assert backend.is_compatible(proto())
    with pytest.raises(RuntimeError, match="enable_profiling"):
        backend.prepare(path, enable_profiling=True)
    with pytest.raises(RuntimeError, match="terminate"):
        rep.run(X, terminate=True)
    with pytest.raises(RuntimeError, match="GPU"):
        backend.prepare(path, "GPU")


THREADS = """
import sys
import onnxruntime as ort
options = ort.SessionOptions()
options.use_per_session_threads = False
def refused(options=None):
    try:
        ort.InferenceSession(sys.argv[1], options, enable_fallback=False)
    except RuntimeError as error:
        return "use" in str(error)
    return False
print(refused(options), refused())
ort.set_global_thread_pool_sizes(1, 1)
print(refused(options), refused())
"""


@pytest.mark.parametrize("runner", [[], ["-m", "cnnrt.compat"]], ids=["onnxruntime", "cnnrt"])
def test_threads_of_the_process(runner: list[str], tmp_path: Path) -> None:
    onnx.save(proto(), tmp_path / "model.onnx")
    (tmp_path / "program.py").write_text(THREADS)
    done = subprocess.run(
        [sys.executable, *runner, str(tmp_path / "program.py"), str(tmp_path / "model.onnx")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", "False", "False", "True"]
