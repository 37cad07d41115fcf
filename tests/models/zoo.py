"""The catalogue of networks that cnnrt answers for: how each is built, and inputs for it.

torchvision's classification, segmentation and video models are here by `list_models`, all of
them; `architectures` has the rest. Weights are random, seeded, and such that the network is well
conditioned: `randomise`. Small members of each of torchvision's families stand for them in the
default test run.
"""

from __future__ import annotations

import gc
import itertools
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import architectures as own
import cnnrt
from torchvision_cpu import torchvision

models = torchvision.models

CALIBRATION = 4
"""Images on which batch norm is calibrated."""


@dataclass(frozen=True)
class Network:
    """One architecture."""

    name: str
    family: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int, int], tuple[Tensor, ...]]
    """Inputs by number of the size (0, 1, ...) and batch."""
    sizes: int = 2
    free: Any = None
    """Free sizes in an export, as `cnnrt.export` takes them in `dynamic_shapes`. None: the batch
    alone, so every size has an export of its own."""
    shift: float = 0.0
    """Mean of the norms' biases. Deep networks amplify rounding errors less if most of their ReLUs
    are open."""
    pretrained: bool = False
    """True if it is built with weights of its own."""
    quick: bool = False
    """True if the default test run has it."""


def pictures(*shapes: tuple[int, ...]) -> Callable[[int, int], tuple[Tensor, ...]]:
    """Batches of pictures, sounds or clips (C, ...), seeded.

    Each is noise on a smooth ground of its own brightness and contrast. So averages over a picture
    differ from one to the next by more than rounding, as in photos. Every size has the same scenes:
    those that batch norm was calibrated on.
    """

    def make(size: int, batch: int) -> tuple[Tensor, ...]:
        shape = shapes[size]
        result = torch.empty(batch, *shape)
        for i in range(batch):
            g = torch.Generator().manual_seed(i)
            field = torch.ones(shape[0], *[1] * (len(shape) - 1))
            for axis, n in enumerate(shape[1:], 1):
                f, phase = torch.rand(2, shape[0], generator=g)
                wave = torch.cos(2 * math.pi * (f[:, None] * torch.arange(n) / n + phase[:, None]))
                field = field * wave.reshape(
                    shape[0], *[n if a == axis else 1 for a in range(1, len(shape))]
                )
            level, contrast = torch.randn(shape[0], generator=g), 0.5 + torch.rand(1, generator=g)
            ground = field + level.reshape(-1, *[1] * (len(shape) - 1))
            result[i] = ground + contrast * torch.randn(shape, generator=g)
        return (result,)

    return make


FREE = {
    1: ({0: "batch", 2: "length"},),
    2: ({0: "batch", 2: "height", 3: "width"},),
    3: ({0: "batch", 2: "depth", 3: "height", 4: "width"},),
}
"""Free sizes of pictures by number of dimensions."""


def _tokens(size: int, batch: int) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(size)
    return (torch.randint(0, 1000, (batch, (40, 57)[size]), generator=g),)


def _edges(nodes: int, generator: torch.Generator) -> Tensor:
    """A random graph of four edges a node, with self-loops; (2, E)."""
    ring = torch.arange(nodes)
    random = torch.randint(0, nodes, (2, 4 * nodes), generator=generator)
    return torch.cat([torch.stack([ring, ring]), random], dim=1)


def _edge_graph(size: int, batch: int) -> tuple[Tensor, ...]:
    """A batch of graphs is one graph of their disjoint union."""
    nodes = (60, 85)[size]
    g = torch.Generator().manual_seed(size)
    edges = torch.cat([_edges(nodes, g) + i * nodes for i in range(batch)], dim=1)
    return torch.randn(batch * nodes, 32, generator=g), edges


def _dense_graph(size: int, batch: int) -> tuple[Tensor, ...]:
    nodes = (60, 85)[size]
    g = torch.Generator().manual_seed(size)
    adjacency = torch.zeros(batch, nodes, nodes)
    for matrix in adjacency:
        source, target = _edges(nodes, g)
        matrix[target, source] = 1
    norm = adjacency.sum(2).rsqrt()
    normalised = norm[:, :, None] * adjacency * norm[:, None, :]
    return torch.randn(batch, nodes, 32, generator=g), normalised


