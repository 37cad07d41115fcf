"""torchvision, importable beside a PyTorch build that has none of torchvision's own operators.

torchvision registers shape rules for operators of its C++ library when it is imported. It fails if
the library does not fit PyTorch, as with a CPU build of one and the usual wheel of the other. Here
the operators that its detectors use are declared, with plain definitions. Tests import torchvision
through here, and import here before timm, which imports it:

    from torchvision_cpu import torchvision
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

_SIGNATURES = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, "
    "SymInt pooled_width, int sampling_ratio, bool aligned) -> Tensor",
)


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """The places of boxes that overlap no better one by more than the threshold, best first."""
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    gone = torch.zeros(len(boxes), dtype=torch.bool)
    kept = []
    for i in torch.argsort(scores, descending=True, stable=True).tolist():
        if gone[i]:
            continue
        kept.append(i)
        low = torch.maximum(boxes[i, :2], boxes[:, :2])
        high = torch.minimum(boxes[i, 2:], boxes[:, 2:])
        shared = (high - low).clamp(min=0).prod(1)
        gone |= shared / (area[i] + area - shared) > iou_threshold
    return torch.tensor(kept, dtype=torch.int64)


def _yes() -> bool:
    return True


def _nothing() -> None:
    return None


_library = torch.library.Library(
    "torchvision", "FRAGMENT"
)  # the declarations live as long as it does
_DECLARED = True
for _signature in _SIGNATURES:
    try:
        _library.define(_signature)
    except RuntimeError:  # torchvision's own library has been loaded and has it
        _DECLARED = False
        break

import torchvision  # noqa: E402

if _DECLARED:
    from torchvision.ops.roi_align import _roi_align

    _library.impl("nms", _nms, "CPU")
    _library.impl("roi_align", _roi_align, "CPU")
    # torchvision asks if its library is there, or exports its operators as what they consist of.
    for _name in ("boxes", "roi_align"):
        _module = sys.modules[f"torchvision.ops.{_name}"]
        for _question, _answer in (("_has_ops", _yes), ("_assert_has_ops", _nothing)):
            if hasattr(_module, _question):
                setattr(_module, _question, _answer)

__all__ = ["torchvision"]
