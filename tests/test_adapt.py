"""A new head on a trained network: how it is fitted, measured, written and kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnrt
from browser import Browser
from cnnrt import cli
from cnnrt.evaluation import answers
from cnnrt.transfer import head
from cnnrt.transfer.head import fit_head

pytest.importorskip("sklearn")

EXAMPLES = Path(__file__).parent.parent / "examples"
LENET = EXAMPLES / "lenet5.bin"
EFFICIENTNET = EXAMPLES / "efficientnet_lite0.bin"
SHAPES = ["cross", "hline", "vline"]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("CNNRT_CACHE", str(folder))
    return folder


def draw(shape: str, generator: np.random.Generator) -> Image.Image:
    """28 x 28 pixels with a line of one or two directions somewhere, and noise."""
    pixels = generator.integers(0, 60, (28, 28)).astype(np.uint8)
    row, column = generator.integers(6, 20, 2)
    if shape in ("hline", "cross"):
        pixels[row : row + 3, 4:24] = 250
    if shape in ("vline", "cross"):
        pixels[4:24, column : column + 3] = 250
    return Image.fromarray(pixels)


def draw_into(folder: Path, per_class: int, seed: int = 0) -> Path:
    """A folder for each of the shapes."""
    generator = np.random.default_rng(seed)
    for shape in SHAPES:
        (folder / shape).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            draw(shape, generator).save(folder / shape / f"{seed}_{i}.png")
    return folder


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_into(tmp_path_factory.mktemp("shapes"), 12)


# The head ---------------------------------------------------------------------------------------


def test_head_is_the_regression_on_standardised_features() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng(1)
    y = np.repeat(np.arange(3), 20)
    # Features of very different sizes, one of them always the same.
    x = (generator.normal(y[:, None], 1, (60, 5)) * [1, 100, 0.01, 1, 0] + 7).astype(np.float32)
    found = fit_head(x, y, cache=False)
    z = StandardScaler().fit_transform(x.astype(np.float64))
    want = LogisticRegression(C=found.strength, max_iter=1000).fit(z, y).decision_function(z)
    scores = x @ found.weight.T + found.bias
    scores -= scores.mean(axis=1, keepdims=True)  # scikit-learn's rows have mean 0
    np.testing.assert_allclose(scores, want, atol=2e-3)
    assert found.strength in head.STRENGTHS
    assert (found.weight.dtype, found.bias.dtype) == (np.float32, np.float32)


def test_head_of_two_classes_has_two_rows() -> None:
    y = np.repeat([0, 1], 10)
    x = np.random.default_rng(2).normal(y[:, None], 0.5, (20, 2)).astype(np.float32)
    found = fit_head(x, y, cache=False)
    assert found.weight.shape == (2, 2)
    right = np.argmax(x @ found.weight.T + found.bias, axis=1) == y
    assert right.mean() > 0.8


def test_the_strength_fits_the_data() -> None:
    """The penalty is strong with much noise, and weak without."""
    generator = np.random.default_rng(3)
    y = np.repeat([0, 1], 40)
    clear = generator.normal(4 * y[:, None], 1, (80, 3))
    noise = generator.normal(0, 1, (80, 30))
    strong = fit_head(noise, y, cache=False).strength
    weak = fit_head(clear, y, cache=False).strength
    assert strong < 0.01
    assert weak > 0.05


def test_cross_validation_has_not_seen_what_it_is_asked() -> None:
    """If features are noise, images left out are guessed no better than by chance, though those
    fitted on are all told apart."""
    generator = np.random.default_rng(4)
    y = np.repeat(np.arange(4), 25)
    x = generator.normal(0, 1, (100, 200)).astype(np.float32)
    found = fit_head(x, y, cache=False)
    assert found.held_out is not None
    assert found.held_out.shape == (100, 4)
    np.testing.assert_allclose(found.held_out.sum(axis=1), 1)
    assert (found.held_out.argmax(axis=1) == y).mean() < 0.45


def test_head_is_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    y = np.repeat([0, 1, 2], 5)
    x = np.random.default_rng(5).normal(y[:, None], 1, (15, 4)).astype(np.float32)
    first = fit_head(x, y)
    fits: list[int] = []
    fit = head._fit
    monkeypatch.setattr(head, "_fit", lambda x, y: fits.append(len(x)) or fit(x, y))
    second = fit_head(x, y)
    assert np.array_equal(first.weight, second.weight)
    assert np.array_equal(first.held_out, second.held_out)
    assert (first.strength, fits) == (second.strength, [])
    fit_head(x, y[::-1])
    assert fits == [15]
    for file in (cache / "heads").iterdir():
        file.write_bytes(b"damaged")
    again = fit_head(x, y)
    assert np.array_equal(first.weight, again.weight)
    assert fits == [15, 15]


# Adapting ---------------------------------------------------------------------------------------


def test_adapt(shapes: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.bin"
    result = cnnrt.adapt(LENET, shapes, path, test_split=0.25)
    measured = result.measured
    assert measured is not None
    assert (result.layer, result.features, result.training) == ("relu_3", 84, 27)
    assert result.labels == SHAPES
    assert len(measured.files) == 9
    assert measured.how == "test images"
    assert measured.accuracy >= 6 / 9
    assert measured.confusion.sum(axis=1).tolist() == [3, 3, 3]
    low, high = measured.interval
    assert low < measured.accuracy <= high + 1e-9
    assert [measured.files[i].parent.name for i in range(9)] == np.repeat(SHAPES, 3).tolist()

    # The file gives the same answers as the measured model, and all of them.
    new = cnnrt.load(path)
    assert new.labels == SHAPES
    assert new.preprocessing == cnnrt.load(LENET).preprocessing
    assert new.outputs[0].shape == ("batch", 3)
    for file, p in zip(measured.files, measured.probabilities, strict=True):
        scores = new(new.input_from(file))
        assert np.array_equal(scores, result.model(result.model.input_from(file)))
        got = {c.index: c.probability for c in new.classify(file)}
        assert [got[i] for i in range(3)] == p.tolist()


def test_the_backbone_stays(shapes: Path) -> None:
    old = cnnrt.load(LENET)
    new = cnnrt.adapt(old, shapes).model
    assert new.graph.nodes[:-1] == old.graph.nodes[: len(new.graph.nodes) - 1]
    for name, value in new.graph.constants.items():
        if not name.startswith("head"):
            assert np.array_equal(value, old.graph.constants[name])


def test_adapting_at_a_layer(shapes: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.bin"
    result = cnnrt.adapt(LENET, shapes, path, layer="relu_1", test_split=0)
    assert (result.layer, result.features, result.training) == ("relu_1", 16, 36)
    measured = result.measured
    assert measured is not None
    assert measured.how == "training images, each left out once"
    assert len(measured.files) == 36
    assert measured.accuracy > 0.6
    photo = measured.files[0]
    want = result.model(result.model.input_from(photo))
    new = cnnrt.load(path)
    assert np.array_equal(new(new.input_from(photo)), want)


def test_a_test_folder(shapes: Path, tmp_path: Path) -> None:
    test = draw_into(tmp_path / "test", 4, seed=1)
    result = cnnrt.adapt(LENET, shapes, test=test)
    assert result.measured is not None
    assert result.training == 36
    assert {file.parent.parent for file in result.measured.files} == {test}
    (test / "circle").mkdir()
    draw("cross", np.random.default_rng(0)).save(test / "circle" / "0.png")
    with pytest.raises(cnnrt.ImageError, match="'circle' is no class of"):
        cnnrt.adapt(LENET, shapes, test=test)


def test_the_split_follows_the_images(shapes: Path, tmp_path: Path) -> None:
    """Other names change nothing. If images are added, few of the others change sides."""

    def kept(folder: Path) -> set[bytes]:
        measured = cnnrt.adapt(LENET, folder, test_split=0.5).measured
        assert measured is not None
        return {file.read_bytes() for file in measured.files}

    copy = tmp_path / "copy"
    for i, file in enumerate(sorted(shapes.rglob("*.png"), reverse=True)):
        (copy / file.parent.name).mkdir(parents=True, exist_ok=True)
        (copy / file.parent.name / f"{i:02}.png").write_bytes(file.read_bytes())
    first = kept(shapes)
    assert len(first) == 18
    assert kept(copy) == first
    draw_into(copy, 2, seed=9)
    assert len(kept(copy) & first) >= 12


def test_adding_images_is_cheap(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    call = cnnrt.Model.__call__

    def count(self: cnnrt.Model, x: Any) -> Any:
        if np.ndim(x) == 4:
            computed.append(len(x))
        return call(self, x)

    monkeypatch.setattr(cnnrt.Model, "__call__", count)
    folder = draw_into(tmp_path / "growing", 5)
    first = cnnrt.adapt(LENET, folder)
    assert sum(computed) == 15
    computed.clear()
    again = cnnrt.adapt(LENET, folder)
    assert computed == []
    for name, value in first.model.graph.constants.items():
        assert np.array_equal(again.model.graph.constants[name], value)
    draw_into(folder, 1, seed=6)
    cnnrt.adapt(LENET, folder)
    assert sum(computed) == 3
    computed.clear()
    cnnrt.adapt(LENET, folder, cache=False)
    assert sum(computed) == 18


def test_single_images(tmp_path: Path) -> None:
    folder = draw_into(tmp_path / "one", 1)
    result = cnnrt.adapt(LENET, folder, test_split=0)
    assert result.measured is None
    assert result.strength == 1
    for shape in SHAPES:
        assert result.model.classify(folder / shape / "0_0.png", top=1)[0].label == shape
    with pytest.raises(cnnrt.ImageError, match="class 'cross' has one image"):
        cnnrt.adapt(LENET, folder)


def test_folders_that_are_refused(tmp_path: Path, shapes: Path) -> None:
    with pytest.raises(cnnrt.ImageError, match="no such folder"):
        cnnrt.adapt(LENET, tmp_path / "absent")
    folder = tmp_path / "photos"
    (folder / "one").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    with pytest.raises(cnnrt.ImageError, match="has 1 folders; expected one with images for each"):
        cnnrt.adapt(LENET, folder)
    (folder / "two").mkdir()
    with pytest.raises(cnnrt.ImageError, match="one: no images in this folder"):
        cnnrt.adapt(LENET, folder)
    with pytest.raises(ValueError, match="test_split must be at least 0 and less than 1, not 1"):
        cnnrt.adapt(LENET, shapes, test_split=1)
    with pytest.raises(cnnrt.GraphError, match="no tensor"):
        cnnrt.adapt(LENET, shapes, layer="nowhere")


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    folder = draw_into(tmp_path / "photos", 3)
    (folder / "cross" / "bad.png").write_bytes(b"\x89PNG damaged")
    with pytest.raises(cnnrt.ImageError, match=r"bad\.png"):
        cnnrt.adapt(LENET, folder)


def test_without_scikit_learn(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pip install 'scikit-learn>=1.3'"):
        cnnrt.adapt(LENET, shapes)


def test_features_beat_pixels(tmp_path: Path) -> None:
    """The backbone is worth having: shapes at any place, told apart from few images."""
    folder = draw_into(tmp_path / "train", 15)
    test = draw_into(tmp_path / "test", 30, seed=1)
    result = cnnrt.adapt(LENET, folder, test=test, compare_pixels=True)
    assert result.measured is not None
    assert result.pixels is not None
    assert result.pixels.files == result.measured.files
    assert result.measured.accuracy > result.pixels.accuracy + 0.1


def test_measures() -> None:
    """Measures agree with numbers worked by hand: 4 images, 3 of them right."""
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.55, 0.45]])
    files = [Path(f"{i}.png") for i in range(4)]
    measured = answers.Measured("test images", files, np.array([0, 1, 1, 0]), p)
    assert measured.accuracy == 0.75
    assert measured.confusion.tolist() == [[2, 0], [1, 1]]
    assert measured.least_sure(2) == [3, 1]
    assert measured.most_wrong(4) == [1]
    np.testing.assert_allclose(measured.interval, (0.3006, 0.9544), atol=1e-4)


def test_the_report_in_a_browser(browser: Browser, shapes: Path, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    page = tmp_path / "report.html"
    cnnrt.adapt(LENET, shapes, compare_pixels=True).report(page)
    browser.check(page)
    assert browser.evaluate("[...document.images].every(i => i.naturalWidth > 0)")


# The command ------------------------------------------------------------------------------------


def run(capsys: Any, *arguments: Any) -> tuple[int, str, str]:
    try:
        status = cli.main([str(a) for a in arguments])
    except SystemExit as end:  # argparse's way out
        status = int(end.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_command(capsys: Any, shapes: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.bin"
    status, out, err = run(capsys, "adapt", LENET, shapes, "-o", new, "--test-split", 0.5)
    assert (status, err) == (0, "")
    assert "18 training images of 3 classes, 84 features of layer 'relu_3'" in out
    assert "of 18 test images (95 % confidence" in out
    assert "least sure of:" in out
    assert f"wrote {new}: {new.stat().st_size:,} bytes" in out
    assert [line.split()[0] for line in out.splitlines() if line[:5] in ("cross", "hline")]
    photo = shapes / "hline" / "0_0.png"
    status, out, _ = run(capsys, "run", new, photo, "--top", 1)
    assert out.split()[-1] in SHAPES


def test_command_as_json(capsys: Any, shapes: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.bin"
    arguments = ("--json", "--compare-pixels", "--layer", "relu_1", "--float16", "--no-cache")
    status, out, err = run(capsys, "adapt", LENET, shapes, "-o", new, *arguments)
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert document["labels"] == SHAPES
    assert (document["layer"], document["features"]) == ("relu_1", 16)
    assert document["measured"]["images"] == 6
    assert np.sum(document["measured"]["confusion"]) == 6
    assert 0 <= document["pixels"]["accuracy"] <= 1
    assert not (tmp_path / "cache").exists()
    assert new.stat().st_size < LENET.stat().st_size / 2


def test_command_fails_in_one_line(capsys: Any, shapes: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.bin"
    for arguments in (
        ("adapt", LENET, tmp_path / "absent", "-o", new),
        ("adapt", tmp_path / "absent.bin", shapes, "-o", new),
        ("adapt", LENET, shapes, "-o", tmp_path / "no" / "new.bin"),
    ):
        status, out, err = run(capsys, *arguments)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert err.startswith("cnnrt: error: ")
    assert not new.exists()
    both = ("--test-split", 0.5, "--test", shapes)
    assert run(capsys, "adapt", LENET, shapes, "-o", new, *both)[0] == 2
    assert run(capsys, "adapt", LENET, shapes, "-o", new, "--test-split", 2)[0] == 2
    assert run(capsys, "adapt", LENET, shapes)[0] == 2


def test_report(browser: Browser, capsys: Any, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    folder = draw_into(tmp_path / "photos", 6)
    evil = "<script>alert(1)</script>"
    (folder / "vline").rename(folder / evil.replace("/", "_"))
    page = tmp_path / "report.html"
    arguments = ("-o", tmp_path / "new.bin", "--html", page, "--test-split", 0)
    status, out, err = run(capsys, "adapt", LENET, folder, *arguments, "--compare-pixels")
    assert (status, err) == (0, "")
    text = page.read_text()
    assert "<script" not in text
    assert text.count("<figure>") >= 18
    assert "the same head on raw pixels" in text
    assert "wrote" in out
    assert "report.html" in out
    browser.check(page)
