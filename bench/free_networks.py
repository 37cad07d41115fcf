"""A detector and a recogniser of text lines with free sizes, as ONNX files, for newsize.py.

    python bench/free_networks.py [detector] [recogniser] [--cache DIR]

Both follow published architectures at their smallest width, with seeded random weights:

detector     one-stage, as YOLOv8n: a backbone of split residual blocks, a pyramid of three scales,
             boxes from distributions over 16 distances; height and width free, multiples of 32
recogniser   as in PP-OCRv4: depthwise separable convolutions with squeeze-and-excite, two
             transformer blocks over the columns, a class per column; height 48, width free

Prepared once; a folder per network holds model.onnx, input.npy and reference.npy, PyTorch's output
in float64 for that input.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import cache_folder
from torch import Tensor, nn
from torch.nn import functional as F

import networks

REVISION = 1
"""Version of the cached files. Raise it when a change here makes them wrong."""


# ------------------------------------------------------------------------------------------------
# Detector


class Conv(nn.Sequential):
    """Convolution, batch norm and SiLU."""

    def __init__(self, c: int, m: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(c, m, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(m), nn.SiLU()
        )


class SplitBlock(nn.Module):
    """Half of the channels go through bottlenecks; all of their outputs are joined (C2f)."""

    def __init__(self, c: int, m: int, count: int, shortcut: bool) -> None:
        super().__init__()
        half = m // 2
        self.first = Conv(c, m)
        self.inner = nn.ModuleList(
            nn.Sequential(Conv(half, half, 3), Conv(half, half, 3)) for _ in range(count)
        )
        self.last = Conv((2 + count) * half, m)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).chunk(2, 1))
        for block in self.inner:
            y = block(parts[-1])
            parts.append(parts[-1] + y if self.shortcut else y)
        return self.last(torch.cat(parts, 1))


class PoolPyramid(nn.Module):
    """Three max pools in a row, joined (SPPF)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.first, self.last = Conv(c, c // 2), Conv(2 * c, c)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.first(x)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, 1, 2))
        return self.last(torch.cat(parts, 1))


class Detector(nn.Module):
    """Images (1, 3, h, w) to (1, 4 + classes, anchors): boxes in pixels, and scores."""

    def __init__(self, classes: int = 80, bins: int = 16) -> None:
        super().__init__()
        self.low = nn.Sequential(
            Conv(3, 16, 3, 2),
            Conv(16, 32, 3, 2),
            SplitBlock(32, 32, 1, True),
            Conv(32, 64, 3, 2),
            SplitBlock(64, 64, 2, True),
        )
        self.middle = nn.Sequential(Conv(64, 128, 3, 2), SplitBlock(128, 128, 2, True))
        self.high = nn.Sequential(
            Conv(128, 256, 3, 2), SplitBlock(256, 256, 1, True), PoolPyramid(256)
        )
        self.up_middle, self.up_low = SplitBlock(384, 128, 1, False), SplitBlock(192, 64, 1, False)
        self.down_middle, self.down_high = Conv(64, 64, 3, 2), Conv(128, 128, 3, 2)
        self.out_middle = SplitBlock(192, 128, 1, False)
        self.out_high = SplitBlock(384, 256, 1, False)
        self.boxes, self.scores = nn.ModuleList(), nn.ModuleList()
        for c in (64, 128, 256):
            self.boxes.append(self._head(c, 64, 4 * bins))
            self.scores.append(self._head(c, classes, classes))
        self.register_buffer("distances", torch.arange(bins).float().reshape(1, bins, 1, 1))
        self.bins = bins

    @staticmethod
    def _head(c: int, width: int, out: int) -> nn.Sequential:
        return nn.Sequential(Conv(c, width, 3), Conv(width, width, 3), nn.Conv2d(width, out, 1))

    def forward(self, x: Tensor) -> Tensor:
        low = self.low(x)
        middle = self.middle(low)
        high = self.high(middle)
        joined = self.up_middle(torch.cat([F.interpolate(high, scale_factor=2.0), middle], 1))
        near = self.up_low(torch.cat([F.interpolate(joined, scale_factor=2.0), low], 1))
        mid = self.out_middle(torch.cat([self.down_middle(near), joined], 1))
        far = self.out_high(torch.cat([self.down_high(mid), high], 1))
        found = []
        for i, feature in enumerate((near, mid, far)):
            h, w = feature.shape[2:]
            size = 8.0 * 2**i
            place = torch.stack(
                [
                    (torch.arange(w, dtype=x.dtype) + 0.5).expand(h, w),
                    (torch.arange(h, dtype=x.dtype) + 0.5)[:, None].expand(h, w),
                ]
            ).reshape(1, 2, -1)
            sides = self.boxes[i](feature).reshape(x.shape[0], 4, self.bins, -1)
            sides = F.conv2d(sides.transpose(1, 2).softmax(1), self.distances)
            before, after = sides.reshape(x.shape[0], 4, -1).chunk(2, 1)
            box = torch.cat([place + (after - before) / 2, before + after], 1) * size
            found.append(torch.cat([box, self.scores[i](feature).flatten(2).sigmoid()], 1))
        return torch.cat(found, 2)


# ------------------------------------------------------------------------------------------------
# Recogniser


class Scale(nn.Module):
    """Scale and bias of the whole tensor, learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x + self.bias


class Separable(nn.Module):
    """Depthwise and 1x1 convolution, each with batch norm, `Scale`, hard swish and `Scale`."""

    def __init__(
        self, c: int, m: int, kernel: int, stride: tuple[int, int], squeeze: bool = False
    ) -> None:
        super().__init__()
        self.depthwise = nn.Sequential(
            nn.Conv2d(c, c, kernel, stride, kernel // 2, groups=c, bias=False),
            *self._activation(c),
        )
        self.pointwise = nn.Sequential(nn.Conv2d(c, m, 1, bias=False), *self._activation(m))
        self.gate = (
            nn.Sequential(
                nn.AdaptiveAvgPool2d(1),
                nn.Conv2d(c, c // 4, 1),
                nn.ReLU(),
                nn.Conv2d(c // 4, c, 1),
                nn.Hardsigmoid(),
            )
            if squeeze
            else None
        )

    @staticmethod
    def _activation(c: int) -> list[nn.Module]:
        return [nn.BatchNorm2d(c), Scale(), nn.Hardswish(), Scale()]

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(x)
        return self.pointwise(x if self.gate is None else x * self.gate(x))


class Mixing(nn.Module):
    """A transformer block over the columns, (1, columns, width)."""

    def __init__(self, width: int, heads: int = 8) -> None:
        super().__init__()
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner = nn.Sequential(
            nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        batch, columns, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, columns, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q * (width // self.heads) ** -0.5 @ k.transpose(-2, -1)).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(batch, columns, width))
        return x + self.inner(self.norm2(x))


class Recogniser(nn.Module):
    """Lines of text (1, 3, 48, w) to probabilities (1, w / 8, classes)."""

    def __init__(self, classes: int = 6625, width: int = 120) -> None:
        super().__init__()
        one, down, half = (1, 1), (2, 1), (1, 2)
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False),
            nn.BatchNorm2d(16),
            Separable(16, 32, 3, one),
            Separable(32, 64, 3, one),
            Separable(64, 64, 3, one),
            Separable(64, 120, 3, down),
            Separable(120, 120, 3, one),
            Separable(120, 240, 3, half),
            *(Separable(240, 240, 5, one) for _ in range(4)),
            Separable(240, 480, 5, down, squeeze=True),
            Separable(480, 480, 5, one, squeeze=True),
            Separable(480, 480, 5, down),
            Separable(480, 480, 5, one),
            nn.AvgPool2d((3, 2)),
        )
        self.narrow = nn.Sequential(self._conv(480, 60, (1, 3)), self._conv(60, width, (1, 1)))
        self.mixing = nn.Sequential(Mixing(width), Mixing(width), nn.LayerNorm(width))
        self.widen = self._conv(width, 480, (1, 1))
        self.joined = nn.Sequential(self._conv(960, 60, (1, 3)), self._conv(60, width, (1, 1)))
        self.classes = nn.Linear(width, classes)

    @staticmethod
    def _conv(c: int, m: int, kernel: tuple[int, int]) -> nn.Sequential:
        padding = (kernel[0] // 2, kernel[1] // 2)
        conv = nn.Conv2d(c, m, kernel, padding=padding, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(m), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.backbone(x)
        y = self.narrow(x)
        mixed = self.mixing(y.flatten(2).transpose(1, 2))
        y = self.widen(mixed.transpose(1, 2).unsqueeze(2))
        y = self.joined(torch.cat([x, y], 1))
        return self.classes(y.squeeze(2).transpose(1, 2)).softmax(2)


# ------------------------------------------------------------------------------------------------
# Files


@dataclass(frozen=True)
class Free:
    """A network and the size at which its files are made."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    dynamic_shapes: Callable[[], Any]


def _multiples(name: str, of: int) -> Any:
    return of * torch.export.Dim(name, min=2, max=4096 // of)


NETWORKS = {
    "detector": Free(
        Detector, (1, 3, 224, 256), lambda: {2: _multiples("h", 32), 3: _multiples("w", 32)}
    ),
    "recogniser": Free(Recogniser, (1, 3, 48, 88), lambda: {3: _multiples("w", 8)}),
}


def prepare(name: str, cache: Path) -> Path:
    """The folder of a network's files, made if they are not there yet."""
    folder = cache / "networks" / f"{name}-{REVISION}-{networks.key()}"
    if not (folder / "reference.npy").exists():
        folder.mkdir(parents=True, exist_ok=True)
        network = NETWORKS[name]
        torch.manual_seed(0)
        scenes = np.random.default_rng(0).standard_normal((4, *network.shape[1:]), np.float32)
        module = networks.randomised(network.build(), (torch.from_numpy(scenes),))
        x = torch.from_numpy(scenes[:1])
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                (x,),
                dynamo=True,
                verbose=False,
                dynamic_shapes=(network.dynamic_shapes(),),
                input_names=["input"],
                output_names=["output"],
            )
            assert program is not None
            program.save(str(folder / "model.onnx"), external_data=False)
            reference = module.double()(x.double())
        np.save(folder / "input.npy", x.numpy())
        np.save(folder / "reference.npy", reference.numpy())  # last: all is there
    return folder


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(NETWORKS))
    parser.add_argument("--cache", help="folder for the files")
    args = parser.parse_args()
    for name in args.names:
        if name not in NETWORKS:
            parser.error(f"unknown network {name!r}; known: {', '.join(NETWORKS)}")
        print(prepare(name, cache_folder(args.cache)))


if __name__ == "__main__":
    main()
