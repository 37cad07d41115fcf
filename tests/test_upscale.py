"""`Model.upscale`: tiles without seams, pictures of any size, colours, hostile input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import cnnrt
from cnnrt import cli
from cnnrt.preprocessing import Preprocessing
from cnnrt.tasks.upscale import spans

onnx = pytest.importorskip("onnx")
EXAMPLE = Path(__file__).parent.parent / "examples" / "realesr_animevideov3.bin"
RAW = Preprocessing(size=(16, 16), crop=None, scale=1 / 255)


def network(
    text: str,
    weights: dict[str, tuple[int, ...]],
    size: str = "h, w",
    channels: int = 3,
    preprocessing: Preprocessing = RAW,
) -> cnnrt.Model:
    """A model of an ONNX graph from x, with random weights whose sums stay near 1."""
    rng = np.random.default_rng(0)
    source = f"""<ir_version: 8, opset_import: ["" : 18]>
    net (float[1, {channels}, {size}] x) => (float[n, c, hh, ww] y) {{ {text} }}"""
    model = onnx.parser.parse_model(source)
    for name, shape in weights.items():
        scale = 0.7 / np.sqrt(np.prod(shape[1:]))
        values = rng.standard_normal(shape).astype(np.float32) * scale
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    loaded = cnnrt.load(model, threads=1)
    loaded.preprocessing = preprocessing
    return loaded


def twofold(**more: Any) -> cnnrt.Model:
    """Three convolutions of 3x3 and a shuffle: scale 2, and 3 pixels seen to each side."""
    return network(
        """a = Conv<pads=[1,1,1,1]>(x, w1) b = Relu(a) d = Conv<pads=[1,1,1,1]>(b, w2)
        e = Relu(d) f = Conv<pads=[1,1,1,1]>(e, w3) y = DepthToSpace<blocksize=2, mode="CRD">(f)""",
        {"w1": (8, 3, 3, 3), "w2": (8, 8, 3, 3), "w3": (12, 8, 3, 3)},
        **more,
    )


def shrinking() -> cnnrt.Model:
    """Shrinks by 4 and comes back to the picture's size: sides are multiples of 4."""
    return network(
        """a = SpaceToDepth<blocksize=2>(x) b = Conv<pads=[1,1,1,1], strides=[2,2]>(a, w1)
        d = Relu(b) e = Conv<pads=[1,1,1,1]>(d, w2)
        y = DepthToSpace<blocksize=4, mode="CRD">(e)""",
        {"w1": (16, 12, 3, 3), "w2": (48, 16, 3, 3)},
    )


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def whole(model: cnnrt.Model, pixels: np.ndarray, multiple: int = 1) -> np.ndarray:
    """The result of one run, the picture's edge repeated up to a multiple."""
    height, width = pixels.shape[:2]
    pad = [(0, -height % multiple), (0, -width % multiple), (0, 0)]
    x = np.pad(pixels, pad, "edge").astype(np.float32).transpose(2, 0, 1)[None] / 255
    y = model(x)[0].transpose(1, 2, 0)
    scale = y.shape[0] // x.shape[2]
    return y[: height * scale, : width * scale].clip(0, 1)


@given(st.integers(1, 300), st.integers(1, 60), st.integers(0, 25), st.integers(1, 4))
@settings(deadline=None)
def test_tiles_cover_a_side_once(length: int, kept: int, margin: int, stride: int) -> None:
    length, kept, margin = length * stride, kept * stride, margin * stride
    tile = kept + 2 * margin
    found = spans(length, tile, margin, stride)
    assert [s.first for s in found] == [0, *(s.last for s in found[:-1])]
    assert found[-1].last == length
    for s in found:
        assert s.end - s.begin == min(tile, length)
        assert s.begin % stride == 0
        assert s.first < s.last
        assert s.begin == 0 or s.first - s.begin >= margin
        assert s.end == length or s.end - s.last >= margin


