"""Parameters, multiply-accumulates and receptive fields beside those worked out by hand."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnrt
import textbook
from browser import Browser
from checks import Random
from cnnrt import cli
from cnnrt.analysis.receptive_field import receptive_fields, text
from cnnrt.analysis.summary import Summary, summarise
from cnnrt.errors import ShapeError
from cnnrt.graph import Graph, TensorSpec
from cnnrt.passes import infer
from networks import by_reference, network

EXAMPLES = Path(__file__).parent.parent / "examples"


def summary_of(graph: Graph) -> Summary:
    return summarise(graph, {spec.name: spec.shape for spec in graph.inputs})  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [
        # Parameters as torchvision states them; multiply-accumulates as its GFLOPS do.
        ("lenet5", 61_706, 416_520),
        ("alexnet", 61_100_840, 714_188_480),
        ("vgg16", 138_357_544, 15_470_264_320),
        ("resnet50", 25_557_032, 4_089_184_256),
        ("googlenet", 6_624_904, 1_498_376_192),
        ("efficientnet_b0", 5_288_548, 385_814_752),
    ],
)
def test_published_numbers(name: str, parameters: int, macs: int) -> None:
    summary = summary_of(getattr(textbook, name)())
    assert summary.parameters == parameters
    assert summary.macs == macs
    assert sum(layer.share for layer in summary.layers) == pytest.approx(1)
    assert summary.weight_bytes == 4 * parameters


def test_one_convolution_by_hand() -> None:
    first = summary_of(textbook.stacked_3x3(3)).layers[0]
    assert first.parameters == 64 * (3 * 3 * 3 + 1) == 1_792
    assert first.output == (1, 64, 32, 32)
    assert first.macs == 64 * 32 * 32 * 27
    assert first.activation_bytes == 4 * 64 * 32 * 32
    assert (first.operator, first.settings, first.fused) == ("conv", "3x3 pad 1", ("relu",))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        # VGG-16 as Araujo, Norris and Sim, 2019, state it. ResNet-50: 7 of the first layer, 4 of
        # the pool, and twice the jump before each 3x3 convolution. These are 3 (8), 8 + 3 (16), 16
        # + 5 (32), 32 + 2 (64). They state 483, for strides in the last layer of a stage.
        ("vgg16", 212),
        ("resnet50", 427),
    ],
)
def test_published_fields(name: str, size: int) -> None:
    fields = [layer.receptive_field for layer in summary_of(getattr(textbook, name)()).layers]
    last = [f for f in fields if f and f[0] and f[0].jump][-1]
    assert [f.size for f in last if f] == [size, size]
    assert [f.jump for f in last if f] == [32, 32]
    assert fields[-1] == (None, None)


def test_stacked_layers_see_more() -> None:
    layers = summary_of(textbook.stacked_3x3(3)).layers
    assert [layer.field_text() for layer in layers] == ["3x3 /1 @0.5", "5x5 /1 @0.5", "7x7 /1 @0.5"]


def test_fusion_is_shown() -> None:
    summary = summary_of(textbook.resnet50())
    by_name = {layer.name: layer for layer in summary.layers}
    assert by_name["conv0"].fused == ("batch_normalization", "relu")
    assert sum("add" in layer.fused for layer in summary.layers) == 16
    lines = str(summary).splitlines()
    assert "conv 7x7 stride 2 pad 3 +batch_normalization +relu" in lines[3]
    assert lines[-4].split() == ["parameters", "25,557,032"]


# Receptive fields, by perturbing the image ------------------------------------------------------

SIZE = (24, 40)


@pytest.fixture
def windowed(random: Random) -> Graph:
    """Kernels, strides, dilations and paddings that differ by axis; branches that meet."""
    small = {"kernel_shape": [2, 3], "strides": [2, 2], "pads": [0, 1, 0, 1]}
    return network(
        {"x": random(1, 1, *SIZE)},
        {
            **{"a": random(2, 1, 3, 5), "b": random(2, 2, 3, 3), "c": random(2, 2, 1, 1)},
            **{"pads": [0, 0, 1, 2, 0, 0, 0, 1], "starts": [1, 1], "ends": [99, 99]},
            **{"axes": [2, 3], "steps": [1, 2], "scale": random(2), "halves": [11, 13]},
            "wide": random(2, 2, 4, 3),
            "factors": np.array([1, 1, 2, 3], np.float32),
        },
        ("c1", "conv", "x a", {"pads": [1, 0, 1, 3], "strides": [1, 2]}),
        ("c2", "conv", "c1 b", {"dilations": [2, 3], "pads": [2, 3, 2, 3]}),
        ("c3", "conv", "c1 c"),
        ("sum", "add", "c2 c3"),
        ("deep", "space_to_depth", "c1", {"blocksize": 2}),
        ("four", "concat", "sum sum", {"axis": 1}),
        ("shallow", "depth_to_space", "four", {"blocksize": 2}),
        ("pool", "max_pool", "sum", small),
        ("smaller", "max_pool", "c1", small),
        ("both", "concat", "pool smaller", {"axis": 1}),
        ("mean", "average_pool", "pool", {"kernel_shape": [3, 2]}),
        ("padded", "pad", "mean pads"),
        ("cut", "slice", "padded starts ends axes steps"),
        ("left right", "split", "sum halves", {"axis": 2}),
        ("last", "transpose", "pool", {"perm": [0, 2, 3, 1]}),
        ("norm", "layer_normalization", "last scale"),
        ("deconv", "conv_transpose", "pool wide", {"strides": [2, 1], "pads": [1, 0, 1, 0]}),
        ("larger", "resize", "pool  factors"),
        outputs=("cut", "norm", "both", "right", "shallow", "deconv", "larger"),
    )


def test_fields_by_perturbation(windowed: Graph) -> None:
    """An element's field is the rows and columns of the image that change it, and no others."""
    infer(windowed, {"x": (1, 1, *SIZE)})
    fields = receptive_fields(windowed)
    names = [name for node in windowed.nodes for name in node.outputs]
    assert len({fields[name] for name in names}) > 8
    for axis in (0, 1):
        rows = dependence(windowed, names, axis)
        for name in names:
            along = axis + (1 if name in ("last", "norm") else 2)
            seen = by_index(rows[name], along)
            field = fields[name][axis]
            assert field and field.start is not None and field.jump is not None
            inside = []
            for index, found in seen.items():
                low = field.start + index * field.jump - field.size / 2
                if name in ("deconv", "larger", "shallow"):
                    # Which inputs are read differs from one element to the next.
                    slack = fields["pool"][axis].jump  # type: ignore[union-attr]
                    assert low - slack <= min(found) <= max(found) + 1 <= low + field.size + slack
                    inside.append(max(found) + 1 - min(found))
                elif low >= 0 and low + field.size <= SIZE[axis]:
                    assert (min(found), max(found) + 1) == (low, low + field.size), (name, index)
                    inside.append(max(found) + 1 - min(found))
            assert max(inside) == field.size, (name, axis)


