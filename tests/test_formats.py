"""model.bin: what is written is read back, by cnnrt and by others; what is damaged is refused."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load as load_tensors

from cnnrt.errors import CnnrtError, FormatError, GraphError, UnsupportedOperator
from cnnrt.formats import Document, read, read_model, write_model
from cnnrt.graph import Graph, Node, TensorSpec
from cnnrt.preprocessing import Preprocessing
from cnnrt.storage.files import atomic_write

FORMAT_MD = Path(__file__).parent.parent / "docs" / "format.md"


def tiny() -> Graph:
    """Convolution, clip and flatten on 2 x 2 pixels of grey."""
    return Graph(
        inputs=[TensorSpec("x", ("batch", 1, 2, 2))],
        outputs=[TensorSpec("scores", ("batch", 2))],
        nodes=[
            Node(
                "conv", "conv", ["x", "conv.weight", "conv.bias"], ["conv"], {"pads": [0, 0, 0, 0]}
            ),
            Node("clip", "clip", ["conv", "", "high"], ["clip"]),
            Node("flatten", "flatten", ["clip"], ["scores"]),
        ],
        constants={
            "conv.weight": np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2) / 7,
            "conv.bias": np.array([0.1, -0.1], np.float32),
            "high": np.array(6, np.float32),
        },
        name="tiny",
    )


PREPROCESSING = Preprocessing(size=(2, 2), resize=2, channels="L", scale=1 / 255)
LABELS = ["dark", "light"]


def tiny_bytes() -> bytes:
    data = write_model(
        None, tiny(), preprocessing=PREPROCESSING, labels=LABELS, notice="Nobody's: public domain."
    )
    assert data is not None
    return data


def with_header(change: Callable[[dict[str, Any]], Any], data: bytes | None = None) -> bytes:
    """The tiny model with its header changed."""
    data = data or tiny_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def with_json(key: str, change: Callable[[Any], Any]) -> bytes:
    """The tiny model with one document of its metadata changed, or replaced by what is returned."""

    def edit(header: dict[str, Any]) -> None:
        metadata = header["__metadata__"]
        document = json.loads(metadata[key])
        result = change(document)
        metadata[key] = json.dumps(document if result is None else result)

    return with_header(edit)


def assert_same(a: Graph, b: Graph) -> None:
    assert (a.name, a.inputs, a.outputs) == (b.name, b.inputs, b.outputs)
    assert [(n.op, n.name, n.inputs, n.outputs) for n in a.nodes] == [
        (n.op, n.name, n.inputs, n.outputs) for n in b.nodes
    ]
    assert list(a.constants) == list(b.constants)
    for name, array in a.constants.items():
        np.testing.assert_array_equal(array, b.constants[name], strict=True)


# What is written is read back -------------------------------------------------------------------


@pytest.mark.parametrize("where", ["bytes", "file"])
def test_round_trip(where: str, tmp_path: Path) -> None:
    source: Path | bytes = tiny_bytes()
    if where == "file":
        source = tmp_path / "tiny.bin"
        write_model(
            source,
            tiny(),
            preprocessing=PREPROCESSING,
            labels=LABELS,
            notice="Nobody's: public domain.",
        )
        assert source.read_bytes() == tiny_bytes()
    document = read(source)
    assert_same(document.graph, tiny())
    assert document.graph.nodes[0]["pads"] == [0, 0, 0, 0]
    assert document.graph.nodes[0]["group"] == 1  # a default, which the file leaves out
    assert document.preprocessing == PREPROCESSING
    assert document.labels == LABELS
    assert document.metadata["notice"] == "Nobody's: public domain."
    assert document.metadata["producer"]["name"] == "cnnrt"


def test_bytes_depend_only_on_the_model() -> None:
    document = read(tiny_bytes())
    again = write_model(
        None,
        document.graph,
        preprocessing=document.preprocessing,
        labels=document.labels,
        notice=document.metadata["notice"],
    )
    assert again == tiny_bytes()
    shuffled = tiny()
    shuffled.nodes[0].attributes = {"group": 1, "pads": [0, 0, 0, 0]}
    assert write_model(None, shuffled) == write_model(None, tiny())


def test_safetensors_reads_it(tmp_path: Path) -> None:
    data = tiny_bytes()
    tensors = load_tensors(data)
    for name, array in tiny().constants.items():
        np.testing.assert_array_equal(tensors[name], array)
    assert (8 + int.from_bytes(data[:8], "little")) % 64 == 0
    path = tmp_path / "tiny.bin"
    path.write_bytes(data)
    with safe_open(path, framework="numpy") as file:
        assert json.loads(file.metadata()["cnnrt.labels"]) == LABELS
        assert json.loads(file.metadata()["cnnrt.format_version"]) == 1


@pytest.mark.parametrize(
    "array",
    [
        np.array(3, np.int64),
        np.array([True, False]),
        np.zeros((0, 3), np.float32),
        np.arange(6, dtype=np.float64).reshape(2, 3).T,
        np.arange(4, dtype=">f4"),
        np.arange(4, dtype=np.uint8),
        np.arange(8, dtype=np.float16)[::2],
    ],
    ids=lambda a: f"{a.dtype.str}{list(a.shape)}",
)
def test_constants_of_every_kind(array: Any) -> None:
    graph = tiny()
    graph.constants["extra"] = array
    data = write_model(None, graph, float16=True)
    assert data is not None
    found = read(data).graph.constants["extra"]
    expected = array.astype(array.dtype.newbyteorder("="))
    np.testing.assert_array_equal(found, expected, strict=True)


def test_float16() -> None:
    graph = tiny()
    graph.constants |= {
        "large": np.full((2, 2), 65520, np.float32),  # rounds to infinity
        "infinite": np.full((2, 2), np.inf, np.float32),
        "vector": np.array([0.1], np.float32),
        "indices": np.zeros((2, 2), np.int64),
    }
    data = write_model(None, graph, float16=True)
    assert data is not None
    stored = {name: a.dtype.name for name, a in load_tensors(data).items()}
    assert stored == {
        "conv.weight": "float16",
        "conv.bias": "float32",
        "high": "float32",
        "large": "float32",
        "infinite": "float16",
        "vector": "float32",
        "indices": "int64",
    }
    constants = read(data).graph.constants
    assert {name: a.dtype for name, a in constants.items()} == {
        name: a.dtype for name, a in graph.constants.items()
    }
    weight = graph.constants["conv.weight"]
    np.testing.assert_array_equal(constants["conv.weight"], weight.astype(np.float16))
    np.testing.assert_array_equal(constants["infinite"], graph.constants["infinite"])


def test_bfloat16() -> None:
    halves = write_model(None, tiny(), float16=True)
    assert halves is not None
    bits = load_tensors(halves)["conv.weight"].view(np.uint16)
    data = with_header(lambda header: header["conv.weight"].update(dtype="BF16"), halves)
    graph = read(data).graph
    expected = (bits.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(graph.constants["conv.weight"], expected, strict=True)
    again = write_model(None, graph)
    assert again is not None
    assert b'"conv.weight":{"dtype":"BF16"' in again  # as it was read
    assert_same(read(again).graph, graph)
    header = json.loads(again[8 : 8 + int.from_bytes(again[:8], "little")])
    wrong = header["__metadata__"]["cnnrt.graph"].replace(
        '"conv.weight":"float32"', '"conv.weight":"float64"'
    )
    with pytest.raises(FormatError, match=r"'conv.weight': expected float64, got bfloat16"):
        read(with_header(lambda h: h["__metadata__"].update({"cnnrt.graph": wrong}), again))


def test_attributes_of_every_kind() -> None:
    graph = tiny()
    size = Node(
        "constant_of_shape",
        "fill",
        ["shape"],
        ["fill"],
        {"value": float("-inf"), "dtype": "float32"},
    )
    resize = Node(
        "resize",
        "resize",
        ["fill", "", "", "sizes"],
        ["resize"],
        {"mode": "linear", "axes": (0, np.int64(1)), "cubic_coeff_a": np.float32(-0.5)},
    )
    graph.constants |= {"shape": np.array([2, 2]), "sizes": np.array([4, 4])}
    graph.nodes += [size, resize]
    data = write_model(None, graph)
    assert data is not None
    found = {node.name: node for node in read(data).graph.nodes}
    assert found["fill"]["value"] == float("-inf")
    assert found["resize"]["axes"] == [0, 1]
    assert found["resize"]["cubic_coeff_a"] == -0.5
    assert found["resize"]["antialias"] == 0


def test_what_a_file_cannot_hold_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    cases: list[tuple[str, Callable[[Graph], Any]]] = [
        ("attribute 'pads' is a ndarray", lambda g: g.nodes[0].attributes.update(pads=np.zeros(4))),
        ("dtype complex64", lambda g: g.constants.update(high=np.zeros(1, np.complex64))),
        ("reads 'absent'", lambda g: g.nodes[0].inputs.__setitem__(1, "absent")),
        ("no earlier node makes", lambda g: g.nodes.reverse()),
        ("control code", lambda g: setattr(g.nodes[0], "name", "a\nb")),
    ]
    for message, damage in cases:
        graph = tiny()
        damage(graph)
        with pytest.raises(GraphError, match=message):
            write_model(path, graph)
        assert list(tmp_path.iterdir()) == []


# The document that specifies the format ---------------------------------------------------------


def test_the_example_in_the_documentation(tmp_path: Path) -> None:
    text = FORMAT_MD.read_text()
    graph, others = (
        json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    )
    metadata = {**others, "cnnrt.graph": json.dumps(graph)}
    weight, bias = np.ones((2, 1, 2, 2), np.float32), np.array([0.5, -9], np.float32)
    header = {
        "__metadata__": metadata,
        "conv.weight": {"dtype": "F32", "shape": [2, 1, 2, 2], "data_offsets": [0, 32]},
        "conv.bias": {"dtype": "F32", "shape": [2], "data_offsets": [32, 40]},
    }
    encoded = json.dumps(header).encode()
    path = tmp_path / "model.bin"
    path.write_bytes(
        len(encoded).to_bytes(8, "little") + encoded + weight.tobytes() + bias.tobytes()
    )
    document = read(path)
    assert document.labels == ["dark", "light"]
    assert document.preprocessing == Preprocessing(size=(2, 2), channels="L", scale=1 / 255)
    assert [node.op for node in document.graph.nodes] == ["conv", "relu", "flatten"]

    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(snippet.replace('"model.bin"', repr(str(path))), names)
    assert names["graph"] == graph
    np.testing.assert_array_equal(names["weight"], weight)


# Damaged files ----------------------------------------------------------------------------------


def test_what_is_no_model(tmp_path: Path) -> None:
    def file(content: bytes, name: str = "model.bin") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    cases = [
        (tmp_path / "absent.bin", "no such file"),
        (tmp_path, "is a directory"),
        (file(b""), "is empty"),
        (
            file(b"This is the story of a file.\n", "text.bin"),
            "neither a model.bin nor an ONNX file",
        ),
        (file(b"hello\n", "short.bin"), "neither a model.bin nor an ONNX file"),
        (file(b"{}", "json.bin"), "neither a model.bin nor an ONNX file"),
        (file(b"some text", "text.onnx"), "not an ONNX model"),
        (file(b"\xff" * 100, "noise.bin"), "neither a model.bin nor an ONNX file"),
        (file(tiny_bytes()[:-1], "cut.bin"), "is cut off or damaged"),
        (file(tiny_bytes()[:100], "header.bin"), "is cut off: its header alone"),
    ]
    for path, message in cases:
        with pytest.raises(FormatError, match=re.escape(message)) as raised:
            read(path)
        assert "\n" not in str(raised.value)
        assert str(path) in str(raised.value)


def test_a_safetensors_file_without_a_network() -> None:
    data = with_header(lambda header: header.pop("__metadata__"))
    with pytest.raises(FormatError, match="safetensors file without a network"):
        read(data)


def test_a_later_version_is_refused() -> None:
    with pytest.raises(FormatError, match=r"format version 3.*reads up to 2"):
        read(with_json("cnnrt.format_version", lambda _: 3))


def test_other_programs_metadata_are_left_alone() -> None:
    data = with_header(lambda header: header["__metadata__"].update(format="pt"))
    assert read(data).metadata["format"] == "pt"


def drop_bias(graph: Any) -> None:
    """Leaves the tensor of the bias in the file, unknown to the graph."""
    graph["constants"].pop("conv.bias")
    graph["nodes"][0]["inputs"].pop()


GRAPH_DAMAGE: list[tuple[str, Callable[[Any], Any]]] = [
    ("expected an object, got 7", lambda _: 7),
    ("lacks the key 'nodes'", lambda g: g.pop("nodes") and None),
    ("unknown key 'code'", lambda g: g.update(code="import os")),
    ("expected a list", lambda g: g.update(nodes={})),
    ("inputs[0]: lacks the key 'dtype'", lambda g: g["inputs"][0].pop("dtype") and None),
    ("shape[1]: expected an integer from 0", lambda g: g["inputs"][0].update(shape=[1, -1])),
    ("shape[0]: expected an integer", lambda g: g["inputs"][0].update(shape=[1.5])),
    ("shape[0]: expected an integer", lambda g: g["inputs"][0].update(shape=[True])),
    ("at most 32 axes", lambda g: g["inputs"][0].update(shape=[2**31 - 1] * 3)),
    ("at most 32 axes", lambda g: g["inputs"][0].update(shape=[1] * 33)),
    ("dtype: expected one of", lambda g: g["inputs"][0].update(dtype="object")),
    ("name of 1 to 1000", lambda g: g["inputs"][0].update(name="")),
    ("name of 1 to 1000", lambda g: g["inputs"][0].update(name="\x1b[31m")),
    ("two inputs or constants", lambda g: g["inputs"].append(g["inputs"][0])),
    ("no outputs", lambda g: g.update(outputs=[])),
    ("two outputs", lambda g: g["outputs"].append(g["outputs"][0])),
    ("nothing makes the output", lambda g: g["outputs"][0].update(name="y")),
    ("makes 'conv' again", lambda g: g["nodes"][1].update(outputs=["conv"])),
    ("makes 'x' again", lambda g: g["nodes"][1].update(outputs=["x"])),
    ("at least one name", lambda g: g["nodes"][1].update(outputs=[""])),
    ("no earlier node makes", lambda g: g["nodes"][0].update(inputs=["scores"])),
    ("inputs[0]: expected a name", lambda g: g["nodes"][0].update(inputs=[None])),
    ("expected a list, got 'x'", lambda g: g["nodes"][0].update(inputs="x")),
    ("attributes: expected an object", lambda g: g["nodes"][0].update(attributes=[])),
    ("expected integer", lambda g: g["nodes"][0]["attributes"].update(group="1")),
    ("expected string", lambda g: g["nodes"][0]["attributes"].update(auto_pad=0)),
    ("integer from -9223", lambda g: g["nodes"][0]["attributes"].update(pads=[2**63])),
    ("list of them", lambda g: g["nodes"][0]["attributes"].update(pads=[[[1]]])),
    ("unknown key", lambda g: g["nodes"][0]["attributes"].update(pads={"float": "inf", "x": 1})),
    ("'conv.bias' is not one of the graph's", drop_bias),
    (
        "constants['conv.bias']: expected one of",
        lambda g: g["constants"].update({"conv.bias": "f4"}),
    ),
    ("expected int64, got float32", lambda g: g["constants"].update({"conv.bias": "int64"})),
    ("'extra' has no tensor", lambda g: g["constants"].update(extra="float32")),
]


@pytest.mark.parametrize(("message", "change"), GRAPH_DAMAGE, ids=[m for m, _ in GRAPH_DAMAGE])
def test_damaged_graphs(message: str, change: Callable[[Any], Any]) -> None:
    with pytest.raises(FormatError, match=re.escape(message)) as raised:
        read(with_json("cnnrt.graph", change))
    assert "\n" not in str(raised.value)


def test_operators_that_cnnrt_lacks() -> None:
    with pytest.raises(UnsupportedOperator, match="no operator 'exec'"):
        read(with_json("cnnrt.graph", lambda g: g["nodes"][1].update(op="exec")))
    with pytest.raises(UnsupportedOperator, match="attribute 'speed'"):
        read(with_json("cnnrt.graph", lambda g: g["nodes"][0]["attributes"].update(speed=9)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cnnrt.labels", "dark"),
        ("cnnrt.labels", [1]),
        ("cnnrt.labels", ["\x1b[2J"]),
        ("cnnrt.preprocessing", {}),
        ("cnnrt.preprocessing", {"size": [2**40, 1]}),
        ("cnnrt.preprocessing", {"size": [2, 2], "std": [0, 1, 1]}),
        ("cnnrt.preprocessing", {"size": [2, 2], "resize": True}),
        ("cnnrt.preprocessing", {"size": [2, 2], "interpolation": []}),
        ("cnnrt.format_version", "1"),
        ("cnnrt.format_version", 0),
    ],
)
def test_damaged_metadata(key: str, value: Any) -> None:
    with pytest.raises(FormatError, match=key):
        read(with_json(key, lambda _: value))


@pytest.mark.parametrize(
    "text", ["{", "NaN", '{"a": 1, "a": 2}', "[" * 100_000, "1" * 10_000, '"\\ud800"', ""]
)
def test_damaged_json(text: str) -> None:
    data = with_header(lambda header: header["__metadata__"].update({"cnnrt.graph": text}))
    with pytest.raises(FormatError):
        read(data)


def test_headers_that_claim_too_much() -> None:
    cases: list[Callable[[dict[str, Any]], Any]] = [
        lambda h: h["high"].update(data_offsets=[0, 2**62]),
        lambda h: h["high"].update(shape=[2**40]),
        lambda h: h["high"].update(shape=[1] * 33),
        lambda h: h["high"].update(dtype="F8"),
        lambda h: h["high"].update(data_offsets=[1]),
        lambda h: h.update(more={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}),
        lambda h: h.update(__metadata__=[]),
        lambda h: h["__metadata__"].update(a=1),
    ]
    for change in cases:
        with pytest.raises(FormatError):
            read(with_header(change))
    with pytest.raises(FormatError):
        read((2**63).to_bytes(8, "little") + b"{}")


def damaged(data: bytes) -> Iterator[bytes]:
    """The file cut off at every length, with flipped bits, with other characters; and noise."""
    yield from (data[:n] for n in range(len(data)))
    generator = np.random.default_rng(0)
    for i in range(len(data)):
        flipped, text = data[i] ^ 1 << generator.integers(8), generator.integers(32, 127)
        for value in (flipped, text):
            yield data[:i] + bytes([int(value)]) + data[i + 1 :]
    for _ in range(500):
        noise = generator.integers(256, size=generator.integers(200), dtype=np.uint8).tobytes()
        yield noise
        yield data[:8] + noise
        yield (len(noise) // 2).to_bytes(8, "little") + b"{" + noise


def test_any_damage_gives_an_error_or_a_model() -> None:
    good = 0
    for data in damaged(tiny_bytes()):
        try:
            assert isinstance(read_model(data), Document)
            good += 1
        except CnnrtError as error:
            assert "\n" not in str(error)
    assert good  # changed weights, for example


# Writing files ----------------------------------------------------------------------------------


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def chunks() -> Iterator[bytes]:
        yield b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(path, chunks())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    atomic_write(path, [b"new", memoryview(b"er")])
    assert path.read_bytes() == b"newer"
    with pytest.raises(OSError, match="No such file"):
        atomic_write(tmp_path / "absent" / "file", [b""])
    with pytest.raises(OSError, match=r"[Dd]irectory"):
        atomic_write(tmp_path, [b""])


@pytest.mark.skipif(os.name != "posix", reason="permissions and links of POSIX")
def test_permissions_links_and_devices(tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    link.symlink_to(path)
    atomic_write(link, [b"content"])
    assert link.is_symlink()
    (plain := tmp_path / "plain").touch()
    assert path.stat().st_mode == plain.stat().st_mode
    atomic_write("/dev/null", [b"nothing"])
    assert Path("/dev/null").is_char_device()
