"""Pictures that nobody vouches for: a few bytes that ask for gigabytes."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnrt import Preprocessing
from cnnrt.errors import ImageError
from cnnrt.images import open_image, resized
from scripts import environment


def png(width: int, height: int, bits: int = 1, colour: int = 0, channels: int = 1) -> bytes:
    """A black PNG of these sizes, compressed."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    row = bytes(1 + (width * bits * channels + 7) // 8)
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


PICTURES = {
    "a row of 89 million": (89_000_000, 1),
    "a column of a million": (1, 1 << 20),
    "a wide band": (1 << 20, 8),
    "a high band": (8, 1 << 20),
    "grey with alpha": (5000, 4000, 8, 4, 2),
    "16 bits": (5000, 4000, 16),
    "RGBA": (5000, 4000, 8, 6, 4),
}
WAYS = {
    "crop": {"size": (224, 224)},
    "both sides": {"size": (224, 224), "resize": (224, 224), "interpolation": "lanczos"},
    "shorter side": {"size": (224, 224), "resize": 256},
    "no crop": {"size": (224, 224), "crop": None, "interpolation": "bicubic"},
    "wide input": {"size": (8, 32768), "crop": None},
}
MEGABYTES = 400
"""Limit of memory beyond what the process had. The largest pictures take 160 MB as they are and, at
once, as RGB."""

SCRIPT = """
import resource, sys
from cnnrt import CnnrtError, Preprocessing
from test_hostile_pictures import MEGABYTES, WAYS
import cnnrt.images
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, way in WAYS.items():
    try:
        print(f"{name}: ran {Preprocessing(**way)(sys.argv[2]).shape}")
    except CnnrtError as error:
        print(f"{name}: {type(error).__name__}: {error}")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    assert grown < MEGABYTES, f"{name}: {grown} MB"
"""


@pytest.mark.parametrize("name", PICTURES)
def test_small_files_take_little_memory(name: str, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(png(*PICTURES[name]))
    assert file.stat().st_size < 250_000
    command = [sys.executable, "-c", "import sys; sys.path.insert(0, sys.argv[1])\n" + SCRIPT]
    done = subprocess.run(
        [*command, str(Path(__file__).parent), str(file)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = [line.split(": ", 1)[1] for line in done.stdout.splitlines()]
    assert len(answers) == len(WAYS)
    assert all(answer.startswith(("ran", "ImageError: ")) for answer in answers), answers


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (7, 8), (8, 7), (224, 1), (63, 65)])
def test_the_crop_has_the_pixels_of_a_border_and_a_crop(size: tuple[int, int]) -> None:
    """Like torchvision's CenterCrop: a black border first, if the picture is smaller."""
    h, w = size
    image = np.random.default_rng(h).integers(1, 256, (h, w), dtype=np.uint8)
    for crop in (1, 2, 7, 8, 64):
        down, across = max(crop - h, 0), max(crop - w, 0)
        border = ((down // 2, (down + 1) // 2), (across // 2, (across + 1) // 2))
        wide = np.pad(image, border)
        top, left = (round((n - crop) / 2) for n in wide.shape)
        want = wide[top : top + crop, left : left + crop]
        got = Preprocessing(size=(crop, crop), channels="L")(image)
        assert np.array_equal(got[0, 0], want)


def test_what_lies_between_the_axes_is_limited() -> None:
    thin = Image.new("L", (2, 60_000))
    assert resized(thin, 100, 10, Image.Resampling.BOX).size == (100, 10)
    with pytest.raises(ImageError, match=r"2 x 60000 pixels is too long and thin.*2000 x 2000"):
        resized(thin, 2000, 2000, Image.Resampling.BOX)
    assert resized(thin, 2, 60_000, Image.Resampling.BOX) is thin


def test_the_part_that_a_network_sees_is_limited() -> None:
    way = Preprocessing(size=(8192, 8192), resize=(1, 1))
    with pytest.raises(ImageError, match="sees 5242880 x 5242880 pixels around"):
        way.view(640, 640)
    assert Preprocessing(size=(224, 224)).view(640, 1) == (208.0, -111.0, 432.0, 113.0)


def test_conversions_in_bands_are_those_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 65536, (1300, 1000), dtype=np.uint16)  # more than one band
    got = np.asarray(open_image(Image.fromarray(grey), "L"))
    assert np.array_equal(got, (grey.astype(np.int64) + 128) // 257)
    rgba = Image.fromarray(rng.integers(0, 256, (1300, 1000, 4), dtype=np.uint8), "RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    white.alpha_composite(rgba)
    assert np.array_equal(np.asarray(open_image(rgba, "RGB")), np.asarray(white.convert("RGB")))
