"""torchvision's detectors, exported as a whole: boxes, labels, scores, masks and key points.

Weights are random. The threshold of the score makes that many, one or no detection is left. With
`--scoreboard` each detector that passes gets its row in docs/networks.md.
"""

from __future__ import annotations

import zlib

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch's wheel is declared for Python 3.11 only")

from torch import Tensor, nn  # noqa: E402

import cnnrt  # noqa: E402
import scoreboard  # noqa: E402
import zoo  # noqa: E402

SIZES = (160, 200), (192, 144)
QUICK = ("fasterrcnn_mobilenet_v3_large_320_fpn",)
BOUND = 1e-3
"""Bound of |difference| / max |output|. Boxes are exponentials of what the network computes, and a
mask is sampled between pixels."""

FEW = 20
"""Most detections of one picture."""

SMALL_RCNN = {
    "min_size": 160,
    "max_size": 224,
    "rpn_pre_nms_top_n_test": 100,
    "rpn_post_nms_top_n_test": 40,
    "box_detections_per_img": FEW,
}
SMALL_SSD = {"topk_candidates": 40, "detections_per_img": FEW}
SMALL_DENSE = {"min_size": 160, "max_size": 224, **SMALL_SSD}
"""Sizes for which the plain definitions of torchvision's operators take seconds, not minutes."""


def small(name: str) -> dict[str, int]:
    """Arguments of a detector that make it quick to run in PyTorch."""
    if "rcnn" in name:
        return SMALL_RCNN
    return SMALL_SSD if name.startswith("ssd") else SMALL_DENSE


def detector(name: str) -> nn.Module:
    """A detector with seeded weights, for small pictures.

    Each layer is scaled when a picture first passes through it, so that what it makes has a given
    spread (layer-sequential unit variance: Mishkin and Matas, "All you need is a good init").
    Scores are then far from each other, and boxes near their anchors.
    """
    torch.manual_seed(zlib.crc32(name.encode()))
    module = zoo.models.get_model(name, weights=None, weights_backbone=None, **small(name)).eval()
    seen = set()

    def scale(layer: nn.Module, spread: float, y: Tensor) -> Tensor | None:
        if layer in seen or y.numel() < 2:
            return None
        seen.add(layer)
        factor = spread / float(y.std())
        layer.weight.mul_(factor)
        return y * factor

    hooks = []
    for key, layer in module.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            spread = 2.0 if "cls" in key or "classification" in key else 1.0
            spread = 0.3 if "bbox" in key or "regression" in key else spread
            hooks.append(
                layer.register_forward_hook(
                    lambda layer, _, y, spread=spread: scale(layer, spread, y)
                )
            )
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for holder in holders(module):
        holder.score_thresh = 0.0
    with torch.no_grad():
        module([image(0, *SIZES[0])])
    for hook in hooks:
        hook.remove()
    return module


def image(seed: int, height: int, width: int) -> Tensor:
    """A picture (3, height, width) of values from 0 to 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, height, width, generator=generator)


def holders(module: nn.Module) -> list[nn.Module]:
    """The parts that have a threshold of the score of what is detected."""
    return [m for m in (module, getattr(module, "roi_heads", None)) if hasattr(m, "score_thresh")]


def detections(module: nn.Module, x: Tensor) -> dict[str, np.ndarray]:
    """What PyTorch detects in a picture."""
    with torch.no_grad():
        return {key: value.numpy() for key, value in module([x])[0].items()}


def clear_picture(module: nn.Module, height: int, width: int) -> Tensor:
    """A picture in which PyTorch detects the same after a change of 1e-5 of it.

    In others two scores, or an overlap and its threshold, are so near to each other that rounding
    decides which box is left.
    """
    for seed in range(20):
        x = image(seed, height, width)
        noise = image(seed + 1000, height, width) - 0.5
        first, second = (detections(module, y) for y in (x, x + 2e-5 * noise))
        alike = np.array_equal(first["labels"], second["labels"])
        if alike and np.abs(first["boxes"] - second["boxes"]).max(initial=0) < 0.1:
            return x
    raise AssertionError("no picture has clear detections")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.zoo]) for n in zoo.DETECTION],
)
@pytest.mark.filterwarnings("ignore")  # of PyTorch about its own parts
def test_agrees_with_pytorch(name: str, request: pytest.FixtureRequest) -> None:
    """At two sizes, with many detections, one and none."""
    module = detector(name)
    (holder,) = holders(module)
    pictures = [clear_picture(module, *size) for size in SIZES]
    best = np.sort(detections(module, pictures[0])["scores"])[::-1]
    assert len(best) > 5
    thresholds = {"many": 0.0, "one": float(best[:2].mean()), "none": 2.0}
    errors = []
    for case, threshold in thresholds.items():
        holder.score_thresh = threshold
        data = cnnrt.export(module, ([pictures[0]],), None)
        model = cnnrt.load(data)
        for x in pictures:
            want = detections(module, x)
            got = model(x.numpy())
            assert list(got) == list(want)
            if x is pictures[0]:
                count = len(want["scores"])
                assert count > 5 if case == "many" else count == (case == "one"), case
            errors.append(error_of(got, want, f"{name}, {case}, {tuple(x.shape)}"))
    if request.config.getoption("scoreboard"):
        scoreboard.add_detector(name, module, max(errors))


def error_of(got: dict[str, np.ndarray], want: dict[str, np.ndarray], at: str) -> float:
    """The largest |difference| / max |output| of detections that agree in their order. Two whose
    scores are nearly equal may be exchanged."""
    for key, expected in want.items():
        assert got[key].shape == expected.shape, (at, key, got[key].shape, expected.shape)
        assert got[key].dtype == expected.dtype, (at, key)
    order = [pairs(got, want, i) for i in range(len(want["scores"]))]
    assert sorted(order) == list(range(len(order))), at
    worst = 0.0
    for key, expected in want.items():
        if expected.size:
            error = float(np.abs(got[key][order].astype(np.float64) - expected).max())
            scale = float(np.abs(expected).max())
            assert error <= BOUND * scale + 1e-6, (at, key, error)
            worst = max(worst, error / max(scale, 1e-6))
    return worst


def pairs(got: dict[str, np.ndarray], want: dict[str, np.ndarray], i: int) -> int:
    """The number of the detection that is number i of what is wanted."""
    near = np.flatnonzero(np.abs(got["scores"] - want["scores"][i]) < 1e-4)
    near = near[got["labels"][near] == want["labels"][i]]
    assert near.size, (i, want["scores"][i], got["scores"][max(i - 1, 0) : i + 2])
    return int(near[np.abs(got["boxes"][near] - want["boxes"][i]).max(axis=1).argmin()])