def dependence(graph: Graph, names: list[str], axis: int) -> dict[str, list[tuple[int, Any]]]:
    """For each tensor (row of the image along an axis, places of the elements that it changes)."""
    whole = dataclasses.replace(graph, outputs=[TensorSpec(name, ()) for name in names])
    base = np.random.default_rng(0).uniform(1, 2, (1, 1, *SIZE)).astype(np.float32)
    before = by_reference(whole, {"x": base})
    found: dict[str, list[tuple[int, Any]]] = {name: [] for name in names}
    for row in range(SIZE[axis]):
        for factor in (-100, 100):  # smaller and larger than all others: a maximum would hide it
            x = base.copy()
            x[(slice(None),) * (2 + axis) + (row,)] *= factor
            for name, y, z in zip(names, by_reference(whole, {"x": x}), before, strict=True):
                found[name].append((row, np.argwhere(y != z)))
    return found


def by_index(rows: list[tuple[int, Any]], along: int) -> dict[int, set[int]]:
    """For each index along an axis the rows of the image that change an element there."""
    seen: dict[int, set[int]] = {}
    for row, places in rows:
        for index in np.unique(places[:, along]):
            seen.setdefault(int(index), set()).add(row)
    return seen


@pytest.mark.parametrize(
    ("mixer", "attributes"),
    [
        ("global_average_pool", {}),
        ("reduce_max", {"axes": [2, 3], "keepdims": 0}),
        ("instance_normalization", {}),
    ],
)
def test_what_mixes_all_sees_all(random: Random, mixer: str, attributes: dict[str, Any]) -> None:
    others = " s s" if mixer == "instance_normalization" else ""
    graph = network(
        {"x": random(1, 2, 6, 6)},
        {"s": random(2)},
        ("p", "max_pool", "x", {"kernel_shape": [2, 2]}),
        ("m", mixer, "p" + others, attributes),
        ("y", "mul", "p m") if mixer != "reduce_max" else ("y", "relu", "m"),
    )
    infer(graph, {"x": (1, 2, 6, 6)})
    fields = receptive_fields(graph)
    assert text(fields["p"]) == "2x2 /1 @1"
    assert fields["m"] == fields["y"] == (None, None)


