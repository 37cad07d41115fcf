"""The first hour with cnnrt: mistakes that new users make, and how each is answered.

Nothing may be wrong without a word. The first part is about numbers, the second about obstacles at
the door, the third about delays.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnrt
from cnnrt import Preprocessing, cli
from cnnrt.errors import PreprocessingWarning
from cnnrt.formats import read, write_model
from cnnrt.graph import Graph, Node, TensorSpec

EXAMPLES = Path(__file__).parent.parent / "examples"
LITE0 = EXAMPLES / "efficientnet_lite0.bin"
LABELS = EXAMPLES / "imagenet_labels.txt"
CATS = {"tabby", "tiger cat", "Egyptian cat"}


def means(shape: Any = ("n", 3, 8, 8), *, last: str | None = None, dtype: str = "float32") -> Graph:
    """A network that gives the mean of each channel."""
    nodes = [
        Node("cast", "cast", ["x"], ["f"], {"to": "float32"}),
        Node("reduce_mean", "mean", ["f", "axes"], ["m"], {"keepdims": 0}),
        Node(last or "identity", "last", ["m"], ["y"]),
    ]
    from cnnrt import ops

    for node in nodes:
        ops.complete(node)
    axes = [1, 2] if shape[3] == 3 else [2, 3]
    return Graph(
        inputs=[TensorSpec("x", shape, dtype)],
        outputs=[TensorSpec("y", (shape[0], 3))],
        nodes=nodes,
        constants={"axes": np.array(axes, np.int64)},
    )


def saved(folder: Path, graph: Graph | None = None, **described: Any) -> str:
    write_model(folder / "means.bin", graph or means(), **described)
    return str(folder / "means.bin")


def command(capsys: Any, *arguments: Any) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of `python -m cnnrt`."""
    try:
        status = cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        status = int(end.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """EfficientNet-Lite0 as an ONNX file that says nothing of pictures and classes."""
    pytest.importorskip("onnx")
    from cnnrt.formats.onnx.writer import write_onnx

    write_onnx(tmp_path / "model.onnx", read(LITE0).graph)
    return tmp_path / "model.onnx"


# A. Wrong numbers without a word. -----------------------------------------------------------------


def test_a_bare_onnx_file_names_both_photos_by_the_line_of_the_readme(
    bare: Path, capsys: Any
) -> None:
    """Row 1: resized, scaled and normalised by one word."""
    target = bare.with_suffix(".bin")
    readme = (EXAMPLES.parent / "README.md").read_text()
    (line,) = re.findall(r"^    python -m cnnrt (convert model\.onnx model\.bin .*)$", readme, re.M)
    files = {"model.onnx": bare, "model.bin": target, "labels.txt": LABELS}
    words = [files.get(word, word) for word in line.split()]
    assert command(capsys, *words) == (0, *command(capsys, *words)[1:2], "")
    options = words[3:]
    assert command(capsys, "run", bare, EXAMPLES / "coffee.png", *options)[1].count("espresso") == 1
    model = cnnrt.load(target)
    coffee, cat = model.classify([EXAMPLES / "coffee.png", EXAMPLES / "chelsea.png"], top=1)
    assert coffee[0].label == "espresso"
    assert cat[0].label in CATS


def test_a_missing_preprocessing_is_told_once_with_what_to_add(bare: Path, capsys: Any) -> None:
    """Row 1: the same without any."""
    target = bare.with_suffix(".bin")
    status, out, err = command(capsys, "convert", bare, target)
    assert status == 0 and out.startswith("wrote ")
    assert err.count("\n") == 1 and err.startswith("cnnrt: warning: ")
    assert "--preset" in err and "'imagenet'" in err
    status, _, err = command(capsys, "run", target, EXAMPLES / "coffee.png")
    assert status == 1 and "--preset imagenet" in err
    with pytest.raises(cnnrt.GraphError, match=r"Preprocessing\.preset\('imagenet'\)"):
        cnnrt.load(target).classify(EXAMPLES / "coffee.png")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--size", 224, 224], ["0 to 255", "not resized"]),
        (["--resize", 256], ["0 to 255"]),
        (["--scale", "1/255"], ["not resized"]),
        (["--scale", "1/255", "--resize", 256], []),
        (["--scale", "1", "--crop", "none"], []),
        (["--preset", "raw255"], []),
    ],
)
def test_a_preprocessing_that_leaves_out_a_step_says_so(
    options: list[Any], told: list[str], bare: Path, capsys: Any
) -> None:
    """Row 1: pixels left at 0 to 255, pictures cut out of the middle."""
    status, _, err = command(capsys, "convert", bare, bare.with_suffix(".bin"), *options)
    assert status == 0
    assert err.count("warning") == bool(told)
    assert all(word in err for word in told)