EDGE_FREE = ({0: "nodes"}, {1: "edges"})
DENSE_FREE = ({0: "batch", 1: "nodes"}, {0: "batch", 1: "nodes", 2: "nodes"})


def _own() -> list[Network]:
    """The networks that are not torchvision's."""
    from lenet5 import LeNet5

    def efficientnet_lite0() -> nn.Module:
        from efficientnet_lite0 import efficientnet_lite0 as pretrained

        module: nn.Module = pretrained()
        return module

    def net(
        name: str, family: str, build: Any, inputs: Any, free: Any = None, sizes: int = 2
    ) -> Network:
        return Network(name, family, build, inputs, sizes, free, quick=True)

    two = FREE[2]
    return [
        net("lenet5", "course", LeNet5, pictures((1, 28, 28)), sizes=1),
        Network(
            "efficientnet_lite0",
            "course",
            efficientnet_lite0,
            pictures((3, 224, 224)),
            1,
            pretrained=True,
        ),
        net("course_rgb", "course", own.course_rgb, pictures((3, 32, 32)), sizes=1),
        net("course_digits", "course", own.course_digits, pictures((1, 28, 28)), sizes=1),
        net(
            "unet",
            "segmentation",
            lambda: own.UNet(2, 3, 2, (16, 32, 64, 128)),
            pictures((3, 64, 64), (3, 48, 80)),
            two,
        ),
        net(
            "unet3d",
            "segmentation",
            lambda: own.UNet(3, 1, 3, (16, 32, 64)),
            pictures((1, 16, 16, 16), (1, 8, 24, 20)),
            FREE[3],
        ),
        net("wavenet", "1d", own.WaveNet, pictures((1, 600), (1, 433)), FREE[1]),
        net("textcnn", "1d", own.TextCNN, _tokens, ({0: "batch", 1: "length"},)),
        net("m5", "1d", own.M5, pictures((1, 8000), (1, 11025)), FREE[1]),
        net("gcn_dense", "graph", own.DenseGCN, _dense_graph, DENSE_FREE),
        net("gcn_edges", "graph", own.EdgeGCN, _edge_graph, EDGE_FREE),
        net("graphsage", "graph", own.GraphSAGE, _edge_graph, EDGE_FREE),
        net("srcnn", "image", own.srcnn, pictures((1, 48, 48), (1, 33, 50)), two),
        net("espcn", "image", own.espcn, pictures((1, 32, 32), (1, 21, 40)), two),
        net("dcgan", "image", own.dcgan_generator, pictures((100, 1, 1)), sizes=1),
        net("autoencoder", "image", own.autoencoder, pictures((1, 28, 28), (1, 44, 36)), two),
    ]


