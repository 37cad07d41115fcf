"""Files that models are mapped from, and what happens to them while the models are in use."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import cnnrt  # noqa: E402
from cnnrt.errors import FormatError  # noqa: E402
from cnnrt.formats import read, write_model  # noqa: E402
from cnnrt.formats.onnx import tensors  # noqa: E402
from cnnrt.formats.onnx.importer import read_onnx  # noqa: E402
from cnnrt.graph import Array  # noqa: E402
from cnnrt.storage.files import file_of  # noqa: E402

RNG = np.random.default_rng(0)
CONSTANTS = {
    "w": RNG.standard_normal((32, 32, 3, 3), dtype=np.float32),
    "odd": RNG.standard_normal((32, 32, 1, 1), dtype=np.float32),
    "scale": RNG.random(32, dtype=np.float32),
    "bias": RNG.random(32, dtype=np.float32),
    "table": RNG.standard_normal((1, 32, 8, 8)),  # float64: no kernel
}
X = RNG.standard_normal((1, 32, 8, 8), dtype=np.float32)


def proto() -> Any:
    """Weights with a norm to be folded into them, and a constant that NumPy reads at each run."""
    norm = ["c", "scale", "bias", "bias", "scale"]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        helper.make_node("BatchNormalization", norm, ["n"]),
        helper.make_node("Conv", ["n", "odd"], ["d"]),
        helper.make_node("Cast", ["d"], ["e"], to=TensorProto.DOUBLE),
        helper.make_node("Add", ["e", "table"], ["y"]),
    ]
    shape = ["batch", 32, 8, 8]
    graph = helper.make_graph(
        nodes,
        "two convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, shape)],
        [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items()],
    )
    graph.doc_string = "?"  # so that tensors begin at odd places
    return helper.make_model(graph, ir_version=10)


@pytest.fixture(params=["model.bin", "inside.onnx", "beside.onnx"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The file that the weights are in is the last one written."""
    file = tmp_path / request.param
    if file.suffix == ".bin":
        write_model(file, read_onnx(proto()))
    else:
        outside = request.param == "beside.onnx"
        onnx.save(proto(), file, save_as_external_data=outside, location="weights")
    return file


def weights(path: Path) -> Path:
    """The file that the weights are in."""
    beside = path.with_name("weights")
    return beside if beside.exists() else path


def results(model: cnnrt.Model) -> list[Array]:
    """Results that need the original weights: another batch, and a tensor before its norm."""
    return [model(np.concatenate([X, X])), model.run(X, outputs=["c"])]


def test_weights_stay_in_their_file(path: Path) -> None:
    model = cnnrt.load(path)
    use = model.memory()
    large = sum(value.nbytes for value in CONSTANTS.values() if value.nbytes > 4096)
    assert large <= use.stored_mapped <= use.stored
    reference = cnnrt.Model(read_onnx(proto()))
    assert np.array_equal(model(X), reference(X))
    for got, want in zip(results(model), results(reference), strict=True):
        assert np.array_equal(got, want)


def test_another_file_in_its_place_does_not_matter(path: Path) -> None:
    model = cnnrt.load(path)
    want = results(cnnrt.load(path))
    other = path.with_name("other")
    other.write_bytes(b"something else")
    other.replace(weights(path))
    assert all(map(np.array_equal, results(model), want))
    weights(path).unlink()
    model = pickle.loads(pickle.dumps(model))
    assert all(map(np.array_equal, results(model), want))


@pytest.mark.parametrize("content", [b"", b"something else"], ids=["empty", "other"])
def test_a_file_written_to_in_place(content: bytes, path: Path) -> None:
    """A plan runs on, as it reads nothing in the file. Calls that need the file are refused."""
    model = cnnrt.load(path)
    want = model(X)
    weights(path).write_bytes(content)
    assert np.array_equal(model(X), want)
    attempts = [
        lambda: model(np.concatenate([X, X])),
        lambda: model.run(X, outputs=["c"]),
        lambda: pickle.dumps(model),
        lambda: model.save_compiled(path.with_name("compiled")),
    ]
    for attempt in attempts:
        with pytest.raises(FormatError, match=f"{weights(path).name}: was changed in place"):
            attempt()
    assert np.array_equal(model(X), want)


def test_bytes_are_not_copied() -> None:
    data = proto().SerializeToString()
    graph = read_onnx(data)
    whole = np.frombuffer(data, np.uint8)
    for name, value in CONSTANTS.items():
        assert np.array_equal(graph.constants[name], value)
        assert np.shares_memory(whole, graph.constants[name]) == (value.nbytes >= 4096)
    assert cnnrt.load(data).memory().stored_mapped == 0


def test_a_large_tensor_of_another_size(tmp_path: Path) -> None:
    damaged = proto()
    damaged.graph.initializer[0].dims[0] = 31
    with pytest.raises(FormatError, match=r"'w': expected 35712 bytes of raw data, got 36864"):
        read_onnx(damaged.SerializeToString())
    damaged.graph.initializer[0].dims[:] = [0, 2**62]
    with pytest.raises(FormatError, match=r"'w': expected 0 bytes of raw data"):
        read_onnx(damaged.SerializeToString())


def test_large_tensors_of_other_dtypes() -> None:
    values: dict[str, Array] = {
        "half": np.arange(5000, dtype=np.float16),
        "int": np.arange(5000, dtype=np.int64),
        "bool": np.arange(5000) % 3 == 0,
    }
    changed = proto()
    tensors = [numpy_helper.from_array(value, name) for name, value in values.items()]
    tensors += [helper.make_tensor("brain", TensorProto.BFLOAT16, [5000], np.arange(5000.0))]
    tensors += [helper.make_tensor("typed", TensorProto.FLOAT, [5000], np.arange(5000.0))]
    tensors[2].raw_data = tensors[2].raw_data.replace(b"\1", b"\2")  # true as well
    changed.graph.initializer.extend(tensors)
    constants = read_onnx(changed.SerializeToString()).constants
    for name, value in values.items():
        assert constants[name].dtype == value.dtype
        assert np.array_equal(constants[name], value)
    rounded = np.arange(5000, dtype=np.float32)
    assert np.abs(constants["brain"] - rounded).max() <= 16
    assert np.array_equal(constants["typed"], rounded)


def test_many_files_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each mapped file takes a handle; those beyond a number are read."""
    monkeypatch.setattr(tensors, "MAX_MAPPED", 2)
    model, path = proto(), tmp_path / "model.onnx"
    for tensor in model.graph.initializer:
        (tmp_path / tensor.name).write_bytes(b"?" * 3 + tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=tensor.name)
        tensor.external_data.add(key="offset", value="3")
    path.write_bytes(model.SerializeToString())
    constants = read(path).graph.constants
    for name, value in CONSTANTS.items():
        assert np.array_equal(constants[name], value)
    assert sum(file_of(value) is not None for value in constants.values()) == 2
    for name in ("w", "table"):
        (tmp_path / name).write_bytes(CONSTANTS[name].tobytes())
        with pytest.raises(FormatError, match=f"external data at 3 of '{name}', which is shorter"):
            read(path)
        (tmp_path / name).write_bytes(b"?" * 3 + CONSTANTS[name].tobytes())
