"""Features: the cut of a network, its inputs, the cache on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import cnnrt
from checks import Random
from cnnrt import ops
from cnnrt.analysis.classifier import find_classifier
from cnnrt.formats import write_model
from cnnrt.graph import Graph, Node, TensorSpec
from cnnrt.transfer import feature_cache

EXAMPLES = Path(__file__).parent.parent / "examples"
LENET = EXAMPLES / "lenet5.bin"
EFFICIENTNET = EXAMPLES / "efficientnet_lite0.bin"
DIGITS = EXAMPLES / "digits"


def graph_of(*nodes: tuple[Any, ...], outputs: str = "scores", **constants: Any) -> Graph:
    """A graph on images x (batch, 3, 8, 8); nodes are (op, inputs, output, attributes)."""
    made = []
    for op, inputs, output, *attributes in nodes:
        node = Node(op, f"node_{output}", inputs.split(), [output], dict(*attributes))
        ops.complete(node)
        made.append(node)
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    spec = TensorSpec(outputs, ("batch", 5))
    return Graph([TensorSpec("x", ("batch", 3, 8, 8))], [spec], made, arrays, "net")


def gap_and_gemm(random: Random) -> Graph:
    """conv, ReLU, mean, linear layer, softmax: 5 classes of 4 features."""
    return graph_of(
        ("conv", "x w", "conv"),
        ("relu", "conv", "maps"),
        ("reduce_mean", "maps axes", "mean", {"keepdims": 0}),
        ("dropout", "mean", "dropped"),
        ("gemm", "dropped head bias", "logits"),
        ("softmax", "logits", "scores", {"axis": 1}),
        w=random(4, 3, 3, 3),
        axes=np.array([2, 3]),
        head=random(4, 5),
        bias=random(5),
    )


def conv_and_pool(random: Random) -> Graph:
    """A network like SqueezeNet: the classifier is a 1x1 convolution before the pooling."""
    return graph_of(
        ("conv", "x w", "conv"),
        ("relu", "conv", "maps"),
        ("conv", "maps head bias", "logits"),
        ("relu", "logits", "positive"),
        ("global_average_pool", "positive", "mean"),
        ("flatten", "mean", "scores"),
        w=random(4, 3, 3, 3),
        head=random(5, 4, 1, 1),
        bias=random(5),
    )


# The classifier ---------------------------------------------------------------------------------


def test_classifier_after_pooling(random: Random) -> None:
    graph = gap_and_gemm(random)
    found = find_classifier(graph, {"x": (1, 3, 8, 8)})
    assert (found.name, found.features, found.maps) == ("node_logits", "dropped", "maps")
    assert np.array_equal(found.weight, graph.constants["head"].T)
    assert np.array_equal(found.bias, graph.constants["bias"])


def test_classifier_before_pooling(random: Random) -> None:
    graph = conv_and_pool(random)
    found = find_classifier(graph, {"x": (1, 3, 8, 8)})
    assert (found.features, found.maps) == ("maps", "maps")
    assert np.array_equal(found.weight, graph.constants["head"][:, :, 0, 0])


def test_classifier_as_a_convolution_after_pooling(random: Random) -> None:
    graph = graph_of(
        ("conv", "x w", "maps"),
        ("global_average_pool", "maps", "mean"),
        ("conv", "mean head", "logits"),
        ("flatten", "logits", "scores"),
        w=random(4, 3, 3, 3),
        head=random(5, 4, 1, 1),
    )
    found = find_classifier(graph, {"x": (1, 3, 8, 8)})
    assert (found.features, found.maps) == ("mean", "maps")
    assert np.array_equal(found.bias, np.zeros(5))


def test_classifier_without_pooling(random: Random) -> None:
    graph = graph_of(
        ("conv", "x w", "maps"),
        ("flatten", "maps", "flat"),
        ("matmul", "flat head", "scores"),
        w=random(4, 3, 3, 3),
        head=random(4 * 36, 5),
    )
    found = find_classifier(graph, {"x": (1, 3, 8, 8)})
    assert (found.features, found.maps) == ("flat", None)
    assert found.weight.shape == (5, 144)


@pytest.mark.parametrize(
    "nodes",
    [
        [("conv", "x w", "scores")],
        [("conv", "x w", "c"), ("relu", "c", "r"), ("global_average_pool", "r", "scores")],
        [("conv", "x w", "c"), ("global_average_pool", "c", "p"), ("add", "p p", "scores")],
        [("relu", "x", "scores")],
    ],
    ids=["convolution", "3x3 before pooling", "sum of two", "no layer"],
)
def test_no_classifier(random: Random, nodes: list[tuple[Any, ...]]) -> None:
    graph = graph_of(*nodes, w=random(5, 3, 3, 3))
    with pytest.raises(cnnrt.GraphError, match=r"does not come from a classifier.*name a layer"):
        cnnrt.FeatureExtractor(cnnrt.Model(graph))


# Cutting ----------------------------------------------------------------------------------------


def test_auto(random: Random) -> None:
    model = cnnrt.Model(gap_and_gemm(random))
    extractor = cnnrt.FeatureExtractor(model)
    assert (extractor.layer, extractor.shape, extractor.dtype) == ("dropped", (4,), np.float32)
    assert extractor.layers == ["conv", "maps", "mean", "dropped"]
    x = random(3, 3, 8, 8)
    assert np.array_equal(extractor(x), model.run(x, outputs=["dropped"]))


def test_auto_pools_a_convolution(random: Random) -> None:
    model = cnnrt.Model(conv_and_pool(random))
    extractor = cnnrt.FeatureExtractor(model)
    assert (extractor.layer, extractor.pooled, extractor.shape) == ("maps", True, (4,))
    x = random(3, 3, 8, 8)
    maps = model.run(x, outputs=["maps"])
    np.testing.assert_allclose(extractor(x), maps.mean(axis=(2, 3)), atol=1e-6)


def test_a_named_layer(random: Random) -> None:
    model = cnnrt.Model(gap_and_gemm(random))
    x = random(3, 3, 8, 8)
    whole = cnnrt.FeatureExtractor(model, "maps")
    assert (whole.pooled, whole.shape) == (False, (4, 6, 6))
    assert np.array_equal(whole(x), model.run(x, outputs=["maps"]))
    mean = cnnrt.FeatureExtractor(model, "maps", pool=True)
    assert mean.shape == (4,)
    np.testing.assert_allclose(mean(x), whole(x).mean(axis=(2, 3)), atol=1e-6)


def test_pooling_tokens(random: Random) -> None:
    graph = graph_of(
        ("reshape", "x shape", "tokens"),
        ("matmul", "tokens w", "mixed"),
        ("relu", "mixed", "scores"),
        shape=np.array([-1, 24, 8]),
        w=random(8, 5),
    )
    model = cnnrt.Model(graph)
    extractor = cnnrt.FeatureExtractor(model, "mixed", pool=True)
    assert extractor.shape == (5,)
    x = random(2, 3, 8, 8)
    want = model.run(x, outputs=["mixed"]).mean(axis=1)
    np.testing.assert_allclose(extractor(x), want, atol=1e-6)


def test_only_what_the_layer_needs_is_computed() -> None:
    extractor = cnnrt.FeatureExtractor(LENET, "relu")
    assert [node.name for node in extractor.model.graph.nodes] == ["conv1", "relu"]
    assert set(extractor.model.graph.constants) == {"conv1.weight", "conv1.bias"}


def test_free_sizes_are_named(random: Random) -> None:
    graph = gap_and_gemm(random)
    graph.inputs = [TensorSpec("x", ("batch", 3, "height", "width"))]
    model = cnnrt.Model(graph)
    extractor = cnnrt.FeatureExtractor(model, "maps")
    assert extractor.shape == (4, "size_1", "size_2")
    assert extractor(random(2, 3, 9, 7)).shape == (2, 4, 7, 5)
    assert cnnrt.FeatureExtractor(model)(random(2, 3, 9, 7)).shape == (2, 4)


def test_cuts_that_are_refused(random: Random) -> None:
    model = cnnrt.Model(gap_and_gemm(random))
    with pytest.raises(cnnrt.GraphError, match="did you mean 'maps'"):
        cnnrt.FeatureExtractor(model, "map")
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        cnnrt.FeatureExtractor(model, batch_size=0)
    flat = graph_of(
        ("reshape", "x shape", "rows"), ("relu", "rows", "scores"), shape=np.array([-1, 8])
    )
    with pytest.raises(cnnrt.GraphError, match=r"'rows' has shape \[48, 8\] for 2 images"):
        cnnrt.FeatureExtractor(cnnrt.Model(flat), "rows")
    two = graph_of(("add", "x y", "scores"))
    two.inputs.append(TensorSpec("y", ("batch", 3, 8, 8)))
    with pytest.raises(cnnrt.GraphError, match="this network has 2"):
        cnnrt.FeatureExtractor(cnnrt.Model(two), "scores")


def test_any_batch_gives_the_same_bits() -> None:
    x = np.random.default_rng(0).standard_normal((7, 1, 28, 28), dtype=np.float32)
    want = cnnrt.FeatureExtractor(LENET)(x)
    assert want.shape == (7, 84)
    for size in (1, 2, 5, 7):
        assert np.array_equal(cnnrt.FeatureExtractor(LENET, batch_size=size)(x), want)


def test_a_fixed_batch_is_filled_up(random: Random) -> None:
    graph = gap_and_gemm(random)
    x = random(5, 3, 8, 8)
    want = cnnrt.FeatureExtractor(cnnrt.Model(graph))(x)
    graph.inputs = [TensorSpec("x", (2, 3, 8, 8))]
    extractor = cnnrt.FeatureExtractor(cnnrt.Model(graph))
    assert extractor.batch_size == 2
    assert np.array_equal(extractor(x), want)


# Images -----------------------------------------------------------------------------------------


def test_kinds_of_images() -> None:
    extractor = cnnrt.FeatureExtractor(LENET)
    files = cnnrt.image_files([DIGITS])
    want = extractor(DIGITS)
    assert want.shape == (10, 84)
    pixels = [np.asarray(Image.open(file)) for file in files]
    inputs = np.concatenate([extractor.model.input_from(file) for file in files])
    with Image.open(files[0]) as picture:
        assert np.array_equal(extractor(picture), want[:1])
    assert np.array_equal(extractor(files), want)
    assert np.array_equal(extractor(str(files[0])), want[:1])
    assert np.array_equal(extractor(pixels), want)
    assert np.array_equal(extractor(pixels[0]), want[:1])
    assert np.array_equal(extractor(np.stack(pixels)[..., None]), want)
    assert np.array_equal(extractor(inputs), want)
    assert np.array_equal(extractor(file for file in files), want)
    assert np.array_equal(extractor([DIGITS, files[0]]), np.concatenate([want, want[:1]]))
    assert extractor([]).shape == (0, 84)


def test_images_that_are_refused(tmp_path: Path, random: Random) -> None:
    extractor = cnnrt.FeatureExtractor(LENET)
    with pytest.raises(cnnrt.ImageError, match="no images in this folder"):
        extractor(tmp_path)
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(cnnrt.ImageError, match=r"a\.png: is not an image"):
        extractor(tmp_path)
    with pytest.raises(cnnrt.ImageError, match="no such file"):
        extractor(tmp_path / "b.png")
    with pytest.raises(cnnrt.ImageError, match="expected a path"):
        extractor(3)
    with pytest.raises(cnnrt.ShapeError, match=r"not \(2, 3, 8, 8\)"):
        extractor(random(2, 3, 8, 8))
    with pytest.raises(cnnrt.GraphError, match="how an image becomes its input"):
        cnnrt.FeatureExtractor(cnnrt.Model(gap_and_gemm(random)))(DIGITS)


def test_progress(capsys: Any) -> None:
    pytest.importorskip("tqdm")
    cnnrt.FeatureExtractor(LENET)(DIGITS, progress=True)
    captured = capsys.readouterr()
    assert "10/10" in captured.err
    cnnrt.FeatureExtractor(LENET)(DIGITS)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


# The cache --------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """The numbers of images of all runs of a network from now on, with an empty cache."""
    monkeypatch.setenv("CNNRT_CACHE", str(tmp_path / "cache"))
    runs: list[int] = []
    call = cnnrt.Model.__call__

    def count(self: cnnrt.Model, x: Any) -> Any:
        runs.append(len(x))
        return call(self, x)

    monkeypatch.setattr(cnnrt.Model, "__call__", count)
    return runs


def test_features_are_computed_once(counted: list[int], tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    files = cnnrt.image_files([DIGITS])
    for file in files[:6]:
        (folder / file.name).write_bytes(file.read_bytes())
    want = cnnrt.FeatureExtractor(LENET)(DIGITS)
    counted.clear()
    assert np.array_equal(cnnrt.FeatureExtractor(LENET, cache=True)(folder), want[:6])
    assert counted == [6]
    # Other names for the same contents, and new contents.
    (folder / "0.png").rename(folder / "zero.png")
    (folder / "7.png").write_bytes(files[7].read_bytes())
    counted.clear()
    got = cnnrt.FeatureExtractor(LENET, cache=True)(folder)
    assert np.array_equal(got, want[[1, 2, 3, 4, 5, 7, 0]])
    assert counted == [1]


def test_another_network_has_other_features(counted: list[int], tmp_path: Path) -> None:
    lenet = cnnrt.load(LENET)
    first = cnnrt.FeatureExtractor(lenet, cache=True)(DIGITS)
    lenet.graph.constants["conv1.bias"] = lenet.graph.constants["conv1.bias"] + np.float32(1)
    second = cnnrt.FeatureExtractor(cnnrt.Model(lenet.graph, preprocessing=lenet.preprocessing))
    cached = cnnrt.FeatureExtractor(second.model, "relu_3", cache=True)(DIGITS)
    assert not np.array_equal(first, cached)
    assert np.array_equal(second(DIGITS), cached)
    # And a head of its own changes nothing.
    counted.clear()
    lenet = cnnrt.load(LENET)
    lenet.graph.constants["fc3.bias"] = lenet.graph.constants["fc3.bias"] + np.float32(1)
    assert np.array_equal(cnnrt.FeatureExtractor(lenet, cache=True)(DIGITS), first)
    assert counted == []


def test_an_interruption_keeps_what_is_done(
    counted: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [*cnnrt.image_files([DIGITS])[:4], tmp_path / "absent.png"]
    with pytest.raises(cnnrt.ImageError, match="absent"):
        cnnrt.FeatureExtractor(LENET, cache=True, batch_size=2)(files)
    counted.clear()
    cnnrt.FeatureExtractor(LENET, cache=True)(files[:4])
    assert counted == []


def test_a_damaged_cache_counts_as_none(counted: list[int], tmp_path: Path) -> None:
    want = cnnrt.FeatureExtractor(LENET, cache=True)(DIGITS)
    (shard,) = (tmp_path / "cache").rglob("*.safetensors")
    content = shard.read_bytes()
    for damaged in (content[:1000], b"", b"no arrays in here", content[: len(content) // 2]):
        shard.write_bytes(damaged)
        counted.clear()
        assert np.array_equal(cnnrt.FeatureExtractor(LENET, cache=True)(DIGITS), want)
        assert counted == [10]
        for other in (tmp_path / "cache").rglob("*.safetensors"):
            if other != shard:
                other.unlink()


def test_a_cache_that_cannot_be_written(
    counted: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CNNRT_CACHE", str(tmp_path / "file"))
    assert cnnrt.FeatureExtractor(LENET, cache=True)(DIGITS).shape == (10, 84)


def test_files_of_the_cache_have_a_limit(
    counted: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "SHARD", 4)
    cnnrt.FeatureExtractor(LENET, cache=True)(DIGITS)
    sizes = []
    for file in (tmp_path / "cache").rglob("*.safetensors"):
        sizes.append(len(load_file(file)["images"]))
    assert sorted(sizes) == [2, 4, 4]


def test_a_written_part_of_a_network_runs(tmp_path: Path) -> None:
    extractor = cnnrt.FeatureExtractor(EFFICIENTNET)
    path = tmp_path / "backbone.bin"
    write_model(path, extractor.model.graph, preprocessing=extractor.model.preprocessing)
    again = cnnrt.load(path)
    photo = EXAMPLES / "chelsea.png"
    assert again.outputs == [TensorSpec("view", ("batch", 1280))]
    assert np.array_equal(again(again.input_from(photo)), extractor(photo))
