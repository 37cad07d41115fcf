"""Pictures of filters and feature maps, and maps of the places behind an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnrt
from browser import Browser
from cnnrt import cli, ops
from cnnrt.analysis.classifier import find_classifier
from cnnrt.graph import Graph, Node, TensorSpec
from cnnrt.inspection import pictures

EXAMPLES = Path(__file__).parent.parent / "examples"
CHELSEA = EXAMPLES / "chelsea.png"
SEVEN = EXAMPLES / "digits" / "7.png"

FACE = (105, 45, 350, 275)
"""Left, top, right, bottom of the cat's face in chelsea.png, drawn by hand."""


@pytest.fixture(scope="module")
def efficientnet() -> cnnrt.Model:
    return cnnrt.load(EXAMPLES / "efficientnet_lite0.bin")


@pytest.fixture(scope="module")
def lenet() -> cnnrt.Model:
    return cnnrt.load(EXAMPLES / "lenet5.bin")


def quadrants() -> cnnrt.Model:
    """Class i is the mean of quadrant i of 8 x 8 grey pixels: what speaks for it is known."""
    weight = np.zeros((4, 1, 8, 8), np.float32)
    for i in range(4):
        top, left = 4 * (i // 2), 4 * (i % 2)
        weight[i, 0, top : top + 4, left : left + 4] = 1 / 16
    nodes = [
        Node("conv", "conv", ["x", "weight"], ["conv"]),
        Node("flatten", "flat", ["conv"], ["scores"]),
    ]
    for node in nodes:
        ops.complete(node)
    graph = Graph(
        [TensorSpec("x", ("batch", 1, 8, 8))],
        [TensorSpec("scores", ("batch", 4))],
        nodes,
        {"weight": weight},
    )
    preprocessing = cnnrt.Preprocessing((8, 8), channels="L", scale=1 / 32)
    return cnnrt.Model(graph, preprocessing=preprocessing, labels=["nw", "ne", "sw", "se"])


# Maps -------------------------------------------------------------------------------------------


def test_cam_is_the_score_by_place(efficientnet: cnnrt.Model) -> None:
    """The mean of the map and the bias make the logit of the class."""
    x = efficientnet.input_from(CHELSEA)
    logits = efficientnet(x)[0]
    classifier = find_classifier(efficientnet.graph, {"inputs": x.shape})
    for index in (281, 285, 0):
        found = cnnrt.activation_map(efficientnet, CHELSEA, index)
        assert (found.method, found.values.shape) == ("cam", (7, 7))
        score = found.values.mean() + classifier.bias[index]
        assert score == pytest.approx(logits[index], abs=1e-3)


def test_cam_of_a_cat_is_on_the_cat(efficientnet: cnnrt.Model) -> None:
    found = cnnrt.activation_map(efficientnet, CHELSEA)
    assert found.label in ("tabby", "tiger cat", "Egyptian cat")
    assert efficientnet.preprocessing is not None
    left, top, right, bottom = efficientnet.preprocessing.view(451, 300)
    x = left + found.peak[0] * (right - left)
    y = top + found.peak[1] * (bottom - top)
    assert FACE[0] < x < FACE[2]
    assert FACE[1] < y < FACE[3]


def test_cam_follows_the_cat(efficientnet: cnnrt.Model) -> None:
    """A photograph with the cat on one side and grey on the other: the map is on its side."""
    cat = Image.open(CHELSEA).convert("RGB").crop((75, 0, 375, 300)).resize((224, 224))
    for side in (0, 1):
        photo = Image.new("RGB", (448, 448), (127, 127, 127))
        photo.paste(cat, (224 * side, 112))
        found = cnnrt.activation_map(efficientnet, photo, "tiger cat")
        west, east = found.values[:, :3].mean(), found.values[:, 4:].mean()
        assert (east > west) == bool(side)


@pytest.mark.parametrize("index", range(4))
def test_occlusion_finds_what_counts(index: int) -> None:
    model = quadrants()
    pixels = np.full((8, 8), 100, np.uint8)
    top, left = 4 * (index // 2), 4 * (index % 2)
    pixels[top : top + 4, left : left + 4] = 220
    found = cnnrt.activation_map(model, pixels)
    assert (found.index, found.label, found.method) == (index, model.labels[index], "occlusion")
    assert found.values.shape == (8, 8)
    inside = np.zeros((8, 8), bool)
    inside[top : top + 4, left : left + 4] = True
    assert found.values[inside].min() > found.values[~inside].max()
    assert found.values[inside].min() > 0
    x, y = found.peak
    assert (x > 0.5, y > 0.5) == (bool(left), bool(top))


def test_occlusion_of_a_fixed_batch() -> None:
    free = quadrants()
    fixed = cnnrt.Model(
        Graph(
            [TensorSpec("x", (1, 1, 8, 8))],
            [TensorSpec("scores", (1, 4))],
            free.graph.nodes,
            free.graph.constants,
        ),
        preprocessing=free.preprocessing,
    )
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    want = cnnrt.activation_map(free, pixels).values
    assert np.array_equal(cnnrt.activation_map(fixed, pixels).values, want)


def test_maps_that_are_refused(lenet: cnnrt.Model) -> None:
    with pytest.raises(cnnrt.GraphError, match="needs global average pooling right before"):
        cnnrt.activation_map(lenet, SEVEN, method="cam")
    with pytest.raises(cnnrt.GraphError, match="no class of this network is named 'cat'"):
        cnnrt.activation_map(lenet, SEVEN, "cat")
    with pytest.raises(cnnrt.GraphError, match="class 10 of a network that has 10"):
        cnnrt.activation_map(lenet, SEVEN, 10)
    with pytest.raises(ValueError, match="method 'magic'; expected one of auto, cam, occlusion"):
        cnnrt.activation_map(lenet, SEVEN, method="magic")  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(451, 300), (300, 451), (100, 80), (224, 224)])
