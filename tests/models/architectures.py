"""The networks that the tests run, with seeded weights and calibrated batch normalisation."""

from __future__ import annotations

import torch
from torch import nn

import torchvision_cpu
from lenet5 import LeNet5

SIZES = {"course_rgb": (3, 32, 32), "course_digits": (1, 28, 28), "lenet5": (1, 28, 28)}
"""Input (C, H, W) of those that do not take 3 x 224 x 224."""


def _conv(c: int, m: int) -> list[nn.Module]:
    return [nn.Conv2d(c, m, 3, padding=1), nn.BatchNorm2d(m), nn.ReLU()]


def _course_rgb() -> nn.Module:
    """The course's network for 32 x 32 pictures in ten classes."""
    return nn.Sequential(
        *_conv(3, 32),
        nn.MaxPool2d(2),
        *_conv(32, 64),
        nn.MaxPool2d(2),
        *_conv(64, 128),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(2048, 256),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(256, 10),
    )


def _course_digits() -> nn.Module:
    """The course's network for 28 x 28 digits."""
    return nn.Sequential(
        *_conv(1, 32),
        nn.MaxPool2d(2),
        *_conv(32, 64),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 512),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(512, 10),
    )


def _efficientnet_lite0() -> nn.Module:
    """The pretrained network of the example."""
    from efficientnet_lite0 import efficientnet_lite0

    return efficientnet_lite0()


OWN = {
    "course_rgb": _course_rgb,
    "course_digits": _course_digits,
    "lenet5": LeNet5,
    "efficientnet_lite0": _efficientnet_lite0,
}
PRETRAINED = {"efficientnet_lite0"}


def size_of(name: str) -> tuple[int, int, int]:
    """Input (C, H, W) of a network."""
    return SIZES.get(name, (3, 224, 224))


def build(name: str) -> nn.Module:
    """A network in evaluation mode: one of `OWN`, or torchvision's of this name.

    Batch normalisation gets the statistics of one random batch, so that activations keep their
    scale through many layers as they do in a trained network.
    """
    torch.manual_seed(0)
    module = OWN[name]() if name in OWN else torchvision_cpu.torchvision.models.get_model(name)
    if name in PRETRAINED:
        return module
    module.train()
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.eval()
    with torch.no_grad():
        module(torch.randn(4, *size_of(name)))
    return module.eval()