def test_presets(tmp_path: Path, capsys: Any) -> None:
    path = saved(tmp_path, means((1, 3, 32, 32)))
    target = tmp_path / "t.bin"
    assert command(capsys, "convert", path, target, "--preset", "imagenet")[0] == 0
    found = read(target).preprocessing
    assert found == Preprocessing.preset("imagenet", (32, 32))
    assert found is not None and found.resize == 37  # 256 of 224
    for name in cnnrt.preprocessing.PRESETS:
        preset = Preprocessing.preset(name)
        x = preset(EXAMPLES / "coffee.png")
        assert x.shape == (1, len(preset.mean), *preset.size)
        assert abs(x).max() < (256 if name in ("raw255", "imagenet-caffe") else 3)
    status, _, err = command(capsys, "convert", path, target, "--preset", "imagnet")
    assert status == 2 and "there are imagenet, " in err
    assert command(capsys, "convert", path, target, "--preset", "mnist")[0] == 1


def test_presets_by_the_name_of_weights() -> None:
    pytest.importorskip("torchvision_cpu")
    pytest.importorskip("timm")
    found = Preprocessing.preset("ResNet18_Weights.IMAGENET1K_V1")
    assert (found.size, found.resize, found.mean[0]) == ((224, 224), 256, 0.485)
    assert Preprocessing.preset("timm/resnet10t.c3_in1k").size == (176, 176)
    for unknown in ("ResNet18_Weights.NONE", "timm/none.x"):
        with pytest.raises(ValueError, match=r"NONE|none\.x"):
            Preprocessing.preset(unknown)


def test_bgr_frames(tmp_path: Path) -> None:
    """Row 5: a frame of OpenCV."""
    model = cnnrt.load(LITE0)
    rgb = np.asarray(Image.open(EXAMPLES / "coffee.png").convert("RGB"))
    bgr = rgb[:, :, ::-1]
    expected = model.classify(rgb)
    assert model.classify(bgr, channels="BGR") == expected
    assert model.classify([bgr, bgr], channels="BGR") == [expected] * 2
    np.testing.assert_array_equal(model.input_from(bgr, "BGR"), model.input_from(rgb))
    bgra = np.dstack([bgr, np.full(bgr.shape[:2], 255, np.uint8)])
    np.testing.assert_array_equal(model.input_from(bgra, "BGR"), model.input_from(rgb))
    grey = np.asarray(Image.open(EXAMPLES / "coffee.png").convert("L"))
    np.testing.assert_array_equal(model.input_from(grey, "BGR"), model.input_from(grey))
    with pytest.raises(ValueError, match="RGB, BGR"):
        model.classify(bgr, channels="GBR")
    weights = Preprocessing(size=(8, 8), channels="BGR")  # the network's order is another thing
    np.testing.assert_array_equal(weights(bgr, "BGR"), weights(rgb))