def test_view_is_what_the_network_sees(efficientnet: cnnrt.Model, size: tuple[int, int]) -> None:
    """A gradient over the picture: the network's first and last columns are those of the view."""
    preprocessing = efficientnet.preprocessing
    assert preprocessing is not None
    across, down = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    pixels = np.stack([across, down, 0 * down], -1).astype(np.uint8)
    x = preprocessing(pixels)[0] * 128 + 127
    left, top, right, bottom = preprocessing.view(*size)
    np.testing.assert_allclose(
        [x[0, 112, 0], x[0, 112, -1], x[1, 0, 112], x[1, -1, 112]],
        [255 * left / size[0], 255 * right / size[0], 255 * top / size[1], 255 * bottom / size[1]],
        atol=3,
    )


# Pictures ---------------------------------------------------------------------------------------


def test_first_filters(efficientnet: cnnrt.Model) -> None:
    picture = np.asarray(pictures.first_filters(efficientnet))
    weight = efficientnet.graph.constants["_conv_stem.weight"]
    assert len(weight) == 32
    assert picture.shape == (4 * 51 - 3, 8 * 51 - 3, 3)
    # Filter 9, in row 1 and column 1; its tap at (2, 0).
    tap = weight[9, :, 2, 0] / np.abs(weight[9]).max()
    shown = picture[51 + 40, 51 + 8] / 255
    np.testing.assert_allclose(shown, 0.5 + 0.5 * tap, atol=0.003)


def test_first_filters_need_an_image() -> None:
    model = quadrants()
    assert pictures.first_filters(model).size[1] == 48
    model.graph.constants["weight"] = np.zeros((4, 2, 8, 8), np.float32)
    with pytest.raises(cnnrt.GraphError, match="have 2 channels; 1 or 3 can be shown"):
        pictures.first_filters(model)


def test_default_layers(efficientnet: cnnrt.Model, lenet: cnnrt.Model) -> None:
    assert pictures.default_layers(lenet) == ["relu", "relu_1"]
    layers = pictures.default_layers(efficientnet)
    x = efficientnet.input_from(CHELSEA)
    sizes = [pictures.layer_maps(efficientnet, x, layer).shape[1] for layer in layers]
    assert sizes == [112, 56, 28, 14, 7]


