"""Preprocessing by name: the steps that networks trained in the usual ways expect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..process.extras import missing
from ..process.locks import importing
from .steps import Preprocessing

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
CLIP = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}


class Preset(NamedTuple):
    """A way of preparing pictures, for inputs of any size."""

    about: str
    side: int
    """Pixels of a side of the input, unless the network states another size."""
    resize: float | None
    """The shorter side before the crop, over that of the input; None: no resize, no crop."""
    fields: Mapping[str, Any]

    def of_size(self, size: tuple[int, int]) -> Preprocessing:
        if self.resize is None:
            return Preprocessing(size=size, **self.fields)
        h, w = size
        # An input that is no square has no one side to crop from: the picture is fitted to both
        # sides.
        resize = (
            round(h * self.resize) if h == w else (round(h * self.resize), round(w * self.resize))
        )
        return Preprocessing(size=size, resize=resize, **self.fields)


PRESETS: dict[str, Preset] = {
    "imagenet": Preset(
        "values 0 to 1 less ImageNet's mean over its deviation, 224 of 256: torchvision, timm",
        *(224, 256 / 224, {"scale": 1 / 255, **IMAGENET}),
    ),
    "imagenet-inception": Preset(
        "values -1 to 1, 299 of 342: Inception, TensorFlow's MobileNet, many ViTs of timm",
        *(299, 342 / 299, {"scale": 1 / 255, "interpolation": "bicubic", **HALF}),
    ),
    "imagenet-caffe": Preset(
        "BGR, values 0 to 255 less the mean, 224 of 256: Caffe, Keras' VGG and ResNet",
        224,
        256 / 224,
        {"channels": "BGR", "scale": 1.0, "mean": (103.939, 116.779, 123.68)},
    ),
    "clip": Preset(
        "values 0 to 1 less CLIP's mean over its deviation, 224 of 224, bicubic",
        *(224, 1.0, {"scale": 1 / 255, "interpolation": "bicubic", **CLIP}),
    ),
    "mnist": Preset(
        "grey, values 0 to 1 less MNIST's mean over its deviation, 28 x 28",
        *(28, 1.0, {"channels": "L", "scale": 1 / 255, "mean": (0.1307,), "std": (0.3081,)}),
    ),
    "letterbox01": Preset(
        "values 0 to 1, the whole picture with bars of grey 114, 640 x 640: ultralytics' detectors",
        *(640, None, {"scale": 1 / 255, "pad": 114}),
    ),
    "raw01": Preset("values 0 to 1, the middle of the picture", 224, 1.0, {"scale": 1 / 255}),
    "raw255": Preset("values 0 to 255, the middle of the picture", 224, 1.0, {"scale": 1.0}),
}
"""The presets by name, and what `python -m cnnrt convert --preset` offers."""


class Found(NamedTuple):
    """The preprocessing, and perhaps the labels, that go by a name."""

    preprocessing: Preprocessing | None = None
    labels: list[str] | None = None


def named(name: str, size: tuple[int, int] | None = None) -> Found:
    """The preprocessing that goes by a name, and the labels if the name has some.

    Args:
        name: a preset, a torchvision weight such as "ResNet18_Weights.DEFAULT", or a timm model
            such as "timm/resnet18.a1_in1k".
        size: height and width of the network's input; None: the usual one.

    Raises:
        ValueError: nothing goes by this name.
        ImportError: the package that would know it is missing.
    """
    if name in PRESETS:
        preset = PRESETS[name]
        return Found(preset.of_size(size or (preset.side, preset.side)))
    if "_Weights." in name:
        return _of_torchvision(name)
    if name.startswith("timm/") or "." in name:
        return _of_timm(name.removeprefix("timm/"))
    raise ValueError(
        f"no preset is named {name!r}; there are {', '.join(PRESETS)}, and the names of weights "
        "such as ResNet18_Weights.DEFAULT (torchvision) and timm/resnet18.a1_in1k (timm)"
    )


def _of_torchvision(name: str) -> Found:
    try:
        with importing:
            from torchvision.models import get_weight  # noqa: PLC0415  (an optional dependency)
    except (ImportError, RuntimeError) as error:  # RuntimeError: it does not fit PyTorch
        raise ImportError(missing(f"the preset {name!r}", "torchvision", error)) from error
    try:
        return of_weights(get_weight(name))
    except (AttributeError, KeyError, ValueError) as error:
        raise ValueError(f"torchvision's weight {name!r}: {error}") from None


def of_weights(weights: Any) -> Found:
    """The preprocessing and labels of torchvision's weights, such as `ResNet18_Weights.DEFAULT`.

    Raises:
        ValueError: they are for other networks than classifiers of images.
    """
    categories = weights.meta.get("categories")
    preprocessing = Preprocessing.from_torchvision(weights.transforms())
    return Found(preprocessing, list(categories) if categories else None)


def _of_timm(name: str) -> Found:
    try:
        with importing:
            from timm.models import get_pretrained_cfg  # noqa: PLC0415  (an optional dependency)
    except (ImportError, RuntimeError) as error:
        raise ImportError(missing(f"the preset {name!r}", "timm", error)) from error
    try:
        config = get_pretrained_cfg(name)
    except (KeyError, RuntimeError, ValueError):
        config = None
    if config is None:
        raise ValueError(f"timm knows no weights that are named {name!r}")
    table: dict[str, Any] = config.to_dict()  # type: ignore[no-untyped-call,unused-ignore]
    return Found(Preprocessing.from_timm(table), imagenet_labels(table))


def imagenet_labels(config: Mapping[str, Any]) -> list[str] | None:
    """The names of the classes of a timm model of this `pretrained_cfg`, if timm knows them."""
    labels = list(config.get("label_names") or ())
    if labels:
        return labels
    try:
        from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset  # noqa: PLC0415

        subset = infer_imagenet_subset(config)  # by the number of classes
        return list(ImageNetInfo(subset).label_descriptions()) if subset else None
    except (ImportError, RuntimeError, AttributeError, OSError, ValueError, TypeError):
        return None