def test_labels_and_sizes_that_do_not_fit(tmp_path: Path, capsys: Any) -> None:
    """Row 6: refused when the file is written, by `convert` and by `export`."""
    path, names = saved(tmp_path, means((1, 3, 8, 8))), tmp_path / "names.txt"
    names.write_text("a\nb\n")
    target = tmp_path / "t.bin"
    for options, message in (
        (["--labels", names], "2 labels for an output of shape [1, 3]"),
        (
            ["--size", 9, 9, "--preset", "raw01"],
            "its size 9 x 9 is not that of the input 'x', 8 x 8",
        ),
        (["--channels", "L", "--scale", "1/255"], "makes 1 channels"),
    ):
        status, _, err = command(capsys, "convert", path, target, *options)
        assert status == 1 and message in err
        assert not target.exists()
    status, _, err = command(capsys, "run", path, EXAMPLES / "coffee.png", "--labels", names)
    assert status == 1 and "2 labels" in err


def test_a_file_whose_preprocessing_does_not_fit_says_so_when_it_runs(tmp_path: Path) -> None:
    """Row 6: of a file that something else wrote."""
    graph = means((1, 3, 8, 8))
    path = saved(tmp_path, graph, preprocessing=Preprocessing(size=(9, 9)), labels=["a", "b"])
    model = cnnrt.load(path)
    with pytest.raises(
        cnnrt.ShapeError, match=r"preprocessing makes arrays of shape \(1, 3, 9, 9\)"
    ):
        model.classify(np.zeros((9, 9, 3), np.uint8))
    with pytest.warns(PreprocessingWarning, match="2 labels for 3 classes"):
        model.classes(np.zeros((1, 3)))


def test_rows_of_scores_are_images() -> None:
    """Row 4: `model.classes(model(batch))`."""
    model = cnnrt.load(LITE0)
    photos = [EXAMPLES / "coffee.png", EXAMPLES / "chelsea.png"]
    scores = model(model.input_from(photos))
    rows = model.classes(scores)
    assert [[c.label for c in row][:1] for row in rows] == [["espresso"], ["tiger cat"]]
    assert rows == [model.classes(row) for row in scores] == model.classify(photos)
    assert model.classes(scores[:1]) == rows[0] == model.classify(photos[0])
    assert model.classes(scores[:0]) == [] == model.classify([])
    with pytest.raises(cnnrt.ShapeError, match="has no score for each class"):
        model.classes(np.zeros((1, 21, 8, 8)))


def test_a_fixed_batch_classifies_any_number(tmp_path: Path) -> None:
    pictures = [np.full((8, 8, 3), 20 * i, np.uint8) for i in range(5)]
    for batch in (1, 2, "n"):
        graph = means((batch, 3, 8, 8))
        model = cnnrt.load(
            saved(tmp_path, graph, preprocessing=Preprocessing.preset("raw01", (8, 8)))
        )
        found = model.classify(pictures, top=3)
        assert len(found) == 5
        assert found == [model.classify(p, top=3) for p in pictures]


def test_uint8_that_was_not_normalised_is_told(tmp_path: Path) -> None:
    """Row 7: `model(frame)` of a frame in the network's shape."""
    model = cnnrt.load(saved(tmp_path))
    frame = np.zeros((1, 3, 8, 8), np.uint8)
    with pytest.warns(PreprocessingWarning, match="goes in as it is, 0 to 255"):
        model(frame)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(frame.astype(np.float64))
        cnnrt.load(saved(tmp_path, means(dtype="uint8")))(frame)