def _small() -> list[Network]:
    """The smallest of each of torchvision's families, or one of its class made smaller."""
    from torchvision.models import (
        convnext,
        densenet,
        efficientnet,
        maxvit,
        regnet,
        resnet,
        swin_transformer,
        vgg,
        vision_transformer,
    )
    from torchvision.models.segmentation import deeplabv3, lraspp
    from torchvision.models.video import resnet as video_resnet
    from torchvision.models.video import swin_transformer as video_swin

    def res(groups: int = 1, width: int = 64) -> nn.Module:
        return resnet.ResNet(
            resnet.Bottleneck, [1, 1, 1, 1], num_classes=10, groups=groups, width_per_group=width
        )

    def video(block: Any, convs: Any) -> nn.Module:
        stem = video_resnet.BasicStem
        if convs is video_resnet.Conv2Plus1D:
            stem = video_resnet.R2Plus1dStem
        return video_resnet.VideoResNet(block, [convs] * 4, [1, 1, 1, 1], stem, num_classes=10)

    def small_vgg() -> nn.Module:
        result = vgg.VGG(
            vgg.make_layers([16, "M", 32, "M", 64, "M"], batch_norm=True), init_weights=False
        )
        result.classifier = nn.Sequential(nn.Linear(64 * 7 * 7, 10))
        return result

    def mbconv(*args: Any) -> Any:
        return efficientnet.MBConvConfig(*args)

    def net(name: str, build: Any, *shapes: Any, free: bool = True) -> Network:
        dims = len(shapes[0]) - 1
        return Network(
            f"small_{name}",
            name,
            build,
            pictures(*shapes),
            len(shapes),
            FREE[dims] if free else None,
            quick=True,
        )

    a, b = (3, 64, 64), (3, 80, 96)
    block = video_resnet.BasicBlock
    clip = ((3, 8, 32, 32), (3, 6, 40, 48))
    return [
        net("vgg", small_vgg, (3, 56, 56), (3, 64, 48), free=False),
        net("resnet", res, a, b),
        net("resnext", lambda: res(4, 16), a, b),
        net("densenet", lambda: densenet.DenseNet(12, (2, 2, 2), 24, num_classes=10), a, b),
        net("squeezenet", lambda: models.squeezenet1_1(weights=None, num_classes=10), a, b),
        net(
            "shufflenet",
            lambda: models.ShuffleNetV2([2, 2, 2], [24, 48, 96, 192, 256], num_classes=10),
            a,
            b,
        ),
        net(
            "efficientnet",
            lambda: efficientnet.EfficientNet(
                [
                    mbconv(1, 3, 1, 16, 16, 1),
                    mbconv(6, 3, 2, 16, 24, 2),
                    efficientnet.FusedMBConvConfig(4, 3, 2, 24, 32, 1),
                    mbconv(6, 5, 2, 32, 40, 2),
                ],
                0.0,
                num_classes=10,
            ),
            a,
            b,
        ),
        net(
            "mobilenet",
            lambda: models.mobilenet_v3_small(weights=None, width_mult=0.5, num_classes=10),
            a,
            b,
        ),
        net(
            "regnet",
            lambda: regnet.RegNet(
                regnet.BlockParams.from_init_params(4, 24, 24.48, 2.54, 16, se_ratio=0.25),
                num_classes=10,
            ),
            a,
            b,
        ),
        net(
            "convnext",
            lambda: convnext.ConvNeXt(
                [
                    convnext.CNBlockConfig(32, 64, 1),
                    convnext.CNBlockConfig(64, 96, 1),
                    convnext.CNBlockConfig(96, None, 1),
                ],
                num_classes=10,
            ),
            a,
            b,
        ),
        net(
            "vit",
            lambda: vision_transformer.VisionTransformer(32, 8, 2, 2, 64, 128, num_classes=10),
            (3, 32, 32),
            free=False,
        ),
        net(
            "swin",
            lambda: swin_transformer.SwinTransformer(
                [4, 4], 32, [2, 2], [2, 4], [4, 4], num_classes=10
            ),
            (3, 64, 64),
            free=False,
        ),
        net(
            "swin_v2",
            lambda: swin_transformer.SwinTransformer(
                [4, 4],
                32,
                [2, 2],
                [2, 4],
                [4, 4],
                num_classes=10,
                block=swin_transformer.SwinTransformerBlockV2,
                downsample_layer=swin_transformer.PatchMergingV2,
            ),
            (3, 40, 72),
            free=False,
        ),
        net(
            "maxvit",
            lambda: maxvit.MaxVit((32, 32), 16, 4, [16, 32], [1, 1], 8, 0.0, num_classes=10),
            (3, 32, 32),
            free=False,
        ),
        net("lraspp", lambda: Output(lraspp.LRASPP(Pyramid(), 24, 48, 5, 32)), a, b),
        net(
            "deeplab",
            lambda: Output(deeplabv3.DeepLabV3(Pyramid(), deeplabv3.DeepLabHead(48, 5))),
            a,
            b,
        ),
        net("r3d", lambda: video(block, video_resnet.Conv3DSimple), *clip),
        net("r2plus1d", lambda: video(block, video_resnet.Conv2Plus1D), *clip),
        net(
            "swin3d",
            lambda: video_swin.SwinTransformer3d(
                [2, 4, 4], 32, [2, 2], [2, 4], [4, 4, 4], num_classes=10
            ),
            (3, 6, 40, 48),
            free=False,
        ),
    ]


class Pyramid(nn.Module):
    """A backbone for segmentation heads, at an eighth and a sixteenth of the size."""

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Sequential(*self._step(3, 16, 4), *self._step(16, 24, 2))
        self.high = nn.Sequential(*self._step(24, 48, 2))

    @staticmethod
    def _step(c: int, m: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(c, m, 3, stride, 1, bias=False), nn.BatchNorm2d(m), nn.ReLU()]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        low = self.low(x)
        high = self.high(low)
        return {"low": low, "high": high, "out": high}


