"""Descriptions of pictures and classes by other tools, in an ONNX file or beside it, are taken
over."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnrt
from cnnrt import Preprocessing
from cnnrt.errors import PreprocessingWarning

onnx = pytest.importorskip("onnx")
from onnx import helper  # noqa: E402

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def write(
    path: Path, metadata: dict[str, str], *, shape: Any = ("n", 3, 8, 8), last: str = "Identity"
) -> Path:
    """A network that gives the mean of each channel, as an ONNX file."""
    axes = [1, 2] if shape[3] == 3 else [2, 3]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=axes, keepdims=0),
            helper.make_node(last, ["m"], ["y"]),
        ],
        "means",
        [value("x", 1, shape)],
        [value("y", 1, [shape[0], 3])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(proto, metadata)
    path.write_bytes(proto.SerializeToString())
    return path


def load(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return cnnrt.load(path)


ULTRALYTICS = {"names": "{0: 'a', 1: 'b', 2: \"c's\"}", "imgsz": "[8, 8]", "stride": "32"}
OPENVINO = {
    "model_info labels": "red green very_blue",
    "model_info mean_values": "123.675 116.28 103.53",
    "model_info scale_values": "58.395 57.12 57.375",
    "model_info resize_type": "crop",
    "model_info reverse_input_channels": "True",
}
TIMM = {
    "input_size": [3, 8, 8],
    "crop_pct": 0.5,
    "interpolation": "bicubic",
    "mean": [0.5] * 3,
    "std": [0.25] * 3,
    "label_names": ["a", "b", "c"],
}


@pytest.mark.parametrize(
    ("metadata", "preprocessing", "labels"),
    [
        (
            {**ULTRALYTICS, "task": "classify"},
            Preprocessing(size=(8, 8), resize=8, scale=1 / 255),
            ["a", "b", "c's"],
        ),
        (
            {**ULTRALYTICS, "task": "detect"},
            Preprocessing(size=(8, 8), pad=114, scale=1 / 255),
            ["a", "b", "c's"],
        ),
        (
            OPENVINO,
            Preprocessing(
                size=(8, 8), resize=8, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)
            ),
            ["red", "green", "very blue"],
        ),
        (
            {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "Normalized_1_1"},
            Preprocessing(size=(8, 8), resize=8, channels="BGR", scale=2 / 255, mean=(1,) * 3),
            None,
        ),
        (
            {"pretrained_cfg": json.dumps(TIMM)},
            Preprocessing(
                size=(8, 8),
                resize=16,
                interpolation="bicubic",
                scale=1 / 255,
                mean=(0.5,) * 3,
                std=(0.25,) * 3,
            ),
            ["a", "b", "c"],
        ),
    ],
    ids=["classifier", "detector", "OpenVINO", "image keys", "timm"],
)
def test_metadata(
    metadata: dict[str, str], preprocessing: Preprocessing, labels: Any, tmp_path: Path
) -> None:
    model = load(write(tmp_path / "m.onnx", metadata))
    assert model.preprocessing == preprocessing
    assert model.labels == labels


HUGGING_FACE = {
    "do_resize": True,
    "size": {"shortest_edge": 10},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 8, "width": 8},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(IMAGENET["mean"]),
    "image_std": list(IMAGENET["std"]),
}


def beside(folder: Path, **files: Any) -> None:
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}.json").write_text(text)


@pytest.mark.parametrize("inside", ["", "onnx"])
def test_hugging_face(inside: str, tmp_path: Path) -> None:
    beside(
        tmp_path,
        preprocessor_config=HUGGING_FACE,
        config={
            "id2label": {"1": "b", "0": "a", "2": "c"},
            "problem_type": "multi_label_classification",
        },
    )
    (tmp_path / inside).mkdir(exist_ok=True)
    model = load(write(tmp_path / inside / "model.onnx", {}))
    assert model.preprocessing == Preprocessing(
        size=(8, 8), resize=10, interpolation="bicubic", scale=1 / 255, **IMAGENET
    )
    assert model.labels == ["a", "b", "c"]
    assert model.multi_label
    assert model.kind_of_scores == "logits of each class"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"size": 8, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}, ((8, 8), None, 1 / 255)),
        ({"size": {"height": 8, "width": 8}, "do_rescale": False}, ((8, 8), None, 1.0)),
        ({"size": {"shortest_edge": 8}, "crop_pct": 0.8}, (10, "center", 1 / 255)),
        ({"size": {"shortest_edge": 8}, "crop_size": [6, 6]}, (8, "center", 1 / 255)),
    ],
)
def test_kinds_of_image_processors(config: Any, expected: Any, tmp_path: Path) -> None:
    beside(tmp_path, preprocessor_config=config)
    found = load(write(tmp_path / "m.onnx", {})).preprocessing
    assert (found.resize, found.crop, found.scale) == expected
    assert found.size == (8, 8)


def test_keras_and_timm_beside(tmp_path: Path) -> None:
    converter = {"image_size": [8, 8], "scale": [1 / 58.0] * 3, "offset": [-2.0, -2.1, -1.9]}
    beside(tmp_path, image_converter={"class_name": "ImageConverter", "config": converter})
    model = load(write(tmp_path / "m.onnx", {}, shape=(1, 8, 8, 3)))  # Keras' own layout
    x = model.input_from(np.full((8, 8, 3), 116, np.uint8))
    assert x.shape == (1, 8, 8, 3)
    np.testing.assert_allclose(x[0, 0, 0], [0.0, -0.1, 0.1], atol=1e-5)

    beside(tmp_path, config={"pretrained_cfg": TIMM, "num_classes": 3})
    model = load(write(tmp_path / "m.onnx", {}))
    assert model.preprocessing.resize == 16
    assert model.labels == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("metadata", "files", "message"),
    [
        ({"names": "{0: os.system('x')}", "task": "detect"}, {}, "cannot be read"),
        ({"names": "{0: 'a', 2: 'b'}", "task": "classify"}, {}, "not numbered from 0"),
        ({"names": "['a']", "task": "classify"}, {}, "1 labels for an output"),
        ({**OPENVINO, "model_info resize_type": "magic"}, {}, "resize_type 'magic'"),
        ({**OPENVINO, "model_info scale_values": "0 0 0"}, {}, "numbers other than 0"),
        ({"Image.BitmapPixelFormat": "Gray8"}, {}, "makes 1 channels"),
        ({}, {"preprocessor_config": {**HUGGING_FACE, "do_pad": True}}, "asks for do_pad"),
        ({}, {"preprocessor_config": {"size": {"longest_edge": 8}}}, "height"),
        ({}, {"config": {"id2label": {"a": "b"}}}, "invalid literal"),
        ({"names": "{0: 'a\\x1b[2J', 1: 'b', 2: 'c'}", "task": "classify"}, {}, "control codes"),
    ],
)
def test_what_cannot_be_understood_is_left_out(
    metadata: dict[str, str], files: dict[str, Any], message: str, tmp_path: Path
) -> None:
    beside(tmp_path, **files)
    path = write(tmp_path / "m.onnx", metadata)
    with pytest.warns(PreprocessingWarning, match="left out") as caught:
        model = cnnrt.load(path)
    assert message in " ".join(str(w.message) for w in caught)
    assert model.preprocessing is None or model.labels is None
    assert model(np.ones((1, 3, 8, 8), np.float32)).shape == (1, 3)


def test_files_that_are_no_json_are_passed_over(tmp_path: Path) -> None:
    beside(tmp_path, config="{", preprocessor_config="[" * 100_000)
    assert load(write(tmp_path / "m.onnx", {})).preprocessing is None


def test_what_cnnrt_wrote_comes_first(tmp_path: Path) -> None:
    beside(
        tmp_path, preprocessor_config=HUGGING_FACE, config={"id2label": {0: "a", 1: "b", 2: "c"}}
    )
    source = write(tmp_path / "m.onnx", {**ULTRALYTICS, "task": "classify"})
    for target in ("m.bin", "again.onnx"):
        from cnnrt import cli

        arguments = ["convert", str(source), str(tmp_path / target), "--preset", "raw255"]
        assert cli.main(arguments) == 0
        model = load(tmp_path / target)
        assert model.preprocessing == Preprocessing(size=(8, 8), resize=8)
        assert model.labels == ["a", "b", "c's"]


def test_reversed_channels_of_openvino_are_doubtful(tmp_path: Path) -> None:
    told = {**OPENVINO, "model_info reverse_input_channels": "False"}
    with pytest.warns(PreprocessingWarning, match="RGB or BGR"):
        model = cnnrt.load(write(tmp_path / "m.onnx", told))
    assert model.preprocessing is not None
    assert model.preprocessing.channels == "RGB"


def test_a_network_that_ends_in_a_sigmoid(tmp_path: Path) -> None:
    told = {**ULTRALYTICS, "task": "classify"}
    picture = np.uint8([[[255, 128, 0]]]).repeat(8, 0).repeat(8, 1)
    for last, expected in (
        ("Sigmoid", 1 / (1 + np.exp(-np.float64([1, 128 / 255, 0])))),
        ("Identity", np.exp([1, 128 / 255, 0]) / np.exp([1, 128 / 255, 0]).sum()),
    ):
        model = load(write(tmp_path / "m.onnx", told, last=last))
        found = model.classify(picture, 3)
        assert [c.label for c in found] == ["a", "b", "c's"]
        np.testing.assert_allclose([c.probability for c in found], expected, rtol=1e-5)