def test_networks_of_uint8_and_of_channels_last(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    for shape in (("n", 3, 8, 8), ("n", 8, 8, 3)):
        for dtype in ("uint8", "float32"):
            source = saved(tmp_path, means(shape, dtype=dtype))
            target = str(tmp_path / "t.bin")
            assert cli.main(["convert", source, target, "--preset", "raw255"]) == 0
            model = cnnrt.load(target)
            np.testing.assert_allclose(
                model(model.input_from(picture))[0], picture.mean((0, 1)), 1e-5
            )
    assert cli.main(["convert", source, target, "--preset", "imagenet"]) == 0
    source = saved(tmp_path, means(dtype="uint8"))
    assert cli.main(["convert", source, target, "--preset", "imagenet"]) == 1  # fractions for uint8


def test_sigmoid_and_softmax(tmp_path: Path, capsys: Any) -> None:
    """Row 8: by the graph's last operator, or as the file says."""
    described = {"preprocessing": Preprocessing.preset("raw01", (8, 8)), "labels": ["a", "b", "c"]}
    picture = np.uint8([[[255, 128, 0]]]).repeat(8, 0).repeat(8, 1)
    x = np.float64([1, 128 / 255, 0])
    sigmoid, softmax = 1 / (1 + np.exp(-x)), np.exp(x) / np.exp(x).sum()
    several = str(tmp_path / "several.bin")

    def probabilities(path: str) -> list[float]:
        return [c.probability for c in cnnrt.load(path).classify(picture)]

    plain = saved(tmp_path, **described)
    assert command(capsys, "convert", plain, several, "--multi-label")[0] == 0
    np.testing.assert_allclose(probabilities(plain), softmax, 1e-5)
    np.testing.assert_allclose(probabilities(several), sigmoid, 1e-5)
    for last, expected in (("sigmoid", sigmoid), ("softmax", softmax)):
        path = saved(tmp_path, means(last=last), **described)
        np.testing.assert_allclose(probabilities(path), expected, 1e-5)
    model = cnnrt.load(several)
    import pickle

    assert pickle.loads(pickle.dumps(model)).multi_label
    model.save_compiled(tmp_path / "compiled.bin")
    assert cnnrt.load(tmp_path / "compiled.bin").multi_label

    model.labels = None
    assert model.classes(np.zeros(1))[0].probability == 0.5  # one score: yes or no


BENCH = ("--threads", 1, "--seconds", 0.02)


def test_bench_measures_the_batch_that_it_names_or_refuses(tmp_path: Path, capsys: Any) -> None:
    """Row 3: a batch fixed at 1 does not run at 8."""
    fixed = saved(tmp_path, means((1, 3, 8, 8)))
    status, out, err = command(capsys, "bench", fixed, "--batch", "1,8", *BENCH)
    assert (status, out) == (1, "")  # not a line of what could be measured
    assert "--batch 8" in err and "fixed at 1" in err
    free = saved(tmp_path)
    shape = ["--input", "1x3x8x8"]
    status, out, err = command(capsys, "bench", free, *shape, "--batch", "1,8", *BENCH)
    assert (status, out) == (1, "") and "--input gives 1 for the first axis" in err
    import json

    for arguments, batch in ((["--input", "4x3x8x8"], 4), (["--batch", 5], 5), ([], 1)):
        rows = json.loads(command(capsys, "bench", free, *arguments, "--json", *BENCH)[1])
        assert [row["batch"] for row in rows] == [batch]
        assert rows[0]["per_second"] == pytest.approx(batch * rows[0]["runs"] / 0.02, rel=0.9)
    four = saved(tmp_path, means((4, 3, 8, 8)))
    rows = json.loads(command(capsys, "bench", four, "--json", *BENCH)[1])
    assert [row["batch"] for row in rows] == [4]


# B. What stops at the door. -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"\xff\xd8\xff", r"got bytes: open encoded bytes with PIL\.Image\.open"),
        (bytearray(b"x"), r"got bytearray: open encoded bytes"),
        (io.BytesIO(b"x"), r"got BytesIO: open it with PIL\.Image\.open"),
        ("https://example.org/a.png", "is an address, and cnnrt fetches none"),
        ("HTTP://example.org/a.png", "is an address"),
        ("s3://bucket/a.png", "is an address"),
        ("data:image/png;base64,AAAA", "is an address"),
        (None, "got NoneType"),
        (3, "got int"),
        ([b"x"], "got bytes"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_picture(source: Any, message: str) -> None:
    """Row 18: what web handlers hold."""
    model = cnnrt.load(LITE0)
    for call in (model.classify, model.input_from, model.preprocessing):
        with pytest.raises(cnnrt.ImageError, match=message):
            call(source)


def test_arrays_of_another_shape_get_a_hint() -> None:
    """Row 28: channels last, no batch axis, pictures."""
    model = cnnrt.load(LITE0)
    for x, hint in (
        (np.zeros((1, 224, 224, 3), np.float32), r"channels last\? x\.transpose\(0, 3, 1, 2\)"),
        (np.zeros((224, 224, 3), np.float32), r"channels last\? x\.transpose\(2, 0, 1\)\[None\]"),
        (np.zeros((3, 224, 224), np.float32), r"counts the images: x\[None\]"),
        (np.zeros((400, 600, 3), np.uint8), r"goes to model\.classify"),
        (Image.new("RGB", (4, 4)), r"not a Image; a picture goes to model\.classify"),
        ("photo.png", r"not a str; a picture goes to model\.classify"),
        (Path("photo.png"), r"a picture goes to model\.classify"),
        (np.zeros((1, 1, 224, 224), np.float32), r"takes shape \(batch, 3, 224, 224\)"),
    ):
        with pytest.raises(cnnrt.ShapeError, match=hint):
            model(x)
    with pytest.raises(cnnrt.GraphError, match=r"a list of names: outputs=\['1'\]"):
        model.run(np.zeros((1, 3, 224, 224), np.float32), outputs="1")


def test_free_sizes_say_what_to_give(tmp_path: Path, capsys: Any) -> None:
    """Row 26."""
    model = cnnrt.load(saved(tmp_path, means(("n", 3, "h", "w"))))
    for ask in (model.describe, model.summary, model.profile):
        with pytest.raises(cnnrt.ShapeError, match=r"free sizes: \(n, 3, h, w\); give it.*--input"):
            ask()
    assert "mean" in str(model.summary((1, 3, 8, 8)))


# C. What slows down. ------------------------------------------------------------------------------


def test_one_spelling_of_shapes_for_all_commands(tmp_path: Path, capsys: Any) -> None:
    """Row 15: --input everywhere; --shape, also with spaces, is a former name."""
    path = saved(tmp_path, means(("n", 3, "h", "w")))
    target = str(tmp_path / "t.bin")
    for words in (
        ["summary", path],
        ["check", path],
        ["profile", path, "--seconds", "0.01"],
        ["bench", path, *BENCH],
        ["view", path, "-o", str(tmp_path / "v.html")],
        ["compare", path, "--reference", "numpy"],
        ["compile", path, "-o", target],
    ):
        if words[0] == "view":
            pytest.importorskip("jinja2")
        for option in ("--input", "--shape"):
            for shape in ("1x3x8x8", "x=1x3x8x8"):
                status, _, err = command(capsys, *words, option, shape)
                assert status == 0, (words, option, err)
        status, _, err = command(capsys, *words, "--input", "z=1x3x8x8")
        assert status == 1 and "--input: no input is named z; there are x" in err
        status, _, err = command(capsys, *words, "--input", "x.npz")
        assert status == 2 and "a file of values goes to --data" in err
        assert "--shape" not in command(capsys, words[0], "--help")[1]
    assert command(capsys, "compile", path, "-o", target, "--shape", 1, 3, 8, 8)[0] == 0
    assert "--input now" in command(capsys, "check", path, "--shape", "1,3")[2]


def test_values_come_by_data(tmp_path: Path, capsys: Any) -> None:
    path = saved(tmp_path)
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 8, 8), np.float32))
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 3, 8, 8), np.float32))
    for name in ("x.npy", "x.npz"):
        data = ["--data", tmp_path / name]
        assert command(capsys, "compare", path, "--reference", "numpy", *data)[0] == 0
        status, out, _ = command(capsys, "profile", path, "--seconds", 0.01, *data)
        assert status == 0 and "x 2x3x8x8" in out