class Output(nn.Module):
    """A segmentation network, giving its one tensor "out" rather than a dict."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(x)["out"]
        return result


def _torchvision() -> list[Network]:
    """All of torchvision's classification, segmentation and video models."""
    result = []
    for name in models.list_models(module=models):
        if name.startswith("raft"):
            continue
        options: dict[str, Any] = {}
        if name in ("googlenet", "inception_v3"):
            options = {"aux_logits": False, "init_weights": False}
        shapes = CLASSIFICATION_SIZES.get(name, ((3, 224, 224), (3, 160, 192)))
        fixed = name.startswith(FIXED_SIZE)
        result.append(
            Network(
                name,
                "classification",
                partial(models.get_model, name, weights=None, **options),
                pictures(*shapes[: 1 if name.startswith(ONE_SIZE) else 2]),
                1 if name.startswith(ONE_SIZE) else 2,
                None if fixed else FREE[2],
                shift=0.5 if name in INCEPTIONS or name.endswith("_bn") else 0.0,
            )
        )

    def segmentation(name: str) -> nn.Module:
        return Output(models.get_model(name, weights=None, weights_backbone=None, num_classes=21))

    result += [
        Network(
            name,
            "segmentation",
            partial(segmentation, name),
            pictures((3, 224, 224), (3, 160, 192)),
            2,
            FREE[2],
            # Nothing averages the errors of single pixels: with closed ReLUs PyTorch's float32 is
            # 2.4e-5 from its own float64 in deeplabv3_resnet101, with open ones 3.5e-6.
            shift=0.5 if "resnet" in name else 0.0,
        )
        for name in models.list_models(module=models.segmentation)
    ]
    for name in models.list_models(module=models.video):
        shapes = VIDEO_SIZES.get(name, ((3, 16, 112, 112), (3, 8, 96, 128)))
        result.append(
            Network(
                name,
                "video",
                partial(models.get_model, name, weights=None),
                pictures(*shapes),
                len(shapes),
                None if name.startswith(FIXED_SIZE) else FREE[3],
                shift=0.5 if name in INCEPTIONS else 0.0,
            )
        )
    return result


ONE_SIZE = ("vit", "maxvit")
"""Architectures that take pictures of one size: they have learnt a place for every patch."""

FIXED_SIZE = (*ONE_SIZE, "alexnet", "vgg", "swin", "mvit", "s3d")
"""Networks that PyTorch exports for one size at a time. They have adaptive pools to more than one
pixel, or windows padded by an amount that Python computes."""

CLASSIFICATION_SIZES = {"inception_v3": ((3, 299, 299), (3, 192, 224))}
VIDEO_SIZES = {
    "mvit_v1_b": ((3, 16, 224, 224),),
    "mvit_v2_s": ((3, 16, 224, 224),),
    "s3d": ((3, 16, 224, 224), (3, 24, 224, 256)),
}

INCEPTIONS = ("googlenet", "inception_v3", "s3d")

NETWORKS = {n.name: n for n in [*_own(), *_small(), *_torchvision()]}

DETECTION = sorted(models.list_models(module=models.detection))
QUANTISED = sorted(models.list_models(module=models.quantization))


def build(name: str) -> nn.Module:
    """A network in evaluation mode, with seeded weights."""
    network = NETWORKS[name]
    torch.manual_seed(zlib.crc32(name.encode()))
    if network.pretrained:
        return network.build().eval()
    return randomise(network.build(), network.inputs(0, CALIBRATION), network.shift)


def randomise(module: nn.Module, inputs: tuple[Tensor, ...], shift: float = 0.0) -> nn.Module:
    """Gives a module weights such that all of them matter and none of it is chaotic.

    PyTorch's own initialisation leaves parts of some networks without effect (zeros, layer scales
    of 1e-6). It lets the signal die out without norms, and makes deep residual networks amplify
    rounding errors. Here, as in trained networks, the branches add less than their input.
    """
    batch_norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = batch_norms + [m for m in module.modules() if isinstance(m, nn.LayerNorm)]
    layers = (nn.modules.conv._ConvNd, nn.Linear)
    with torch.no_grad():
        for layer in module.modules():
            if not isinstance(layer, layers):
                continue
            if not norms or not layer.weight.any():
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None and not layer.bias.any():
                layer.bias.normal_(0, 0.05)
        for norm in norms:
            norm.weight.uniform_(0.7, 1.3)
            norm.bias.normal_(shift, 0.2)
        for norm in last_norms(module):
            norm.weight.mul_(RESIDUAL)
        for name, parameter in module.named_parameters():
            if name.endswith(("layer_scale", "logit_scale")):
                parameter.uniform_(0.2, 1.0)
            elif not parameter.any():  # such as ViT's class token
                parameter.normal_(0, 0.1)
        if batch_norms:
            module.eval()
            for norm in batch_norms:
                norm.reset_running_stats()
                norm.momentum = None  # the mean over all that is seen
                norm.train()
            module(*inputs)
    return module.eval()


