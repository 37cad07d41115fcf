"""Preprocessing: pixel for pixel that of torchvision and timm; images of every kind; bad images."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from cnnrt.errors import FormatError, ImageError
from cnnrt.images import open_image
from cnnrt.preprocessing import INTERPOLATIONS, Preprocessing

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> Any:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


PLAIN = Preprocessing(size=(4, 6), crop=None)
"""Resizes to 4 x 6 and leaves the values alone."""


def pixels(image: Any, preprocessing: Preprocessing = PLAIN) -> Any:
    return preprocessing(image)[0].transpose(1, 2, 0)


# The same as torchvision and timm ---------------------------------------------------------------


@pytest.fixture(scope="module")
def torchvision() -> Any:
    pytest.importorskip("torch")
    from torchvision_cpu import torchvision

    return torchvision


@pytest.mark.parametrize(
    ("height", "width"), [(300, 451), (256, 300), (97, 64), (50, 51), (24, 300)]
)
@pytest.mark.parametrize(("resize", "crop"), [(64, 56), (64, 64), (57, 64), (33, 30)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_as_torchvision(
    torchvision: Any, height: int, width: int, resize: int, crop: int, interpolation: Any
) -> None:
    transforms = torchvision.transforms
    mode = transforms.InterpolationMode(interpolation)
    expected = transforms.Compose(
        [
            transforms.Resize(resize, mode),
            transforms.CenterCrop(crop),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    preprocessing = Preprocessing(
        (crop, crop), resize, interpolation, scale=1 / 255, mean=MEAN, std=STD
    )
    image = Image.fromarray(noise(height, width))
    found = preprocessing(image)
    assert found.dtype == np.float32
    # One pixel value more or less would be 0.017 or more.
    np.testing.assert_allclose(found[0], expected(image).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["ResNet50_Weights", "EfficientNet_B0_Weights", "ViT_L_16_Weights"]
)
def test_torchvisions_presets(torchvision: Any, name: str) -> None:
    for weights in getattr(torchvision.models, name):
        preset = weights.transforms()
        preprocessing = Preprocessing.from_torchvision(preset)
        image = Image.fromarray(noise(480, 600))
        np.testing.assert_allclose(preprocessing(image)[0], preset(image), rtol=0, atol=1e-6)


def test_presets_of_other_kinds(torchvision: Any) -> None:
    for preset in (torchvision.transforms.ToTensor(), None, torchvision.models.ResNet18_Weights):
        with pytest.raises(ValueError, match="expected an ImageClassification preset"):
            Preprocessing.from_torchvision(preset)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"crop_pct": 0.95, "interpolation": "bicubic"},
        {"crop_pct": 1.0, "input_size": (3, 72, 72)},
        {"crop_mode": "squash", "interpolation": "bicubic"},
    ],
    ids=str,
)
def test_as_timm(torchvision: Any, changes: dict[str, Any]) -> None:
    data = pytest.importorskip("timm.data")
    config = {
        "input_size": (3, 64, 64),
        "interpolation": "bilinear",
        "crop_pct": 0.875,
        "crop_mode": "center",
        "mean": MEAN,
        "std": STD,
        **changes,
    }
    image = Image.fromarray(noise(150, 201))
    expected = data.create_transform(**config, is_training=False)(image)
    found = Preprocessing.from_timm(config)(image)[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "changes", [{"crop_mode": "border"}, {"input_size": (4, 8, 8)}, {"input_size": (3, 8, 9)}]
)
def test_what_timm_does_and_a_preprocessing_cannot(changes: dict[str, Any]) -> None:
    config = {"input_size": (3, 64, 64), "mean": MEAN, "std": STD, **changes}
    with pytest.raises(ValueError, match="not supported"):
        Preprocessing.from_timm(config)


# Each field -------------------------------------------------------------------------------------


def test_normalisation_and_order_of_channels() -> None:
    image = np.zeros((1, 1, 3), np.uint8)
    image[0, 0] = 10, 20, 30
    p = Preprocessing(size=(1, 1), scale=0.5, mean=(1, 2, 3), std=(1, 2, 4))
    assert p(image).ravel().tolist() == [4, 4, 3]
    assert dataclasses.replace(p, channels="BGR")(image).ravel().tolist() == [14, 4, 0.5]
    grey = Preprocessing(size=(1, 1), channels="L", mean=(1,), std=(2,))
    assert grey(np.full((1, 1), 7, np.uint8)).tolist() == [[[[3]]]]
    assert grey(image).shape == (1, 1, 1, 1)


def test_crop() -> None:
    image = noise(5, 8)
    np.testing.assert_array_equal(pixels(image, Preprocessing((3, 4))), image[1:4, 2:6])
    padded = pixels(image[:2, :3], Preprocessing((4, 6)))
    np.testing.assert_array_equal(padded[1:3, 1:4], image[:2, :3])
    assert padded.sum() == image[:2, :3].sum()  # black around it
    assert pixels(image, Preprocessing((4, 6), crop=None)).shape == (4, 6, 3)
    np.testing.assert_array_equal(
        pixels(image, Preprocessing((4, 6), crop=None)),
        pixels(image, Preprocessing((4, 6), resize=(4, 6))),
    )


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_interpolations(interpolation: Any) -> None:
    image = noise(20, 30)
    method = Image.Resampling[interpolation.upper()]
    expected = np.asarray(Image.fromarray(image).resize((6, 4), method))
    p = Preprocessing((4, 6), resize=(4, 6), interpolation=interpolation)
    np.testing.assert_array_equal(pixels(image, p), expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": (0, 4)}, "size: expected an integer from 1"),
        ({"size": (4,)}, r"size: expected \[height, width\]"),
        ({"size": "44"}, "size: expected a list"),
        ({"size": (2**15, 2**15)}, "pixels"),
        ({"size": (4, 4.5)}, "size: expected an integer"),
        ({"resize": -1}, "resize"),
        ({"resize": True}, "resize"),
        ({"resize": [1, 2, 3]}, "resize"),
        ({"interpolation": "cubic"}, "interpolation: expected one of"),
        ({"crop": "top"}, "crop"),
        ({"channels": "RGBA"}, "channels"),
        ({"scale": float("nan")}, "scale"),
        ({"scale": "1"}, "scale"),
        ({"mean": (1, 2)}, "mean: expected 3 numbers"),
        ({"mean": (1, 2, None)}, "mean: expected a finite number"),
        ({"std": (1, 0, 1)}, "std: expected numbers other than 0"),
        ({"channels": "L", "std": (1, 1, 1)}, "std: expected 1 number"),
    ],
    ids=str,
)
def test_fields_out_of_range(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocessing(**{"size": (4, 4), **fields})
    with pytest.raises(FormatError, match="here: "):
        Preprocessing.from_json({"size": [4, 4], **fields}, "here")


def test_json() -> None:
    p = Preprocessing(
        (4, 6),
        np.int64(5).item(),
        "bicubic",
        None,
        "BGR",
        0.5,
        np.float32([1, 2, 3]),
        [4, 5, 6],  # type: ignore[arg-type]
    )
    assert p.mean == (1, 2, 3)
    assert Preprocessing.from_json(json.loads(json.dumps(p.to_json()))) == p
    both = Preprocessing((4, 6), resize=(7, 8))
    assert Preprocessing.from_json(json.loads(json.dumps(both.to_json()))) == both
    assert hash(p) == hash(dataclasses.replace(p))
    for document in (None, [], {}, {"size": [1, 1], "code": "x"}):
        with pytest.raises(FormatError):
            Preprocessing.from_json(document)


# Images of every kind ---------------------------------------------------------------------------


def test_arrays() -> None:
    rgb = noise(4, 6)
    np.testing.assert_array_equal(pixels(rgb), rgb)
    np.testing.assert_array_equal(pixels(rgb[:, ::-1]), rgb[:, ::-1])
    np.testing.assert_array_equal(pixels(np.asfortranarray(rgb)), rgb)
    grey = noise(4, 6, 1)
    for image in (grey, grey[:, :, None]):
        np.testing.assert_array_equal(pixels(image), np.stack([grey] * 3, axis=-1))
    rgb.flags.writeable = False
    np.testing.assert_array_equal(pixels(rgb), rgb)


@pytest.mark.parametrize(
    "array",
    [
        noise(4, 6).astype(np.float32),
        noise(4, 6).astype(np.uint16),
        np.zeros((4, 6, 2), np.uint8),
        np.zeros((1, 4, 6, 3), np.uint8),
        np.zeros((3,), np.uint8),
        np.zeros((0, 6, 3), np.uint8),
        np.array(None),
    ],
    ids=lambda a: f"{a.dtype}{list(a.shape)}",
)
def test_arrays_that_are_no_images(array: Any) -> None:
    with pytest.raises(ImageError):
        PLAIN(array)


def test_things_that_are_no_images() -> None:
    for thing in (None, 7, [[1, 2], [3, 4]], b"bytes"):
        with pytest.raises(ImageError, match="expected a path, a PIL image or an array"):
            PLAIN(thing)  # type: ignore[arg-type]


def test_transparent_parts_are_white() -> None:
    rgba = noise(4, 6, 4)
    alpha = rgba[..., 3:] / 255
    expected = rgba[..., :3] * alpha + 255 * (1 - alpha)
    np.testing.assert_allclose(pixels(rgba), expected, atol=1)
    rgba[..., 3] = 255
    np.testing.assert_array_equal(pixels(rgba), rgba[..., :3])
    palette = Image.fromarray(noise(4, 6)).quantize(16)
    palette.info["transparency"] = palette.getpixel((0, 0))
    assert pixels(palette)[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
@pytest.mark.parametrize("wanted", ["RGB", "L"])
def test_modes(mode: str, wanted: Any) -> None:
    image = Image.fromarray(noise(4, 6)).convert(mode)
    assert open_image(image, wanted).mode == wanted
    np.testing.assert_array_equal(
        np.asarray(open_image(image, "RGB")), np.asarray(image.convert("RGB"))
    )


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_16_bits(dtype: Any, tmp_path: Path) -> None:
    grey = np.array([[0, 257, 65535], [128, 129, 32896]])
    image = Image.fromarray(grey.astype(dtype))
    expected = [[0, 1, 255], [0, 1, 128]]
    assert np.asarray(open_image(image, "L")).tolist() == expected
    path = tmp_path / "image.tiff"
    image.save(path)
    assert np.asarray(open_image(path, "L")).tolist() == expected


def test_floating_point() -> None:
    with pytest.raises(ImageError, match="floating point"):
        PLAIN(Image.fromarray(np.zeros((4, 6), np.float32)))


@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation(orientation: int, tmp_path: Path) -> None:
    """As Pillow turns them; 0 and 9 mean nothing."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "image.png"
    Image.fromarray(noise(4, 6)).save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
        np.testing.assert_array_equal(np.asarray(open_image(image, "RGB")), expected)
    np.testing.assert_array_equal(np.asarray(open_image(path, "RGB")), expected)