PAGES = (["features", LITE0, EXAMPLES / "coffee.png", "--out"], ["view", LITE0, "-o"])
OPTIONS = (["summary", LITE0, "--html"], ["profile", LITE0, "--html"])


@pytest.mark.parametrize("words", [*PAGES, *OPTIONS], ids=lambda w: w[0])
def test_a_missing_package_is_told_before_the_work(
    words: list[Any], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows 10 and 20: with a line that installs it anywhere."""
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    monkeypatch.setattr("cnnrt.model.load", lambda *_, **__: pytest.fail("it began to work"))
    status, out, err = command(capsys, *words, tmp_path / "made")
    assert (status, out) == (1, "")
    assert err.count("\n") == 1 and err.rstrip().endswith("needs jinja2: pip install jinja2")
    assert list(tmp_path.iterdir()) == []


def test_bench_asks_for_engines_before_it_prints(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 20."""
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    status, out, err = command(capsys, "bench", LITE0, "--against", "openvino", *BENCH)
    assert (status, out) == (1, "") and "pip install openvino" in err


def test_the_lines_that_install_are_those_of_the_project() -> None:
    """They name packages, as no extra of cnnrt can be had where cnnrt is in no index."""
    from cnnrt.process.extras import PACKAGES, install_line

    project = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    for requirement, extra in PACKAGES.values():
        if extra:
            (line,) = [x for x in project.splitlines() if x.startswith(f"{extra} = [")]
            assert f'"{requirement}"' in line
    assert install_line("onnx", "jinja2") == "pip install 'onnx>=1.17' jinja2"


def test_compare_of_a_model_bin_says_which_reference(tmp_path: Path, capsys: Any) -> None:
    """Row 26."""
    status, _, err = command(capsys, "compare", saved(tmp_path))
    assert status == 1 and "add --reference numpy" in err


# Export. ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch() -> Any:
    pytest.importorskip("onnxscript")
    return pytest.importorskip("torch")


def classifier(torch: Any) -> Any:
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda net: net.state_dict(), r"a state dict or checkpoint has weights and no network"),
        (lambda net: {"model": net.state_dict()}, "a state dict or checkpoint"),
        (lambda _: "resnet18.pth", "a file of weights has no network"),
        (lambda _: Path("resnet18.pth"), "a file of weights has no network"),
        (lambda _: 3, "expected a PyTorch module, got int"),
    ],
)
def test_what_is_no_module(make: Any, message: str, torch: Any) -> None:
    """Row 11."""
    with pytest.raises(cnnrt.FormatError, match=message):
        cnnrt.export(make(classifier(torch)), torch.zeros(1, 3, 8, 8), None)


