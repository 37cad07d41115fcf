"""torchvision, importable beside a PyTorch build that has none of torchvision's own operators.

torchvision registers shape rules for two operators of its C++ library when it is imported. It fails
if the library does not fit PyTorch, as with a CPU build of one and the usual wheel of the other.
Declaring the two first lets the import pass; nothing that the tests use calls them. Tests import
torchvision through here, and import here before timm, which imports it:

    from torchvision_cpu import torchvision
"""

from __future__ import annotations

import torch

_library = torch.library.Library(
    "torchvision", "FRAGMENT"
)  # the declarations live as long as it does
for _operator in ("nms", "qnms"):
    try:
        _library.define(f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except RuntimeError:  # torchvision's own library has been loaded and has it
        break

import torchvision  # noqa: E402

__all__ = ["torchvision"]
