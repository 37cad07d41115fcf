"""Descriptions of pictures and classes that other tools write into an ONNX file or beside it.

ultralytics, OpenVINO's Model API, ONNX's own image keys (as Azure Custom Vision writes them) and
timm's configuration are metadata of the model. Hugging Face's and Keras' files lie beside it.
All are hints of files that nobody vouches for: what cannot be understood is left out with a
`PreprocessingWarning`.
"""

from __future__ import annotations

import ast
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import FormatError, PreprocessingWarning
from ..graph import Graph
from ..storage import validate
from .fitting import check_labels, fitted, fixed_size, image_input
from .presets import imagenet_labels
from .steps import Interpolation, Preprocessing

MAX_BYTES = 16 << 20
"""Bytes of a description. The names of 21,843 classes take one megabyte."""
RESAMPLING: dict[int, Interpolation] = {
    **{0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"},
    **{4: "box", 5: "hamming"},
}
"""Pillow's numbers, as Hugging Face's files have them."""

Size = tuple[int, int]


class Description(NamedTuple):
    """The preprocessing and the classes of a network, as far as they are known."""

    preprocessing: Preprocessing | None = None
    labels: list[str] | None = None
    multi_label: bool = False


def describe(
    metadata: Mapping[str, str], path: str | os.PathLike[str] | None, graph: Graph
) -> Description:
    """The description in the metadata of an ONNX model, or in the files beside it.

    Args:
        metadata: the model's metadata.
        path: the model's path; None: it is only in memory.
        graph: the network, whose sizes go before those of the descriptions.
    """
    found = image_input(graph)
    size = fixed_size(found) if found else None
    sources: list[tuple[str, Callable[[], Description | None]]] = [
        ("ultralytics", lambda: _ultralytics(metadata, size)),
        ("OpenVINO", lambda: _openvino(metadata, size)),
        ("ONNX's image keys", lambda: _image_keys(metadata, size)),
        ("timm", lambda: _timm(_parsed(metadata.get("pretrained_cfg")), metadata)),
    ]
    if path is not None:
        folder = Path(path).parent
        sources.append(("the files beside the model", lambda: _beside(folder, size)))
    preprocessing: Preprocessing | None = None
    labels: list[str] | None = None
    multi_label = False
    for name, read in sources:
        try:
            description = read() or Description()
        except (ArithmeticError, LookupError, TypeError, ValueError, FormatError) as error:
            _left_out(name, error)
            continue
        if preprocessing is None and description.preprocessing is not None:
            try:
                preprocessing = fitted(description.preprocessing, graph)
            except FormatError as error:
                _left_out(name, error)
        if labels is None and description.labels:
            try:
                check_labels(description.labels, graph)
                labels = [validate.label(label, "label") for label in description.labels]
            except FormatError as error:
                _left_out(name, error)
        multi_label = multi_label or description.multi_label
    return Description(preprocessing, labels, multi_label)


def _left_out(name: str, error: Exception) -> None:
    warnings.warn(
        f"what {name} says of pictures or classes is left out: {str(error)[:300]}",
        PreprocessingWarning,
        stacklevel=2,
    )


# Metadata of the model. ---------------------------------------------------------------------------


def _ultralytics(metadata: Mapping[str, str], size: Size | None) -> Description | None:
    """`names`, `task` and `imgsz`, which `yolo export format=onnx` writes."""
    if not metadata.keys() >= {"names", "task"}:
        return None
    names = _parsed(metadata["names"])
    labels = _by_index(names) if isinstance(names, Mapping) else [str(n) for n in names]
    if size is None:
        h, w = _pair(_parsed(metadata.get("imgsz", "640")))
        size = (h, w)
    if metadata["task"] == "classify":  # torchvision's Resize and CenterCrop of the same size
        resize: Any = size[0] if size[0] == size[1] else size
        return Description(Preprocessing(size=size, resize=resize, scale=1 / 255), labels)
    return Description(Preprocessing(size=size, pad=114, scale=1 / 255), labels)


def _openvino(metadata: Mapping[str, str], size: Size | None) -> Description | None:
    """The section `model_info` of rt_info, whose keys OpenVINO's Model API writes into ONNX."""
    info = {
        key.split(maxsplit=1)[1]: value
        for key, value in metadata.items()
        if key.startswith("model_info ")
    }
    if not info:
        return None
    labels = [label.replace("_", " ") for label in info.get("labels", "").split()] or None
    multi_label = info.get("multilabel", "").lower() == "true"
    if size is None or not info.keys() & {"mean_values", "scale_values", "resize_type"}:
        return Description(None, labels, multi_label)
    ways: dict[str, dict[str, Any]] = {
        "standard": {"resize": size},
        "crop": {"resize": min(size)},
        "fit_to_window_letterbox": {"pad": int(info.get("pad_value") or 0)},
    }
    way = info.get("resize_type", "standard")
    if way not in ways:
        raise ValueError(f"resize_type {way!r} is none of {', '.join(ways)}")
    if info.get("reverse_input_channels", "true").lower() == "false":
        warnings.warn(
            "OpenVINO's reverse_input_channels is False, which leaves open if the network takes "
            "RGB or BGR: taken as RGB; set model.preprocessing if that is wrong",
            PreprocessingWarning,
            stacklevel=2,
        )
    mean, std = (
        tuple(float(n) for n in info.get(key, "").replace(",", " ").split())
        for key in ("mean_values", "scale_values")
    )
    return Description(
        Preprocessing(size=size, mean=mean, std=std, **ways[way]), labels, multi_label
    )


RANGES: dict[str, dict[str, Any]] = {
    "NominalRange_0_255": {"scale": 1.0},
    "Normalized_0_1": {"scale": 1 / 255},
    "Normalized_1_1": {"scale": 2 / 255, "mean": 1.0},
    "NominalRange_16_235": {"scale": 219 / 255, "mean": -16.0},
}
"""`Image.NominalPixelRange` of ONNX's MetadataProps, as scale and mean."""


def _image_keys(metadata: Mapping[str, str], size: Size | None) -> Description | None:
    """`Image.BitmapPixelFormat` and `Image.NominalPixelRange` of ONNX's specification."""
    pixels = metadata.get("Image.BitmapPixelFormat")
    if pixels is None or size is None:
        return None
    orders = {"gray8": "L", "rgb8": "RGB", "bgr8": "BGR", "rgba8": "RGB", "bgra8": "BGR"}
    if pixels.lower() not in orders:
        raise ValueError(f"Image.BitmapPixelFormat {pixels!r} is none of {', '.join(orders)}")
    channels: Any = orders[pixels.lower()]
    values = dict(RANGES[metadata.get("Image.NominalPixelRange", "NominalRange_0_255")])
    if "mean" in values:
        values["mean"] = (values["mean"],) * (1 if channels == "L" else 3)
    resize: Any = size[0] if size[0] == size[1] else size
    return Description(Preprocessing(size=size, resize=resize, channels=channels, **values))


def _timm(config: Any, around: Mapping[str, Any]) -> Description | None:
    """timm's `pretrained_cfg`, with names of classes beside it."""
    if not isinstance(config, Mapping) or "input_size" not in config:
        return None
    labels = around.get("label_names")
    labels = _parsed(labels) if isinstance(labels, str) else labels
    classes = config.get("num_classes") or around.get("num_classes")
    found = list(labels) if labels else imagenet_labels({**config, "num_classes": classes})
    return Description(Preprocessing.from_timm(config), found)


# Files beside the model. --------------------------------------------------------------------------


def _beside(folder: Path, size: Size | None) -> Description | None:
    """Hugging Face's `preprocessor_config.json` and `config.json` (of transformers or timm), and
    Keras' `image_converter.json` or `preprocessor.json`, in the model's folder. Exporters put the
    model into a folder `onnx` inside it."""
    folders = [folder, folder.parent] if folder.name == "onnx" else [folder]
    for place in folders:
        config = _file(place / "config.json")
        images = _file(place / "preprocessor_config.json")
        keras = _file(place / "image_converter.json") or _file(place / "preprocessor.json")
        known = {"id2label", "pretrained_cfg", "label_names"} & config.keys()
        if not (known or images or keras):
            continue
        timm = _timm(config.get("pretrained_cfg"), config)
        if timm:
            return timm
        labels = _by_index(config["id2label"]) if config.get("id2label") else None
        if labels and all(label == f"LABEL_{i}" for i, label in enumerate(labels)):
            labels = None  # transformers' own names in place of others
        preprocessing = None
        if images:
            preprocessing = _hugging_face(images, size)
        elif keras:
            preprocessing = _keras(keras, size)
        multi_label = config.get("problem_type") == "multi_label_classification"
        return Description(preprocessing, labels, multi_label)
    return None


def _hugging_face(config: Mapping[str, Any], size: Size | None) -> Preprocessing | None:
    """An image processor of transformers."""
    odd = [key for key in ("do_pad", "rescale_offset", "include_top") if config.get(key)]
    if odd:
        raise ValueError(f"preprocessor_config.json asks for {odd[0]}, which cnnrt does not do")
    given = config.get("size", 224)
    method = RESAMPLING[int(config.get("resample", 2))]
    shorter = given.get("shortest_edge") if isinstance(given, Mapping) else None
    both = _pair(given) if shorter is None else None
    resize: Any = int(shorter) if shorter is not None else both
    crop = _pair(config["crop_size"]) if config.get("do_center_crop") else None
    if shorter is not None and config.get("crop_pct"):  # ConvNeXt: cropped below 384, else squashed
        crop = (int(shorter), int(shorter))
        resize = int(int(shorter) / float(config["crop_pct"])) if int(shorter) < 384 else crop
    if not config.get("do_resize", True):
        resize = None
    scale = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
    normal = config.get("do_normalize", "image_mean" in config)
    mean, std = (
        tuple(float(n) for n in config.get(key) or ()) if normal else ()
        for key in ("image_mean", "image_std")
    )
    final = crop or both or size
    if final is None:
        raise ValueError("preprocessor_config.json gives no height and width")
    if crop is None and shorter is not None:
        crop = final  # what lies beyond the network's input is cut off
    return Preprocessing(
        size=size or final,
        resize=resize,
        interpolation=method,
        crop="center" if crop else None,
        scale=scale,
        mean=mean,
        std=std,
    )


def _keras(document: Mapping[str, Any], size: Size | None) -> Preprocessing | None:
    """KerasHub's ImageConverter: values become value * scale + offset."""
    config = document.get("config", document)
    config = config.get("image_converter", config)
    config = config.get("config", config)
    if "image_size" not in config:
        return None
    h, w = size or _pair(config["image_size"])
    scales, offsets = (_channels(config.get(k), d) for k, d in (("scale", 1.0), ("offset", 0.0)))
    scales, offsets = ((n * 3 if len(n) == 1 else n) for n in (scales, offsets))
    way: dict[str, Any] = {"resize": (h, w)}
    if config.get("pad_to_aspect_ratio"):
        way = {"pad": 0}
    elif config.get("crop_to_aspect_ratio", True) and h == w:
        way = {"resize": h}
    return Preprocessing(
        size=(h, w),
        interpolation=config.get("interpolation", "bilinear"),
        mean=tuple(-offset / scale for scale, offset in zip(scales, offsets, strict=True)),
        std=tuple(1 / scale for scale in scales),
        **way,
    )


# Values. ------------------------------------------------------------------------------------------


def _file(path: Path) -> Mapping[str, Any]:
    """The JSON object of a file; empty if there is none."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return {}
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _parsed(text: str | None) -> Any:
    """A value written as JSON, or as Python writes it."""
    if text is None or len(text) > MAX_BYTES:
        return None
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text)
    except (MemoryError, RecursionError, SyntaxError, ValueError):
        raise ValueError(f"cannot be read: {text[:60]!r}") from None


def _by_index(table: Mapping[Any, Any]) -> list[str]:
    """The values of {0: a, 1: b}, whose keys may be strings, in order."""
    names = {int(index): str(name) for index, name in table.items()}
    if sorted(names) != list(range(len(names))):
        raise ValueError("the classes are not numbered from 0 on")
    return [names[i] for i in range(len(names))]


def _pair(value: Any) -> Size:
    """Height and width of a number, a list of two, or an object."""
    if isinstance(value, Mapping):
        return int(value["height"]), int(value["width"])
    if isinstance(value, Sequence):
        h, w = value if len(value) == 2 else (*value, *value)
        return int(h), int(w)
    return int(value), int(value)


def _channels(value: Any, default: float) -> list[float]:
    """Numbers per channel, or one for all."""
    if value is None:
        return [default]
    return [float(n) for n in value] if isinstance(value, Sequence) else [float(value)]
