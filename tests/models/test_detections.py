"""`Model.detect`, `segment` and `pose` of torchvision's detectors, beside torchvision itself."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch's wheel is declared for Python 3.11 only")

import cnnrt  # noqa: E402
from test_detectors import detector, holders, image, pairs  # noqa: E402

CASES = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": "detect",
    "ssdlite320_mobilenet_v3_large": "detect",
    "retinanet_resnet50_fpn": "detect",
    "maskrcnn_resnet50_fpn": "segment",
    "keypointrcnn_resnet50_fpn": "pose",
}
QUICK = ("fasterrcnn_mobilenet_v3_large_320_fpn",)


@pytest.mark.parametrize(
    ("name", "method"),
    [pytest.param(*c, marks=[] if c[0] in QUICK else [pytest.mark.zoo]) for c in CASES.items()],
)
@pytest.mark.filterwarnings("ignore")  # of PyTorch about its own parts
def test_agrees_with_torchvision(name: str, method: str) -> None:
    """Boxes and keypoints within 1e-3 of a pixel, masks within a pixel in ten thousand."""
    module = detector(name)
    (holder,) = holders(module)
    holder.score_thresh = 0.05
    model = cnnrt.load(cnnrt.export(module, ([image(3, 160, 200)],), None))
    pixels = np.rint(image(3, 160, 200).numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
    with torch.no_grad():
        (want,) = module([torch.tensor(pixels.transpose(2, 0, 1) / np.float32(255))])
    found = getattr(model, method)(pixels, 0.05)
    expected = {key: value.numpy() for key, value in want.items()}
    count = len(expected["scores"])
    assert len(found) == count > 5
    got = {"boxes": found.boxes, "scores": found.scores, "labels": found.classes}
    order = [pairs(got, expected, i) for i in range(count)]  # nearly equal scores may be exchanged
    assert sorted(order) == list(range(count))
    assert np.abs(found.boxes[order] - expected["boxes"]).max() < 1e-3
    assert np.abs(found.scores[order] - expected["scores"]).max() < 1e-4
    assert np.array_equal(found.classes[order], expected["labels"])
    if method == "segment":
        masks = expected["masks"][:, 0] >= 0.5
        assert masks.any()
        assert (found.masks[order] != masks).sum() <= 1e-4 * masks.sum()
    if method == "pose":
        assert np.abs(found.keypoints[order][..., :2] - expected["keypoints"][..., :2]).max() < 1e-3
        scores = 1 / (1 + np.exp(-expected["keypoints_scores"]))
        assert np.abs(found.keypoints[order][..., 2] - scores).max() < 1e-3
    assert len(model.detect(pixels, 0.05)) == count
