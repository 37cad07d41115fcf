"""`Model.embed`: vectors of pictures, of unit length, and their cosines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cnnrt
from task_networks import given as network_of

EXAMPLES = Path(__file__).parent.parent / "examples"
BLACK = np.zeros((8, 8, 3), np.uint8)


def test_classifier_gives_what_its_last_layer_reads() -> None:
    model = cnnrt.load(EXAMPLES / "lenet5.bin", threads=1)
    digits = sorted((EXAMPLES / "digits").glob("*.png"))
    found = model.embed(digits)
    assert found.vectors.dtype == np.float32 and found.vectors.shape == (len(digits), 84)
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)
    features = cnnrt.FeatureExtractor(model)(digits).astype(np.float64)
    expected = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert abs(found.vectors - expected).max() < 1e-6
    cosines = found.similarity()
    assert cosines.shape == (len(digits), len(digits))
    assert abs(np.diag(cosines) - 1).max() < 1e-6
    assert cosines[~np.eye(len(digits), dtype=bool)].max() < 0.95
    one = model.embed(digits[3])
    assert np.array_equal(one.vectors, found.vectors[3:4])
    assert np.argmax(one.similarity(found)) == 3


def test_maps_before_the_classifier_are_averaged() -> None:
    model = cnnrt.load(EXAMPLES / "efficientnet_lite0.bin", threads=1)
    found = model.embed([EXAMPLES / "coffee.png", EXAMPLES / "chelsea.png"])
    features = cnnrt.FeatureExtractor(model)([EXAMPLES / "coffee.png", EXAMPLES / "chelsea.png"])
    assert found.vectors.shape == (2, 1280)
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert abs(found.vectors - features).max() < 1e-5


def test_output_of_a_network_without_labels() -> None:
    for shape in ((1, 4), (1, 4, 1, 1)):
        model = network_of({"y": np.array([3, 0, 4, 0], np.float32).reshape(shape)})
        found = model.embed(BLACK)
        assert np.allclose(found.vectors, [[0.6, 0, 0.8, 0]], atol=1e-7)
        assert np.asarray(found).shape == (1, 4) and len(found) == 1
        assert np.allclose(found.similarity(np.array([10.0, 0, 0, 0])), [[0.6]])
        assert np.allclose(found.similarity(found.vectors[:, ::-1].copy()), [[0.0]])
    # Labels of another task are not those of a classifier.
    named = network_of(
        {"y": np.eye(1, 4, dtype=np.float32)}, labels=["a"], task=cnnrt.Task("embed")
    )
    assert np.array_equal(named.embed(BLACK).vectors, np.eye(1, 4))


def test_vector_of_zeros_and_no_pictures() -> None:
    model = network_of({"y": np.zeros((1, 4), np.float32)})
    found = model.embed([BLACK, BLACK])
    assert np.array_equal(found.vectors, np.zeros((2, 4)))
    assert np.array_equal(found.similarity(), np.zeros((2, 2)))
    none = model.embed([])
    assert none.vectors.shape == (0, 4) and none.vectors.dtype == np.float32
    assert none.similarity(found).shape == (0, 2)


def test_large_and_small_numbers_keep_their_direction() -> None:
    for scale in (1e30, 1e-30):
        model = network_of({"y": np.array([[3, 4]], np.float32) * np.float32(scale)})
        assert np.allclose(model.embed(BLACK).vectors, [[0.6, 0.8]], atol=1e-6)


def test_errors_say_what_to_do() -> None:
    model = network_of({"y": np.ones((1, 4, 2), np.float32)})
    with pytest.raises(cnnrt.ShapeError, match="no vector"):
        model.embed(BLACK)
    model.preprocessing = None
    with pytest.raises(cnnrt.GraphError, match="does not say how an image"):
        model.embed(BLACK)
    good = network_of({"y": np.ones((1, 4), np.float32)})
    with pytest.raises(cnnrt.ShapeError, match="cannot be compared"):
        good.embed(BLACK).similarity(np.ones((2, 3)))
    with pytest.raises(cnnrt.ImageError, match="no pixels"):
        good.embed(np.zeros((0, 3, 3), np.uint8))


def test_cosines_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cnnrt.cli import main

    names = [str(EXAMPLES / "digits" / f"{i}.png") for i in (3, 8, 1)]
    model = cnnrt.load(EXAMPLES / "lenet5.bin")
    vectors = model.embed(names)
    command = ["run", str(EXAMPLES / "lenet5.bin"), *names, "--task", "embed"]
    assert main([*command, "--output", str(tmp_path / "v.npz")]) == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head == f"3 images, vectors of {vectors.vectors.shape[1]} numbers; cosines:"
    cosines = [[float(word) for word in row.split()[2:]] for row in rows]
    assert np.abs(np.array(cosines) - vectors.similarity()).max() <= 6e-4
    with np.load(tmp_path / "v.npz") as saved:
        assert saved["images"].tolist() == names
        assert np.array_equal(saved["vectors"], vectors.vectors)
    many = [*names * 5, str(tmp_path / "none.png")]
    assert main(["run", str(EXAMPLES / "lenet5.bin"), *many, "--task", "embed"]) == 1
    out, err = capsys.readouterr()
    assert "none.png: no such file" in err
    assert [line.split()[1:] for line in out.splitlines()[1:4]] == [["1.000", n] for n in names]