def test_export_checks_labels_and_sizes(torch: Any) -> None:
    """Row 6: the same as `convert`."""
    net, x = classifier(torch), torch.zeros(1, 3, 16, 16)
    for options, message in (
        ({"labels": ["a", "b", "c"]}, "3 labels for an output"),
        ({"preprocessing": {"size": [8, 8], "scale": 1, "crop": None}}, "its size 8 x 8"),
    ):
        with pytest.raises(cnnrt.FormatError, match=message):
            cnnrt.export(net, x, None, **options)
    with pytest.warns(PreprocessingWarning, match="0 to 255.*not resized"):
        cnnrt.export(net, x, None, preprocessing={"size": [16, 16]})
    with pytest.warns(PreprocessingWarning, match="0 to 255"):
        cnnrt.export(net, x, None, preprocessing=Preprocessing(size=(16, 16), resize=18))
    with pytest.warns(PreprocessingWarning, match="does not say how a picture"):
        data = cnnrt.export(net, x, None, labels=["a", "b"], multi_label=True)
    assert cnnrt.load(data).multi_label
    data = cnnrt.export(net, x, None, preprocessing="imagenet", labels=["a", "b"])
    assert cnnrt.load(data).preprocessing == Preprocessing.preset("imagenet", (16, 16))
    with pytest.raises(ValueError, match="no preset is named"):
        cnnrt.export(net, x, None, preprocessing="imagnet")


def test_arrays_are_examples_too(torch: Any) -> None:
    """Row 17."""
    data = cnnrt.export(classifier(torch), np.zeros((1, 3, 8, 8), np.float32), None)
    assert cnnrt.load(data)(np.zeros((5, 3, 8, 8), np.float32)).shape == (5, 2)


