"""Compiled files: weights packed, mapped and shared; damaged or foreign files do no harm."""

from __future__ import annotations

import json
import math
import mmap
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import cnnrt
from checks import Random
from cnnrt import _core, cli
from cnnrt.cost import WINOGRAD
from cnnrt.errors import FormatError, GraphError
from cnnrt.formats import read, write_model
from cnnrt.graph import Array, Graph, TensorSpec
from cnnrt.lowering.conv_winograd import WINOGRAD_G
from cnnrt.weights import packed
from cnnrt.weights.lazy import LazyArray, lazy, same
from networks import network

KINDS = {"planar", "winograd4", "winograd2", "depthwise", "im2col", "groups", "grouped 3", "linear"}


@pytest.fixture
def graph(random: Random) -> Graph:
    """A network that packs weights in every way; with norms, so that weights are folded."""
    x = random(1, 3, 16, 16)
    nodes: list[tuple[Any, ...]] = []
    constants: dict[str, Array] = {}

    def conv(y: str, x: str, m: int, c: int, k: int, group: int = 1) -> None:
        constants[f"{y}.w"] = random(m, c // group, k, k) / math.sqrt(c // group * k * k)
        names = ["scale", "bias", "mean", "var"]
        for name in names:
            constants[f"{y}.{name}"] = random(m) / 10
        constants[f"{y}.scale"] += 1
        constants[f"{y}.var"] = constants[f"{y}.var"] ** 2 + 1
        nodes.append((f"{y}.conv", "conv", f"{x} {y}.w", {"pads": [k // 2] * 4, "group": group}))
        norm = " ".join([f"{y}.conv", *(f"{y}.{n}" for n in names)])
        nodes.append((f"{y}.norm", "batch_normalization", norm))
        nodes.append((y, "relu", f"{y}.norm"))

    conv("first", "x", 48, 3, 3)
    conv("four", "first", 48, 48, 3)
    conv("two", "four", 48, 48, 3)
    conv("depth", "two", 48, 48, 3, 48)
    conv("one", "depth", 48, 48, 1)
    conv("lanes", "one", 48, 48, 3, 12)
    conv("groups", "lanes", 48, 48, 3, 3)
    constants |= {"fc": random(48, 16), "fc.bias": random(16)}
    nodes += [
        ("pool", "global_average_pool", "groups"),
        ("flat", "flatten", "pool"),
        ("scores", "gemm", "flat fc fc.bias"),
    ]
    made = network({"x": x}, constants, *nodes, outputs=["scores"])
    made.inputs = [TensorSpec("x", ("batch", 3, "height", "width"))]
    return made


ALGORITHMS = {"four.conv": "winograd4", "two.conv": "winograd2", "one.conv": "im2col"}


@pytest.fixture
def model(graph: Graph) -> cnnrt.Model:
    return cnnrt.Model(
        graph, algorithm=ALGORITHMS, labels=list("abcdefghijklmnop"), notice="nobody's"
    )


@pytest.fixture
def x(random: Random) -> Array:
    return random(2, 3, 16, 16)


@pytest.fixture
def compiled(model: cnnrt.Model, x: Array, tmp_path: Path) -> Path:
    path = tmp_path / "packed.bin"
    model.save_compiled(path, x)
    return path


def changed(path: Path, change: Callable[[dict[str, Any]], Any], data: bytes | None = None) -> Path:
    """The file with its header changed, and perhaps other data."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    target = path.with_name("changed.bin")
    target.write_bytes(
        len(text).to_bytes(8, "little") + text + (content[8 + length :] if data is None else data)
    )
    return target


def no_packing(*_: Any, **__: Any) -> Any:
    raise AssertionError("a weight is packed that the file holds packed")


# What it holds ------------------------------------------------------------------------------------


def test_the_loaded_model_gives_the_same_bits_and_packs_nothing(
    model: cnnrt.Model, compiled: Path, x: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = model(x)
    for name in dir(_core):
        if name.startswith("pack_"):
            monkeypatch.setattr(_core, name, no_packing)
    again = cnnrt.load(compiled)
    assert np.array_equal(again(x), want)
    assert again.labels == model.labels and again.notice == "nobody's"
    use = again.memory()
    assert use.stored_mapped == use.stored > 0
    assert use.packed > use.packed_mapped > 0.9 * use.packed  # the rest: biases


def test_every_kind_of_weight_is_in_it(compiled: Path) -> None:
    tensors = load_file(compiled)  # by safetensors' own reader
    kinds = {n.removeprefix(packed.PREFIX).partition(":")[0] for n in tensors if packed.PREFIX in n}
    assert kinds == KINDS


def test_it_holds_the_portable_model(graph: Graph, compiled: Path, tmp_path: Path) -> None:
    document = read(compiled)
    assert list(document.graph.constants) == list(graph.constants)
    for name, value in graph.constants.items():
        np.testing.assert_array_equal(document.graph.constants[name], value, strict=True)
    portable = tmp_path / "portable.bin"
    write_model(portable, document.graph)
    assert not any(packed.PREFIX in name for name in load_file(portable))


def test_other_shapes_inner_tensors_and_variants_work(
    model: cnnrt.Model, compiled: Path, x: Array
) -> None:
    again = cnnrt.load(compiled)
    wide = np.concatenate([x, x], axis=3)
    assert np.array_equal(again(wide), model(wide))
    for name in ("four.conv", "groups.norm", "flat"):  # before and after what is folded
        assert np.array_equal(again.run(x, [name]), model.run(x, [name])), name
    other = cnnrt.load(compiled, algorithm="im2col")
    assert np.array_equal(other(x), cnnrt.Model(model.graph, algorithm="im2col")(x))


def test_it_can_be_compiled_again(
    model: cnnrt.Model, compiled: Path, x: Array, tmp_path: Path
) -> None:
    again = cnnrt.load(compiled)
    again.save_compiled(tmp_path / "again.bin", x)
    assert (tmp_path / "again.bin").read_bytes() == compiled.read_bytes()
    again.save_compiled(compiled, x)  # onto the file that it is mapped from
    assert np.array_equal(cnnrt.load(compiled)(x), model(x))
    assert np.array_equal(again(x), model(x))


def test_bytes_instead_of_a_path(model: cnnrt.Model, compiled: Path, x: Array) -> None:
    data = compiled.read_bytes()
    for start in range(3):  # at any alignment
        again = cnnrt.load((b"." * start + data)[start:])
        assert np.array_equal(again(x), model(x))
        assert again.memory().stored_mapped == again.memory().packed_mapped == 0


def test_tuned_algorithms_are_kept(
    graph: Graph, x: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNRT_CACHE", str(tmp_path / "cache"))
    model = cnnrt.Model(graph)
    found = model.tune(x)
    assert found
    model.save_compiled(tmp_path / "tuned.bin", x)
    monkeypatch.setattr(cnnrt.model.tuning, "tune", no_packing)
    again = cnnrt.load(tmp_path / "tuned.bin")
    assert read(tmp_path / "tuned.bin").compiled.algorithms == found  # type: ignore[union-attr]
    assert again.describe(x).count("asked for") == model.describe(x).count("asked for") > 0
    assert np.array_equal(again(x), model(x))
    overruled = cnnrt.load(tmp_path / "tuned.bin", algorithm={"four.conv": "im2col"})
    line = next(s for s in overruled.describe(x).splitlines() if s.startswith("four.conv"))
    assert "im2col: asked for" in line


def test_float16_stays_half_the_size(graph: Graph, x: Array, tmp_path: Path) -> None:
    half, path = tmp_path / "half.bin", tmp_path / "half.packed.bin"
    write_model(half, graph, float16=True)
    model = cnnrt.load(half, algorithm=ALGORITHMS)
    model.save_compiled(path, x)
    assert load_file(path)["four.w"].dtype == np.float16
    again = cnnrt.load(path)
    assert np.array_equal(again(x), model(x))
    assert again.memory().stored < 0.6 * cnnrt.Model(graph).memory().stored


def test_sizes_left_open_must_be_given(model: cnnrt.Model, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="sizes of its inputs open"):
        model.save_compiled(tmp_path / "none.bin")
    assert not list(tmp_path.iterdir())


# Another machine, another version -----------------------------------------------------------------


def test_every_tier_runs_it(model: cnnrt.Model, compiled: Path, x: Array, isa: str) -> None:
    """A tier that needs other packed weights packs them itself."""
    document = read(compiled)
    assert document.compiled is not None
    here = cnnrt.Model(document.graph, isa=isa, ready=document.compiled.weights)
    assert np.array_equal(here(x), cnnrt.Model(model.graph, isa=isa)(x))


def test_packed_by_another_version_it_is_packed_anew(
    model: cnnrt.Model, compiled: Path, x: Array
) -> None:
    def later(header: dict[str, Any]) -> None:
        document = json.loads(header["__metadata__"]["cnnrt.compiled"])
        document["packing"] += 1
        header["__metadata__"]["cnnrt.compiled"] = json.dumps(document)

    again = cnnrt.load(changed(compiled, later))
    assert np.array_equal(again(x), model(x))
    assert again.memory().packed_mapped == 0


def test_weights_at_any_address() -> None:
    """Weights lie at odd addresses if they are mapped from an ONNX file."""
    w = np.arange(20 * 18 * 9, dtype=np.float32).reshape(20, 18, 9)
    odd = np.frombuffer(b"?" + w.tobytes(), np.float32, offset=1).reshape(w.shape)
    assert not odd.flags.aligned
    g = WINOGRAD_G[4, 3, 1]
    for pack in (
        _core.pack_conv,
        _core.pack_planar,
        lambda w: _core.pack_depthwise(w[:, 0]),
        lambda w: _core.pack_depthwise(w.reshape(20, -1)),
        lambda w: _core.pack_conv_grouped(w[:, :9], 2, [0, 0], 2),
        lambda w: _core.pack_winograd(w.reshape(20, 18, 1, 3, 3), g, g),
    ):
        assert bytes(memoryview(pack(odd))) == bytes(memoryview(pack(w)))


def test_the_order_of_packed_weights() -> None:
    """If you change one of these, raise `packed.PACKING`, and then change this test."""
    assert packed.PACKING == 1
    w = np.arange(20 * 18 * 9, dtype=np.float32).reshape(20, 18, 9)
    wide = np.zeros((32, 18, 9), np.float32)  # rounded up to blocks of 16 outputs
    wide[:20] = w
    by_block = wide.reshape(2, 16, 18, 9).transpose(0, 2, 3, 1)  # block, channel, tap, output

    def values(memory: Any) -> Array:
        return np.frombuffer(memory, np.float32)

    assert np.array_equal(values(_core.pack_planar(w)), by_block.reshape(-1))
    matrix = w.reshape(20, -1)
    memory = _core.Memory.empty(32 * 18 * 9 * 4)
    for column in (0, 100):  # the second part transposed
        part = np.asfortranarray(matrix[:, 100:]) if column else matrix[:, :100]
        _core.pack_linear(memory, 18 * 9, 0, column, part)
    assert np.array_equal(values(memory), by_block.reshape(-1))
    _core.pack_linear(memory, 18 * 9, 16, 0, 2 * matrix[16:])
    assert np.array_equal(values(memory).reshape(2, -1)[1], 2 * by_block[1].reshape(-1))
    for row, column in ((0, 1), (16, 0), (-16, 0), (8, 0), (0, -1)):
        with pytest.raises(ValueError, match="too small"):
            _core.pack_linear(memory, 18 * 9, row, column, matrix)
    halves = [by_block[:, c].transpose(0, 2, 1, 3) for c in (slice(16), slice(16, 18))]
    want = np.concatenate([h.reshape(2, -1) for h in halves], axis=1)
    assert np.array_equal(values(_core.pack_conv(w)), want.reshape(-1))
    want = wide[:, 0].reshape(2, 16, 9).transpose(0, 2, 1)
    assert np.array_equal(values(_core.pack_depthwise(w[:, 0])), want.reshape(-1))
    rng = np.random.default_rng(0)
    for kernel, stride, outputs in WINOGRAD:
        g_h, g_w = (WINOGRAD_G[(1, 1, 1) if k == 1 else (outputs, k, stride)] for k in kernel)
        narrow = np.zeros((32, 18, math.prod(kernel)), np.float32)
        narrow[:20] = rng.standard_normal((20, *narrow.shape[1:]))
        transformed = np.einsum("ia,ocab,jb->ijoc", g_h, narrow.reshape(32, 18, *kernel), g_w)
        want = transformed.reshape(-1, 2, 16, 18).transpose(0, 1, 3, 2)
        got = values(_core.pack_winograd(narrow[:20].reshape(20, 18, 1, *kernel), g_h, g_w))
        np.testing.assert_allclose(got, want.reshape(-1), rtol=1e-6, atol=1e-6)
    # Two groups of 9 and 10 x 9: block 0 sees channels of both, block 1 those of the second.
    small = w[:, :9]
    grouped = values(_core.pack_conv_grouped(small, 2, [0, 0], 2)).reshape(2, -1)[:, : 18 * 9 * 16]
    dense = np.zeros((32, 18, 9), np.float32)
    dense[:10, :9], dense[10:20, 9:] = small[:10], small[10:]
    dense = dense.reshape(2, 16, 18, 9).transpose(0, 2, 3, 1)
    halves = [dense[:, c].transpose(0, 2, 1, 3) for c in (slice(16), slice(16, 18))]
    want = np.concatenate([h.reshape(2, -1) for h in halves], axis=1)
    assert np.array_equal(grouped, want)


# Damaged ------------------------------------------------------------------------------------------


def resized(shape: Callable[[int], int]) -> Callable[[dict[str, Any]], None]:
    """Moves the boundary between the first two packed weights."""

    def change(header: dict[str, Any]) -> None:
        names = sorted(n for n in header if n.startswith(packed.PREFIX))
        first, second = header[names[0]], header[names[1]]
        floats = shape(first["shape"][0])
        end = first["data_offsets"][0] + 4 * floats
        second["shape"] = [(second["data_offsets"][1] - end) // 4]
        first["shape"], first["data_offsets"][1] = [floats], end
        second["data_offsets"][0] = end

    return change


def compiled_document(**values: Any) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        document = json.loads(header["__metadata__"]["cnnrt.compiled"]) | values
        header["__metadata__"]["cnnrt.compiled"] = json.dumps(document)

    return change


def as_halves(header: dict[str, Any]) -> None:
    entry = next(e for n, e in header.items() if n.startswith(packed.PREFIX))
    entry["dtype"], entry["shape"] = "F16", [entry["shape"][0] * 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (resized(lambda n: n - 16), "the layer needs"),
        (resized(lambda n: n + 16), "the layer needs"),
        (resized(lambda n: n - 4), "lines of 16 float32"),
        (resized(lambda n: n - n), "bytes, the file holds 0; compile the model again"),
        (as_halves, "lines of 16 float32"),
        (compiled_document(packing=0), "packing: expected an integer"),
        (compiled_document(packing=True), "packing: expected an integer"),
        (compiled_document(isa=7), "isa: expected a name"),
        (compiled_document(algorithms={"four.conv": "fast"}), "expected one of auto"),
        (compiled_document(plan=[]), "unknown key 'plan'"),
        (lambda h: h["__metadata__"].pop("cnnrt.compiled"), "not one of the graph's constants"),
    ],
)
def test_damage_is_refused(
    compiled: Path, x: Array, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    path = changed(compiled, change)
    with pytest.raises(FormatError, match=re.escape(message)):
        cnnrt.load(path)(x)


def test_every_cut_is_refused(compiled: Path) -> None:
    data = compiled.read_bytes()
    path = compiled.with_name("cut.bin")
    for length in (*range(0, 200, 7), *range(200, len(data), len(data) // 40), len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(FormatError):
            cnnrt.load(path)


def test_a_file_cut_short_while_it_is_in_use_is_an_error(
    model: cnnrt.Model, compiled: Path, x: Array, tmp_path: Path
) -> None:
    # Its weights are mapped: a read beyond the end of the file would be a bus error.
    path = tmp_path / "cut.bin"
    shutil.copy(compiled, path)
    loaded = cnnrt.load(path)
    want = loaded(x)
    whole = path.read_bytes()
    os.truncate(path, 4096)
    for call in (loaded, loaded.run, loaded.describe, loaded.profile):
        with pytest.raises(cnnrt.FormatError, match=r"cut\.bin: was changed in place"):
            call(x)
    os.truncate(path, len(whole) - 1)  # within the last page, whose rest would read as zeros
    with pytest.raises(cnnrt.FormatError, match="changed in place"):
        loaded(x)
    with path.open("r+b") as file:
        file.write(whole)
    assert np.array_equal(loaded(x), want)


def test_any_values_may_stand_in_packed_weights(compiled: Path, x: Array) -> None:
    """They are numbers, not sizes or places: nonsense gives nonsense, never a fault."""
    content = bytearray(compiled.read_bytes())
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    end = begin + max(
        e["data_offsets"][1] for n, e in header.items() if n.startswith(packed.PREFIX)
    )
    content[begin:end] = np.random.default_rng(0).bytes(end - begin)
    compiled.write_bytes(content)
    assert cnnrt.load(compiled)(x).shape == (2, 16)


def test_packed_weights_at_the_end_of_the_file(
    compiled: Path, model: cnnrt.Model, x: Array
) -> None:
    """Kernels may read a vector beyond a weight; there is no page beyond a file."""
    content = compiled.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    data, moved = b"", {"__metadata__": header.pop("__metadata__")}
    for name in sorted(header, key=lambda n: n.startswith(packed.PREFIX)):
        begin, end = header[name]["data_offsets"]
        piece = content[8 + length + begin : 8 + length + end]
        moved[name] = {**header[name], "data_offsets": [len(data), len(data) + len(piece)]}
        data += piece

    def reorder(header: dict[str, Any]) -> None:
        header.clear()
        header.update(moved)

    assert np.array_equal(cnnrt.load(changed(compiled, reorder, data))(x), model(x))


def test_reserved_names(graph: Graph) -> None:
    graph.constants[packed.PREFIX + "x"] = np.zeros(3, np.float32)
    with pytest.raises(GraphError, match="reserved"):
        write_model(None, graph)


# The command --------------------------------------------------------------------------------------


def test_the_command(
    graph: Graph, x: Array, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "model.bin", tmp_path / "packed.bin"
    write_model(source, graph)
    shape = [str(n) for n in x.shape]
    assert cli.main(["compile", str(source), "-o", str(target), "--shape", *shape]) == 0
    assert f"wrote {target}: {target.stat().st_size:,} bytes" in capsys.readouterr().out
    assert np.array_equal(cnnrt.load(target)(x), cnnrt.load(source)(x))
    assert cnnrt.load(target).memory().stored_mapped > 0
    assert cli.main(["compile", str(source), "-o", str(target)]) == 1
    assert "--input" in capsys.readouterr().err
    assert cli.main(["compile", str(source), "-o", str(target), "--shape", "1", "4", "8", "8"]) == 1
    assert "takes shape" in capsys.readouterr().err


# What it is made of -------------------------------------------------------------------------------


def double(a: Array, by: float) -> Array:
    return a * np.float32(by)


def test_lazy_arrays() -> None:
    a = np.ones((2, 3), np.float32)
    b = lazy(a.shape, a.dtype, double, a, 2.0)
    assert isinstance(b, LazyArray)
    assert (b.shape, b.dtype, b.ndim, b.size, b.nbytes) == ((2, 3), np.float32, 2, 6, 24)
    assert np.array_equal(b, a * 2) and np.array_equal(b[0], a[0] * 2)
    assert np.array_equal(b + a, a * 3) and np.array_equal(a + b, a * 3)
    assert np.array_equal(b.reshape(-1), np.full(6, 2)) and b.tolist() == [[2] * 3] * 2
    nested = lazy(a.shape, a.dtype, double, b, 2.0)
    assert np.array_equal(nested, a * 4)
    assert same(nested, lazy(a.shape, a.dtype, double, lazy(a.shape, a.dtype, double, a, 2.0), 2.0))
    assert not same(b, lazy(a.shape, a.dtype, double, a, 3.0))
    assert not same(b, lazy(a.shape, a.dtype, double, a.copy(), 2.0))
    assert not same(b, nested)


def test_views_of_memory() -> None:
    data = mmap.mmap(-1, mmap.PAGESIZE)
    data[:3] = b"abc"
    view = _core.Memory.view(memoryview(data)[64:128])
    assert view.nbytes == 64 and not view.owned
    data[64:67] = b"xyz"
    assert bytes(memoryview(view))[:3] == b"xyz"
    assert memoryview(view).readonly
    with pytest.raises(BufferError):
        data.close()  # while the view exists
    with pytest.raises(ValueError, match="64-byte boundary"):
        _core.Memory.view(memoryview(data)[4:128])
    assert _core.Memory(np.zeros(3, np.float32)).owned