@pytest.mark.parametrize("size", [(40, 40), (41, 77), (9, 200), (200, 9), (1, 1), (12, 13)])
@pytest.mark.parametrize("tile", [None, 1, 12, 23])
def test_no_seam_is_left(size: tuple[int, int], tile: int | None) -> None:
    model, pixels = twofold(), picture(*size)
    found = model.upscale(pixels, tile=tile, dtype="float32")
    assert found.exact and found.scale == 2
    assert found.pixels.shape == (2 * size[0], 2 * size[1], 3)
    assert found.pixels.dtype == np.float32
    assert abs(found.pixels - whole(model, pixels)).max() < 1e-5
    assert (found.tiles > 1) == (tile is not None and max(size) > 13)


@pytest.mark.parametrize("size", [(64, 64), (63, 97), (5, 6), (130, 31)])
def test_network_that_shrinks_first(size: tuple[int, int]) -> None:
    model, pixels = shrinking(), picture(*size)
    found = model.upscale(pixels, tile=40, dtype="float32")
    assert found.exact and found.scale == 1
    assert abs(found.pixels - whole(model, pixels, 4)).max() < 1e-5


def test_fewer_pixels_around_a_tile_would_be_seen() -> None:
    """The overlap is not larger by luck: with that of one convolution less, there are seams."""
    from cnnrt.tasks.upscale import Reach, upscale

    model, pixels = twofold(), picture(60, 60)
    own = model._reach()
    assert own.scale == 2 and own.stride == 1 and own.radius in (3, 4)
    less = Reach(2, 2, 1, own.pixel_bytes)
    found = upscale(model, less, pixels, tile=20, dtype="float32")
    assert abs(found.pixels - whole(model, pixels)).max() > 1e-3


def test_network_of_a_fixed_size() -> None:
    free, fixed = twofold(), twofold(size="24, 32")
    for size in ((24, 32), (50, 70), (24, 90)):
        pixels = picture(*size)
        found = fixed.upscale(pixels, dtype="float32")
        assert found.exact
        assert abs(found.pixels - whole(free, pixels)).max() < 1e-5
    small = fixed.upscale(picture(5, 6))
    assert small.pixels.shape == (10, 12, 3)
    assert not small.exact  # the pixels beyond its edge are its last ones, not zeros


def test_pixel_that_depends_on_the_whole_picture() -> None:
    model = network(
        """a = Conv<pads=[1,1,1,1]>(x, w1) g = GlobalAveragePool(a) b = Mul(a, g)
        y = DepthToSpace<blocksize=2, mode="CRD">(b)""",
        {"w1": (12, 3, 3, 3)},
    )
    pixels = picture(150, 150)
    once = model.upscale(pixels, dtype="float32")
    assert once.exact and once.tiles == 1
    assert abs(once.pixels - whole(model, pixels)).max() < 1e-5
    assert not model.upscale(pixels, tile=100).exact


