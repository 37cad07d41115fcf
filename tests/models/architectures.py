"""Networks written out from their public definitions, of kinds that torchvision does not have.

Each class says where its architecture is defined. Widths are small: the tests are about the shape
of the network, not its size.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _conv(c: int, m: int) -> list[nn.Module]:
    return [nn.Conv2d(c, m, 3, padding=1), nn.BatchNorm2d(m), nn.ReLU()]


def course_rgb() -> nn.Module:
    """A course's network for 32 x 32 pictures in ten classes."""
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


def course_digits() -> nn.Module:
    """A course's network for 28 x 28 digits."""
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


class UNet(nn.Module):
    """U-Net in 2 or 3 dimensions: Ronneberger et al. 2015; Çiçek et al. 2016.

    Convolutions are padded and normalised, so a mask has the size of its image. That must be a
    multiple of 2 to the power of the number of widths less one.
    """

    def __init__(self, dims: int, c: int, classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        conv, norm, pool, up = {
            2: (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.ConvTranspose2d),
            3: (nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d, nn.ConvTranspose3d),
        }[dims]

        def double(c: int, m: int) -> nn.Module:
            layers = []
            for i in (c, m):
                layers += [conv(i, m, 3, padding=1, bias=False), norm(m), nn.ReLU(inplace=True)]
            return nn.Sequential(*layers)

        self.pool = pool(2)
        ins = [c, *widths]
        self.down = nn.ModuleList(double(i, m) for i, m in itertools.pairwise(ins))
        pairs = list(zip(widths[::-1][:-1], widths[::-1][1:], strict=True))
        self.up = nn.ModuleList(up(i, m, 2, stride=2) for i, m in pairs)
        self.join = nn.ModuleList(double(i, m) for i, m in pairs)
        self.head = conv(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else self.pool(x))
            skips.append(x)
        for up, join, skip in zip(self.up, self.join, skips[-2::-1], strict=True):
            x = join(torch.cat([skip, up(x)], dim=1))
        return self.head(x)


class WaveNet(nn.Module):
    """A WaveNet stack: causal dilated convolutions, gated, with skips: van den Oord et al. 2016."""

    def __init__(self, width: int = 32, skip: int = 48, layers: int = 8, levels: int = 64) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, width, 1)
        self.dilated = nn.ModuleList(
            nn.Conv1d(width, 2 * width, 2, dilation=2**i) for i in range(layers)
        )
        self.residual = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(layers))
        self.skip = nn.ModuleList(nn.Conv1d(width, skip, 1) for _ in range(layers))
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv1d(skip, skip, 1), nn.ReLU(), nn.Conv1d(skip, levels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        total: Tensor | None = None
        for dilated, residual, skip in zip(self.dilated, self.residual, self.skip, strict=True):
            padded = F.pad(x, (dilated.dilation[0], 0))
            filtered, gate = dilated(padded).chunk(2, dim=1)
            z = torch.tanh(filtered) * torch.sigmoid(gate)
            total = skip(z) if total is None else total + skip(z)
            x = x + residual(z)
        assert total is not None
        return self.head(total)


class TextCNN(nn.Module):
    """Sentence classification by convolutions over embedded words: Kim 2014."""

    def __init__(self, words: int = 1000, width: int = 64, filters: int = 48) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.convs = nn.ModuleList(nn.Conv1d(width, filters, k) for k in (3, 4, 5))
        self.head = nn.Linear(3 * filters, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens).transpose(1, 2)
        return self.head(torch.cat([F.relu(c(x)).amax(dim=2) for c in self.convs], dim=1))


class M5(nn.Module):
    """Speech commands from the raw waveform: Dai et al. 2017, "M5"."""

    def __init__(self, classes: int = 35, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for c, m, k, stride in (
            (1, width, 80, 16),
            (width, width, 3, 1),
            (width, 2 * width, 3, 1),
            (2 * width, 2 * width, 3, 1),
        ):
            layers += [nn.Conv1d(c, m, k, stride=stride), nn.BatchNorm1d(m), nn.ReLU()]
            layers += [nn.MaxPool1d(4)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.head(self.features(x).mean(dim=2)), dim=1)


class DenseGCN(nn.Module):
    """Two graph convolutions: Kipf and Welling 2017, on a normalised adjacency matrix.

    Takes features (B, nodes, c) and the adjacency (B, nodes, nodes), normalised.
    """

    def __init__(self, c: int = 32, width: int = 48, classes: int = 7) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(c, width), nn.Linear(width, classes)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        x = F.relu(adjacency @ self.first(x))
        return adjacency @ self.second(x)


class EdgeGCN(nn.Module):
    """The same on a list of edges: gather the sources, weigh, add up at the targets.

    Takes features (nodes, c) and edges (2, E) with self-loops; degrees are counted by a
    scatter-add of ones.
    """

    def __init__(self, c: int = 32, width: int = 48, classes: int = 7) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(c, width), nn.Linear(width, classes)

    @staticmethod
    def propagate(x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        ones = torch.ones_like(target, dtype=x.dtype)
        degree = torch.zeros(x.shape[0], dtype=x.dtype).scatter_add(0, target, ones)
        norm = degree.clamp(min=1.0).rsqrt()
        messages = x[source] * (norm[source] * norm[target])[:, None]
        return torch.zeros_like(x).index_add(0, target, messages)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        source, target = edges[0], edges[1]
        x = F.relu(self.propagate(self.first(x), source, target))
        return self.propagate(self.second(x), source, target)


class GraphSAGE(nn.Module):
    """A layer with mean aggregation: Hamilton et al. 2017, on a list of edges (2, E)."""

    def __init__(self, c: int = 32, width: int = 48) -> None:
        super().__init__()
        self.own, self.neighbours = nn.Linear(c, width), nn.Linear(c, width, bias=False)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        source, target = edges[0], edges[1]
        messages = x.index_select(0, source)
        index = target[:, None].expand_as(messages)
        total = torch.zeros_like(x).scatter_add(0, index, messages)
        count = torch.zeros_like(x).scatter_add(0, index, torch.ones_like(messages))
        mean = total / count.clamp(min=1.0)
        return F.relu(self.own(x) + self.neighbours(mean))


def srcnn() -> nn.Module:
    """Super-resolution of an enlarged picture: Dong et al. 2014, 9-1-5."""
    return nn.Sequential(
        nn.Conv2d(1, 64, 9, padding=4),
        nn.ReLU(),
        nn.Conv2d(64, 32, 1),
        nn.ReLU(),
        nn.Conv2d(32, 1, 5, padding=2),
    )


def espcn(scale: int = 3) -> nn.Module:
    """Super-resolution ending in a pixel shuffle: Shi et al. 2016."""
    return nn.Sequential(
        nn.Conv2d(1, 64, 5, padding=2),
        nn.Tanh(),
        nn.Conv2d(64, 32, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(32, scale * scale, 3, padding=1),
        nn.PixelShuffle(scale),
    )


def dcgan_generator(width: int = 32) -> nn.Module:
    """A picture of 64 x 64 from noise (100, 1, 1): Radford et al. 2016."""
    layers: list[nn.Module] = []
    c = 100
    for i, m in enumerate((8 * width, 4 * width, 2 * width, width)):
        stride, padding = (1, 0) if i == 0 else (2, 1)
        layers += [nn.ConvTranspose2d(c, m, 4, stride, padding, bias=False)]
        layers += [nn.BatchNorm2d(m), nn.ReLU()]
        c = m
    return nn.Sequential(*layers, nn.ConvTranspose2d(c, 3, 4, 2, 1, bias=False), nn.Tanh())


def autoencoder() -> nn.Module:
    """A convolutional autoencoder: strided convolutions down, transposed ones of kernel 3 up."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 7),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 32, 7),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 3, stride=2, padding=1, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 1, 3, stride=2, padding=1, output_padding=1),
        nn.Sigmoid(),
    )
