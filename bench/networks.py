"""The networks that are measured, and a cache of them as ONNX files with inputs and references.

    python bench/networks.py [NAME ...] [--batch 1,8] [--cache DIR]     # prepares them; none: lists

Architectures are torchvision's, with the seeded random weights of the tests' zoo. Every layer has
an effect on the output, and nothing overflows, dies out or amplifies rounding errors. The reference
is PyTorch's result in float64. Prepared once; a folder per network holds

    model.onnx           with a free batch size; or model_b8.onnx for each size if it cannot be free
    model.pt             TorchScript, for the engines that take it (torch; ncnn through pnnx)
    input_b8.npy  reference_b8.npy
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from machine import cache_folder

if TYPE_CHECKING:
    from torch import Tensor, nn

REVISION = 2
"""Version of the cached files. Raise it when a change here makes them wrong."""

CALIBRATION = 4
"""Images on which batch norm is calibrated."""


@dataclass(frozen=True)
class Network:
    """One row of the table."""

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...] = (3, 224, 224)
    """Shape of one input, without the batch."""
    calibrated: tuple[int, ...] | None = None
    """Shape of the images of the calibration, if that is another one."""


@dataclass(frozen=True)
class Prepared:
    """The files of a network at one batch size."""

    onnx: Path
    torchscript: Path | None
    input: Path
    reference: Path


def _torchvision(name: str, **options: Any) -> Callable[[], nn.Module]:
    """Builds a classification or video network of torchvision."""

    def build() -> nn.Module:
        models = _import_torchvision().models
        module: nn.Module = getattr(models.video if name == "r3d_18" else models, name)(
            weights=None, **options
        )
        return module

    return build


def _find(*folders: str) -> None:
    """Makes the modules of folders of this repository importable."""
    for folder in folders:
        path = str(Path(__file__).resolve().parent.parent / folder)
        if path not in sys.path:
            sys.path.append(path)


def _import_torchvision() -> Any:
    """torchvision, also on a CPU build of PyTorch: tests/torchvision_cpu.py."""
    _find("tests")
    from torchvision_cpu import torchvision  # noqa: PLC0415

    return torchvision


def _deeplab() -> nn.Module:
    """DeepLab v3 on MobileNet v3."""
    return _segmentation("deeplabv3_mobilenet_v3_large")


def _fcn() -> nn.Module:
    """A fully convolutional network on a dilated ResNet-50."""
    return _segmentation("fcn_resnet50")


def _segmentation(name: str) -> nn.Module:
    """A network of torchvision that returns its one tensor rather than a dict."""
    import torch  # noqa: PLC0415

    class OnlyOut(torch.nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.inner(x)["out"]
            return result

    build = getattr(_import_torchvision().models.segmentation, name)
    return OnlyOut(build(weights=None, weights_backbone=None, num_classes=21))


def _super_resolution() -> nn.Module:
    """The layers of Real-ESRGAN's network for videos (SRVGGNetCompact): 4 times as large."""
    import torch  # noqa: PLC0415

    class SuperResolution(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            inside = [layer for _ in range(16) for layer in (conv(64, 64), torch.nn.PReLU(64))]
            self.body = torch.nn.Sequential(
                conv(3, 64), torch.nn.PReLU(64), *inside, conv(64, 48), torch.nn.PixelShuffle(4)
            )

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.body(x) + torch.nn.functional.interpolate(x, scale_factor=4.0)
            return y

    def conv(c: int, m: int) -> nn.Module:
        return torch.nn.Conv2d(c, m, 3, padding=1)

    return SuperResolution()


def _lenet5() -> nn.Module:
    """The LeNet-5 of the examples."""
    _find("examples")
    from lenet5 import LeNet5  # noqa: PLC0415

    return LeNet5()


_NO_AUX = {"aux_logits": False, "init_weights": True}

NETWORKS = {
    n.name: n
    for n in [
        Network("lenet5", _lenet5, (1, 28, 28)),
        Network("alexnet", _torchvision("alexnet")),
        Network("vgg16", _torchvision("vgg16")),
        Network("resnet18", _torchvision("resnet18")),
        Network("resnet50", _torchvision("resnet50")),
        Network("resnet152", _torchvision("resnet152")),
        Network("r3d_18", _torchvision("r3d_18"), (3, 16, 112, 112)),
        Network("googlenet", _torchvision("googlenet", **_NO_AUX)),
        Network("inception_v3", _torchvision("inception_v3", **_NO_AUX), (3, 299, 299)),
        Network("densenet121", _torchvision("densenet121")),
        Network("squeezenet1_1", _torchvision("squeezenet1_1")),
        Network("mobilenet_v2", _torchvision("mobilenet_v2")),
        Network("mobilenet_v3_small", _torchvision("mobilenet_v3_small")),
        Network("efficientnet_b0", _torchvision("efficientnet_b0")),
        Network("mnasnet1_0", _torchvision("mnasnet1_0")),
        Network("shufflenet_v2_x1_0", _torchvision("shufflenet_v2_x1_0")),
        Network("regnet_y_400mf", _torchvision("regnet_y_400mf")),
        Network("convnext_tiny", _torchvision("convnext_tiny")),
        Network("vit_b_16", _torchvision("vit_b_16")),
        Network("deeplabv3_mobilenet", _deeplab, (3, 256, 256)),
    ]
}

"""Those of the table, which are measured unless some are chosen."""

LARGE = {
    n.name: n
    for n in [
        Network("super_resolution_540p", _super_resolution, (3, 540, 960), (3, 64, 64)),
        Network("super_resolution_1080p", _super_resolution, (3, 1080, 1920), (3, 64, 64)),
        Network("fcn_resnet50_540p", _fcn, (3, 540, 960), (3, 224, 224)),
        Network("deeplabv3_1080p", _deeplab, (3, 1080, 1920), (3, 256, 256)),
    ]
}
"""Networks on pictures of half a megapixel to two, whose activations are far beyond any cache."""

ALL = {**NETWORKS, **LARGE}


def prepare(name: str, batch: int, cache: Path) -> Prepared:
    """The files of a network at a batch size, made if they are not there yet."""
    folder = cache / "networks" / f"{name}-{key()}"
    files = find(folder, batch)
    if files is None:
        folder.mkdir(parents=True, exist_ok=True)
        _make(ALL[name], batch, folder)
        files = find(folder, batch)
        assert files is not None
    return files


def find(folder: Path, batch: int) -> Prepared | None:
    """The prepared files at a batch size, if all are there."""
    free, fixed = folder / "model.onnx", folder / f"model_b{batch}.onnx"
    script = folder / "model.pt"
    files = Prepared(
        free if free.exists() else fixed,
        script if script.exists() else None,
        folder / f"input_b{batch}.npy",
        folder / f"reference_b{batch}.npy",
    )
    done = files.onnx.exists() and files.input.exists() and files.reference.exists()
    return files if done else None


def key() -> str:
    """A key of everything that the files depend on."""
    versions = []
    for package in ("torch", "torchvision"):
        try:
            versions.append(version(package).split("+")[0])
        except PackageNotFoundError:
            versions.append("none")
    return "-".join([str(REVISION), *versions])


def _make(network: Network, batch: int, folder: Path) -> None:
    import torch  # noqa: PLC0415

    module = _build(network)
    x = _images(network, batch)
    if not (folder / "model.onnx").exists():
        _export(module, network, batch, folder)
    if not (folder / "model.pt").exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                # Unchecked: ViT traces differently the second time. Engines check the output.
                traced: Any = torch.jit.trace(  # type: ignore[no-untyped-call]
                    module, _images(network, 1), check_trace=False
                )
                traced.save(str(folder / "model.pt"))
            except Exception as error:  # then torch and ncnn are left out
                print(f"{network.name}: no TorchScript: {str(error)[:300]}", file=sys.stderr)
    np.save(folder / f"input_b{batch}.npy", x.numpy())
    with torch.no_grad():
        module.double()
        reference = torch.cat([module(image[None].double()) for image in x])
    assert bool(torch.isfinite(reference).all()), f"{network.name}: the reference is not finite"
    np.save(folder / f"reference_b{batch}.npy", reference.numpy())  # last: all is there


def _images(network: Network, batch: int) -> Tensor:
    """Seeded images; the first ones do not depend on the number."""
    return _seeded(network.shape, batch, 1000)


def _seeded(shape: tuple[int, ...], batch: int, seed: int) -> Tensor:
    import torch  # noqa: PLC0415

    arrays = [
        np.random.default_rng(seed + i).standard_normal(shape, np.float32) for i in range(batch)
    ]
    return torch.from_numpy(np.stack(arrays))


def _build(network: Network) -> nn.Module:
    """The module with random weights of which all matter, in evaluation mode."""
    import torch  # noqa: PLC0415

    torch.manual_seed(0)
    images = _seeded(network.calibrated or network.shape, CALIBRATION, 2000)
    return randomised(network.build().eval(), (images,))


def randomised(module: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    """A module with the random weights of the tests' zoo, its batch norms calibrated on inputs."""
    _find("tests", "tests/models", "examples")
    from zoo import randomise  # noqa: PLC0415

    return randomise(module, inputs)


def _export(module: nn.Module, network: Network, batch: int, folder: Path) -> None:
    """Writes model.onnx with a free batch size, or else model_b<batch>.onnx."""
    import torch  # noqa: PLC0415

    def write(example: Tensor, shapes: Any, path: Path) -> None:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                verbose=False,
                dynamic_shapes=shapes,
                input_names=["input"],
                output_names=["output"],
            )
            assert program is not None
            program.save(str(path.with_suffix(".part")), external_data=False)
            path.with_suffix(".part").replace(path)

    try:
        # A size of 1 in the example would be taken for one that is always 1.
        write(_images(network, 2), ({0: torch.export.Dim("batch")},), folder / "model.onnx")
    except Exception as error:  # the exporter's errors have no common base
        print(f"{network.name}: no free batch size: {str(error)[:300]}", file=sys.stderr)
        write(_images(network, batch), None, folder / f"model_b{batch}.onnx")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--batch", default="1", help="batch sizes, with commas")
    parser.add_argument("--cache", help="folder for the files")
    args = parser.parse_args()
    for name in args.names or ALL:
        if not args.names:
            print(f"{name:<24} {'x'.join(map(str, ALL[name].shape))}")
            continue
        if name not in ALL:
            parser.error(f"unknown network {name!r}; known: {', '.join(ALL)}")
        for batch in map(int, args.batch.split(",")):
            files = prepare(name, batch, cache_folder(args.cache))
            print(f"{name}: {files.onnx.name}, batch {batch}")


if __name__ == "__main__":
    main()