def test_values_are_those_of_the_network_s_normalisation() -> None:
    """A network that repeats each pixel returns the picture, whatever its input looks like."""
    text = 's = Constant<value_floats=[1.0,1.0,2.0,2.0]>() y = Resize<mode="nearest">(x,,s)'
    pixels = picture(20, 30)
    for own in (
        RAW,
        Preprocessing(size=(1, 1), scale=1.0),
        Preprocessing(size=(1, 1), scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
        Preprocessing(size=(1, 1), scale=1.0, channels="BGR", mean=(103, 116, 123)),
    ):
        model = network(text, {}, preprocessing=own)
        assert np.array_equal(model.upscale(pixels).pixels, pixels.repeat(2, 0).repeat(2, 1))
        flipped = model.upscale(pixels[:, :, ::-1], channels="BGR")
        assert np.array_equal(flipped.pixels, pixels.repeat(2, 0).repeat(2, 1))
    exact = network(text, {}).upscale(pixels, dtype="float32")
    assert abs(exact.pixels - pixels.repeat(2, 0).repeat(2, 1) / 255).max() < 1e-6
    assert np.array_equal(np.asarray(exact.image), pixels.repeat(2, 0).repeat(2, 1))


def test_network_of_luma_keeps_the_colours() -> None:
    text = 's = Constant<value_floats=[1.0,1.0,2.0,2.0]>() y = Resize<mode="nearest">(x,,s)'
    grey = Preprocessing(size=(1, 1), crop=None, scale=1 / 255, channels="L")
    model = network(text, {}, channels=1, preprocessing=grey)
    soft = Image.fromarray(picture(4, 4)).resize((64, 64), Image.Resampling.BICUBIC)
    found = model.upscale(soft, tile=20)
    expected = soft.resize((128, 128), Image.Resampling.BICUBIC)
    assert found.tiles > 1
    difference = np.asarray(found.image, np.float64) - np.asarray(expected)
    assert abs(difference).max() < 16  # the luma is repeated, not interpolated
    assert abs(difference.mean((0, 1))).max() < 1


def test_files_and_transparency(tmp_path: Path) -> None:
    clear = np.zeros((8, 9, 4), np.uint8)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    text = 's = Constant<value_floats=[1.0,1.0,3.0,3.0]>() y = Resize<mode="nearest">(x,,s)'
    found = network(text, {}).upscale(tmp_path / "clear.png")
    assert found.scale == 3 and (found.pixels == 255).all()
    found.save(tmp_path / "large.png")
    with Image.open(tmp_path / "large.png") as large:
        assert large.size == (27, 24)


def test_numbers_that_are_none() -> None:
    model = network("y = Log(x)", {})
    black = model.upscale(np.zeros((3, 3, 3), np.uint8))
    assert (black.pixels == 0).all()  # minus infinity


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    model = twofold()
    with pytest.raises(cnnrt.ImageError, match="no pixels"):
        model.upscale(np.zeros((0, 5, 3), np.uint8))
    with pytest.raises(cnnrt.ImageError, match="no such file"):
        model.upscale(tmp_path / "none.png")
    with pytest.raises(ValueError, match="tile must be at least 1"):
        model.upscale(picture(4, 4), tile=0)
    with pytest.raises(ValueError, match="dtype"):
        model.upscale(picture(4, 4), dtype="float16")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="channels"):
        model.upscale(picture(4, 4), channels="GBR")  # type: ignore[arg-type]
    model.preprocessing = None
    with pytest.raises(cnnrt.GraphError, match="raw01"):
        model.upscale(picture(4, 4))
    flat = network("y = GlobalAveragePool(x)", {}, size="8, 8")
    with pytest.raises(cnnrt.GraphError, match="does not upscale"):
        flat.upscale(picture(8, 8))
    four = network("y = Conv(x, w1)", {"w1": (4, 3, 1, 1)})
    with pytest.raises(cnnrt.ShapeError, match="4 channels"):
        four.upscale(picture(8, 8))


def test_result_beyond_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnrt.tasks.upscale.most_memory", lambda: 1000)
    with pytest.raises(cnnrt.ShapeError, match="more memory than there is"):
        twofold().upscale(picture(20, 20))


def test_example() -> None:
    model = cnnrt.load(EXAMPLE, threads=2)
    photo = Image.open(EXAMPLE.with_name("chelsea.png")).convert("RGB").crop((90, 60, 210, 160))
    found = model.upscale(photo, tile=70, dtype="float32")
    assert found.exact and found.tiles > 1 and found.pixels.shape == (400, 480, 3)
    assert abs(found.pixels - whole(model, np.asarray(photo))).max() < 1e-4
    # Made smaller again it is the photo, nearly: the network sharpens, and does not invent colours.
    back = np.asarray(found.image.resize(photo.size, Image.Resampling.BOX), np.float64)
    assert abs(back - np.asarray(photo)).mean() < 4


def test_the_command_writes_the_larger_picture(tmp_path: Path, capsys: Any) -> None:
    photo, large = tmp_path / "photo.png", tmp_path / "large.png"
    Image.open(EXAMPLE.parent / "coffee.png").convert("RGB").resize((60, 44)).save(photo)
    network = str(EXAMPLE)
    assert cli.main(["run", network, str(photo), "--output", str(large)]) == 0
    assert "60 x 44 to 240 x 176 pixels" in capsys.readouterr().out
    wanted = cnnrt.load(network).upscale(photo)
    assert np.array_equal(np.asarray(Image.open(large)), wanted.pixels)
    for output, images in ((photo, [photo]), (large, [photo, large])):
        assert cli.main(["run", network, *map(str, images), "--output", str(output)]) == 1
    assert "would write over" in capsys.readouterr().err