def test_failures_of_export_are_a_line_and_a_file(torch: Any, capfd: Any) -> None:
    """Row 17: PyTorch's hundreds of lines are in the file."""

    class Odd(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.linalg.svd(x)[1]

    with pytest.raises(cnnrt.ShapeError, match="fails on the example input, before any export"):
        cnnrt.export(classifier(torch), torch.zeros(1, 4, 8, 8), None)
    with pytest.raises(cnnrt.UnsupportedOperator, match="PyTorch cannot export Odd") as found:
        cnnrt.export(Odd(), torch.ones(1, 4, 4), None)
    text = str(found.value)
    assert "\n" not in text and len(text) < 500
    log = Path(text.rsplit(" ", 1)[1])
    assert "svd" in log.read_text() and "Traceback" in log.read_text()
    log.unlink()
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_and_the_older_exporter(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 17: where the newer exporter has no ONNX for an operator."""
    from cnnrt.formats import torch_exporter

    net = classifier(torch).eval()
    x = torch.rand(2, 3, 8, 8)
    y = net(x).detach().numpy()
    data = cnnrt.export(torch.jit.trace(net, x), x[:1], None)
    np.testing.assert_allclose(cnnrt.load(data)(x.numpy()), y, 1e-4, 1e-6)

    class ConversionError(Exception):
        pass

    def fails(*_: Any) -> Any:
        raise ConversionError("Error when translating node %x")

    monkeypatch.setattr(torch_exporter, "_newer", fails)
    with pytest.warns(UserWarning, match=r"older exporter, as the newer one fails \(Error when"):
        data = cnnrt.export(net, x[:1], None)
    np.testing.assert_allclose(cnnrt.load(data)(x.numpy()), y, 1e-4, 1e-6)


def test_export_says_what_it_does(torch: Any, capsys: Any) -> None:
    """Row 17: on a terminal, or if asked to; the line goes away at the end."""
    cnnrt.export(classifier(torch), torch.zeros(1, 3, 8, 8), None, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    steps = [line for line in err.split("\r") if "exporting Sequential: " in line]
    assert len(steps) == 4 and err.endswith("\r\x1b[K")


def test_check_names_what_has_no_kernel(tmp_path: Path, capsys: Any) -> None:
    """Row 16: "cnnrt runs it" is not all that there is to say of a slow network."""
    graph = means((1, 3, 8, 8))
    status, out, _ = command(capsys, "check", saved(tmp_path, graph))
    assert status == 0 and "no kernel" not in out
    from cnnrt import ops
    from cnnrt.lowering import LOWERINGS

    assert "hardmax" not in LOWERINGS
    graph.nodes.insert(2, Node("hardmax", "odd", ["m"], ["z"]))
    graph.nodes[3].inputs[0] = "z"
    for node in graph.nodes:
        ops.complete(node)
    status, out, _ = command(capsys, "check", saved(tmp_path, graph))
    assert status == 0 and "1 step has no kernel" in out and "odd (hardmax)" in out


@pytest.mark.parametrize("script", sorted(p.stem for p in EXAMPLES.glob("*.py")))
def test_scripts_of_examples_explain_themselves(script: str) -> None:
    """Row 24: even without PyTorch; then they name the package and the line that installs it."""
    source = (EXAMPLES / f"{script}.py").read_text()
    if "__main__" not in source:
        assert any(f"from {script} import" in p.read_text() for p in EXAMPLES.glob("*.py"))
        return
    code = (
        "import runpy, sys\n"
        "sys.modules['torch'] = sys.modules['efficientnet_lite_pytorch'] = None\n"
        f"sys.argv = ['{script}.py', '--help']\n"
        f"runpy.run_path({str(EXAMPLES / script) + '.py'!r}, run_name='__main__')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES)}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    said = ran.stdout + ran.stderr
    assert "Traceback" not in said, said
    if ran.returncode == 0:
        assert f"usage: {script}.py" in said
    else:
        assert "pip install" in said and f"python examples/{script}.py" in said
        assert said.rstrip().endswith("is not installed.")