RESIDUAL = 0.3
"""Scale of a residual branch's last norm: 50 such branches double the variance of their input."""


def last_norms(module: nn.Module) -> list[nn.Module]:
    """The norms whose output is added to the input of their block."""
    found = []
    for block in module.modules():
        kind = type(block).__name__
        if kind in ("BasicBlock", "Bottleneck"):
            norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
            shortcut = block.downsample
            inner = set(shortcut.modules()) if shortcut is not None else set()
            found.append([m for m in norms if m not in inner][-1])
        elif kind == "ResBottleneckBlock":
            found.append([m for m in block.f.modules() if isinstance(m, nn.BatchNorm2d)][-1])
        elif getattr(block, "use_res_connect", False) or kind == "_InvertedResidual":
            found.append([m for m in block.modules() if isinstance(m, nn.BatchNorm2d)][-1])
    return found


def export(name: str, module: nn.Module, size: int, path: Path) -> None:
    """Writes a network to a file that `cnnrt.load` reads."""
    network = NETWORKS[name]
    # PyTorch takes a size of 1 in the example for one that is always 1.
    example = network.inputs(size, 2)
    free = network.free or tuple({0: "batch"} for _ in example)
    part = path.with_suffix(".part")
    gc.disable()  # the exporter's objects stay alive: looking for garbage is a quarter of its time
    try:
        cnnrt.export(module, example, part, dynamic_shapes=free)
    finally:
        gc.enable()
    part.replace(path)


@dataclass(frozen=True)
class Agreement:
    """The distance of outputs from PyTorch's, as max |difference| / max |output|."""

    size: int
    batch: int
    default: float
    im2col: float
    references: list[str]
    """Lines of `Model.describe` of operators without a kernel."""


def exported(name: str, module: nn.Module | None, size: int, folder: Path) -> Path:
    """The file of a network for inputs of a size, written if it is not there yet.

    One file serves all sizes if the sizes are free.
    """
    path = folder / f"{name}.{0 if NETWORKS[name].free else size}.bin"
    if not path.exists():
        export(name, build(name) if module is None else module, size, path)
    return path


def named_inputs(model: cnnrt.Model, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
    """The inputs by the names that the exporter has given them."""
    return {spec.name: x.numpy() for spec, x in zip(model.inputs, inputs, strict=True)}


def agreements(name: str, module: nn.Module, folder: Path) -> list[Agreement]:
    """Compares a network with PyTorch at every size, batch 1 and 3, with exports in `folder`."""
    network = NETWORKS[name]
    cases = [(size, batch) for size in range(network.sizes) for batch in (1, 3)]
    with torch.no_grad():
        wanted = {case: module(*network.inputs(*case)).numpy() for case in cases}
    paths = {case: exported(name, module, case[0], folder) for case in cases}
    errors: dict[tuple[int, int], list[float]] = {case: [] for case in cases}
    references: dict[tuple[int, int], list[str]] = {}
    for algorithm, path in itertools.product(("auto", "im2col"), dict.fromkeys(paths.values())):
        # One at a time: two of the largest networks do not fit into memory.
        model = cnnrt.load(path, algorithm=algorithm)
        for case in [c for c in cases if paths[c] == path]:
            want, x = wanted[case], named_inputs(model, network.inputs(*case))
            got = model.run(x)
            assert got.shape == want.shape, f"{name}: {got.shape}, not {want.shape}"
            errors[case].append(float(np.abs(got - want).max() / np.abs(want).max()))
            if algorithm == "auto":
                lines = model.describe(x).splitlines()
                references[case] = [line for line in lines if "no kernel" in line]
        del model
    return [Agreement(*case, *errors[case], references[case]) for case in cases]