def test_the_cameras_orientation(tmp_path: Path) -> None:
    image = Image.fromarray(noise(4, 6))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    path = tmp_path / "image.png"
    image.save(path, exif=exif)
    expected = np.asarray(image.transpose(Image.Transpose.ROTATE_270))
    np.testing.assert_array_equal(np.asarray(open_image(path, "RGB")), expected)
    np.testing.assert_array_equal(pixels(path, Preprocessing((6, 4))), expected)


@pytest.mark.parametrize("kind", ["png", "bmp", "gif", "tiff", "ppm", "webp", "jpeg"])
def test_files(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "image"  # the content says what it is
    Image.fromarray(noise(4, 6)).save(path, format=kind)
    with Image.open(path) as image:
        np.testing.assert_array_equal(pixels(path), np.asarray(image.convert("RGB")))
    np.testing.assert_array_equal(pixels(str(path)), pixels(path))


# Bad images -------------------------------------------------------------------------------------


def test_files_that_are_no_images(tmp_path: Path) -> None:
    png = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(png, format="png")
    jpeg = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(jpeg, format="jpeg")
    files = {
        "text.png": b"This is no image.",
        "empty.png": b"",
        "cut.png": png.getvalue()[:-3000],
        "cut.jpg": jpeg.getvalue()[:-500],
        "start.png": png.getvalue()[:30],
        "noise.png": noise(1, 999, 1).tobytes(),
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
    }
    for name, content in files.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ImageError) as raised:
            PLAIN(path)
        assert str(path) in str(raised.value)
        assert "\n" not in str(raised.value)
    with pytest.raises(ImageError, match="no such file"):
        PLAIN(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="is a directory"):
        PLAIN(tmp_path)