def test_channel_maps_show_the_largest_as_light() -> None:
    maps = np.zeros((3, 4, 4), np.float32)
    maps[0, 1, 2] = 5
    maps[2] = np.arange(16).reshape(4, 4)
    assert pictures.strongest(maps, 2) == [2, 0]
    assert pictures.strongest(maps, None) == [2, 0, 1]
    picture = np.asarray(pictures.channel_maps(maps, [0, 2]))
    cell = pictures.CELL // 4
    assert picture[cell + 5, 2 * cell + 5].tolist() == list(pictures.HEAT[-1])
    assert picture[5, 5].tolist() == list(pictures.HEAT[0])
    lights = np.asarray(
        pictures.channel_lights(maps, [0], Image.new("RGB", (50, 50), (200, 200, 200)))
    )
    assert lights[cell + 14, 2 * cell + 14, 0] >= 200
    assert lights[100, 10, 0] < 60


def test_heat_is_laid_over_the_view(efficientnet: cnnrt.Model) -> None:
    assert efficientnet.preprocessing is not None
    photo = pictures.photograph(CHELSEA)
    found = cnnrt.activation_map(efficientnet, CHELSEA)
    laid = np.asarray(pictures.heat_over(photo, found, efficientnet.preprocessing), np.float64)
    assert laid.shape == (300, 451, 3)
    pixels = np.asarray(photo, np.float64)
    np.testing.assert_allclose(laid[:, :90], 0.35 * pixels[:, :90], atol=0.51)
    assert laid[:, 94:357].mean() > 0.9 * pixels[:, 94:357].mean()


# The command ------------------------------------------------------------------------------------


def run(capsys: Any, *arguments: Any) -> tuple[int, str, str]:
    status = cli.main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_command(capsys: Any, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    out = tmp_path / "new" / "pictures"
    model = EXAMPLES / "efficientnet_lite0.bin"
    status, printed, err = run(capsys, "features", model, CHELSEA, "--out", out)
    assert (status, err) == (0, "")
    assert "explained by cam" in printed
    files = sorted(path.name for path in out.iterdir())
    assert len(files) == 13
    assert {"filters.png", "cam.png", "index.html", "5__swish_1_maps.png"} <= set(files)
    for file in out.glob("*.png"):
        with Image.open(file) as picture:
            picture.load()
    page = (out / "index.html").read_text()
    assert page.count("data:image/png") == 14
    order = [page.index(f">{title}</h2>") for title in ("Edges and colours", "Textures", "Parts")]
    assert order == sorted(order)


def test_the_page_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    model = EXAMPLES / "lenet5.bin"
    assert cli.main(["features", str(model), str(SEVEN), "--out", str(tmp_path)]) == 0
    browser.check(tmp_path / "index.html")
    assert browser.evaluate("[...document.images].every(i => i.naturalWidth > 0)")


def test_command_with_layers(capsys: Any, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    arguments = ("--layers", "conv1,relu_1", "--channels", "all", "--label", "1")
    model = EXAMPLES / "lenet5.bin"
    status, printed, err = run(capsys, "features", model, SEVEN, "--out", tmp_path, *arguments)
    assert (status, err) == (0, "")
    assert printed.startswith("1 (")
    assert "explained by occlusion" in printed
    with Image.open(tmp_path / "2_relu_1_maps.png") as picture:
        assert picture.size == (8 * 115 - 3, 2 * 115 - 3)  # all of its 16 channels


def test_command_fails_in_one_line(capsys: Any, tmp_path: Path) -> None:
    model = EXAMPLES / "lenet5.bin"
    for arguments, text in (
        ((model, tmp_path / "absent.png"), "no such file"),
        ((model, SEVEN, "--layers", "nowhere"), "no tensor"),
        ((model, SEVEN, "--layers", "fc1"), "no height and width"),
        ((model, SEVEN, "--method", "cam"), "global average pooling"),
    ):
        status, _, err = run(capsys, "features", *arguments, "--out", tmp_path)
        assert (status, err.count("\n")) == (1, 1)
        assert text in err