def test_tokens_keep_their_patch_until_attention(random: Random) -> None:
    graph = network(
        {"x": random(1, 3, 8, 12)},
        {"w": random(4, 3, 4, 4), "flat": [1, 4, 6], "square": random(4, 4)},
        ("patch", "conv", "x w", {"strides": [4, 4]}),
        ("flat_", "reshape", "patch flat"),
        ("tokens", "transpose", "flat_", {"perm": [0, 2, 1]}),
        ("q", "matmul", "tokens square"),
        ("k", "transpose", "q", {"perm": [0, 2, 1]}),
        ("scores", "matmul", "q k"),
        ("soft", "softmax", "scores", {"axis": -1}),
        ("y", "matmul", "soft tokens"),
    )
    infer(graph, {"x": (1, 3, 8, 12)})
    fields = receptive_fields(graph)
    assert text(fields["patch"]) == "4x4 /4 @2"
    assert text(fields["q"]) == "4x4"
    assert fields["y"] == (None, None)


def test_axes_that_differ_are_told_apart(random: Random) -> None:
    graph = network(
        {"x": random(1, 1, 9, 9)},
        {"w": random(1, 1, 3, 1)},
        ("y", "conv", "x w", {"strides": [2, 1]}),
    )
    infer(graph, {"x": (1, 1, 9, 9)})
    assert text(receptive_fields(graph)["y"]) == "3x1 /2,1 @1.5,0.5"


# model.summary and the command ------------------------------------------------------------------


@pytest.fixture(scope="module")
def lenet5() -> cnnrt.Model:
    return cnnrt.load(EXAMPLES / "lenet5.bin", threads=1)


def test_model_summary(lenet5: cnnrt.Model) -> None:
    summary = lenet5.summary()
    assert summary.parameters == 61_706
    assert summary.packed_bytes and summary.packed_bytes >= 4 * 61_706
    assert summary.arena_bytes
    eight = lenet5.summary((8, 1, 28, 28))
    assert eight.macs == 8 * summary.macs
    assert eight == lenet5.summary(np.zeros((8, 1, 28, 28), np.float32))
    with pytest.raises(ShapeError, match="takes shape"):
        lenet5.summary((1, 3, 28, 28))
    with pytest.raises(ShapeError, match="no input is named 'z'"):
        lenet5.summary({"z": (1, 1, 28, 28)})


def test_free_sizes_must_be_given(random: Random) -> None:
    graph = network({"x": random(1, 1, 9, 9)}, {"w": random(1, 1, 3, 3)}, ("y", "conv", "x w"))
    graph.inputs = [TensorSpec("x", ("batch", 1, "height", "width"))]
    model = cnnrt.Model(graph)
    with pytest.raises(ShapeError, match="free sizes"):
        model.summary()
    assert model.summary((2, 1, 5, 6)).layers[0].output == (2, 1, 3, 4)


def test_the_documentation_is_true(lenet5: cnnrt.Model) -> None:
    """All but the totals of memory, which differ from one tier to the next."""
    page = (EXAMPLES.parent / "docs" / "looking.md").read_text()
    for line in str(lenet5.summary()).splitlines()[:11]:
        assert f"    {line}".rstrip() in page.splitlines()


def test_command(capsys: Any, tmp_path: Path) -> None:
    model = str(EXAMPLES / "lenet5.bin")
    assert cli.main(["summary", model]) == 0
    out = capsys.readouterr().out
    assert out.startswith("LeNet5: ")
    assert "61,706" in out
    assert cli.main(["summary", model, "--json", "--input", "2x1x28x28"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["parameters"] == 61_706
    first = document["layers"][0]
    assert first["output"] == [2, 6, 28, 28]
    assert first["receptive_field"] == [{"size": 5, "jump": 1, "start": 0.5}] * 2
    assert document["layers"][-1]["receptive_field"] == [None, None]
    with pytest.raises(SystemExit):
        cli.main(["summary", model, "--input", "1x0x28"])
    assert "not a shape" in capsys.readouterr().err


def test_page(browser: Browser, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    page = tmp_path / "summary.html"
    assert cli.main(["summary", str(EXAMPLES / "efficientnet_lite0.bin"), "--html", str(page)]) == 0
    browser.check(page)
    rows = browser.evaluate("document.querySelectorAll('tbody tr').length")
    assert rows == len(cnnrt.load(EXAMPLES / "efficientnet_lite0.bin").summary().layers)
    assert "4,631,000" in browser.evaluate("document.body.innerText")