@pytest.mark.parametrize("share", [0.5, 1.5, 3.0])
def test_decompression_bombs(share: float, tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "image.png"
    Image.new("L", (300, 300)).save(path)
    # Pillow warns from its limit on, and refuses from twice that on.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(300 * 300 / share))
    if share <= 1:
        PLAIN(path)
        return
    with pytest.raises(ImageError, match=r"too large|more than"):
        PLAIN(path)


def test_images_too_long_and_thin() -> None:
    image = Image.new("L", (1_000_000, 1))
    with pytest.raises(ImageError, match="too long and thin"):
        Preprocessing((224, 224), resize=256)(image)


@pytest.mark.parametrize("kind", ["png", "gif", "bmp", "tiff", "jpeg"])
def test_any_damage_gives_an_error_or_an_image(kind: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(noise(8, 8)).save(buffer, format=kind)
    data = buffer.getvalue()
    generator = np.random.default_rng(0)
    path = tmp_path / "image"
    cut: Callable[[int], bytes] = lambda i: data[:i]  # noqa: E731
    for i in generator.integers(len(data), size=100):
        for damaged in (cut(i), data[:i] + bytes([generator.integers(256)]) + data[i + 1 :]):
            path.write_bytes(damaged)
            try:
                assert PLAIN(path).shape == (1, 3, 4, 6)
            except ImageError as error:
                assert str(path) in str(error)
