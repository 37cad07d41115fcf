"""Networks in 8 bits: what is rounded, how, and how near the answers stay."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnrt
from browser import Browser
from checks import Random
from cnnrt import Model, cli
from cnnrt.errors import GraphError, ShapeError
from cnnrt.graph import Array, Graph, TensorSpec
from cnnrt.quantization import (
    CalibrationDataReader,
    CalibrationError,
    CalibrationMethod,
    Changed,
    QuantFormat,
    Quantization,
    QuantType,
    post_training,
    quantize_dynamic,
    quantize_static,
)
from cnnrt.quantization.balance import balance
from cnnrt.quantization.prepared import prepare
from cnnrt.quantization.ranges import METHODS, Histogram, quantiser
from cnnrt.quantization.rounding import compensated, scales, to_nearest
from cnnrt.quantization.samples import Samples, split
from cnnrt.quantization.scheme import Scheme, choose
from networks import network

EXAMPLES = Path(__file__).parent.parent / "examples"
LENET = EXAMPLES / "lenet5.bin"
EFFICIENTNET = EXAMPLES / "efficientnet_lite0.bin"
DIGITS = EXAMPLES / "digits"


def crops(count: int, seed: int) -> list[Image.Image]:
    """Parts of the two photographs, some mirrored."""
    generator = np.random.default_rng(seed)
    photos = [Image.open(EXAMPLES / f"{name}.png").convert("RGB") for name in ("coffee", "chelsea")]
    made = []
    for i in range(count):
        photo = photos[i % 2]
        side = generator.uniform(0.45, 1) * min(photo.size)
        x, y = generator.uniform(0, photo.width - side), generator.uniform(0, photo.height - side)
        part = photo.crop((int(x), int(y), int(x + side), int(y + side)))
        made.append(part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if i % 3 else part)
    return made


def decibels(want: Array, got: Array) -> float:
    noise = float(np.sum((want.astype(np.float64) - got) ** 2))
    return 10 * np.log10(float(np.sum(want.astype(np.float64) ** 2)) / noise)


# What is rounded ----------------------------------------------------------------------------------


def scheme_of(graph: Graph, x: Array, **options: Any) -> Scheme:
    prepared = prepare(graph, {"x": x.shape})
    return choose(prepared.graph, prepared.types, **options)


def conv(to: str, x: str, weight: str, bias: str = "", **attributes: Any) -> tuple[Any, ...]:
    names = f"{x} {weight} {bias}".strip()
    return (to, "conv", names, {"pads": (1, 1, 1, 1), **attributes})


def residual(random: Random) -> tuple[Graph, Array]:
    """Two convolutions, the first with a ReLU, and an addition with a ReLU; then another one."""
    x = random(1, 4, 8, 8)
    graph = network(
        {"x": x},
        {name: random(4, 4, 3, 3) for name in ("w1", "w2", "w3")} | {"b": random(4)},
        conv("c1", "x", "w1", "b"),
        ("r1", "relu", "c1"),
        conv("c2", "r1", "w2"),
        ("sum", "add", "r1 c2"),
        ("r2", "relu", "sum"),
        conv("y", "r2", "w3"),
    )
    return graph, x


def test_nothing_is_rounded_inside_a_layer_with_its_addition_and_activation(random: Random) -> None:
    graph, x = residual(random)
    found = scheme_of(graph, x)
    assert list(found.tensors) == ["x", "r1", "r2"]
    ends = {layer.name: (layer.sum, layer.output) for layer in found.layers}
    assert ends == {"c1": ("c1", "r1"), "c2": ("c2", "r2"), "y": ("y", "y")}


def test_other_runtimes_need_both_sides_of_an_addition_rounded(random: Random) -> None:
    graph, x = residual(random)
    assert list(scheme_of(graph, x, round_residual=True).tensors) == ["x", "r1", "c2", "r2"]


def test_a_layer_in_floats_is_not_rounded_before_its_activation(random: Random) -> None:
    graph, x = residual(random)
    found = scheme_of(graph, x, exclude=["c1"])
    assert [layer.name for layer in found.layers] == ["c2", "y"]
    assert list(found.tensors) == ["r1", "r2"]


def test_a_function_of_one_tensor_is_rounded_before_and_after(random: Random) -> None:
    """As SiLU, written out, and a gate of squeeze and excitation."""
    x = random(1, 4, 8, 8)
    graph = network(
        {"x": x},
        {"w": random(4, 4, 3, 3), "v": random(4, 4, 1, 1), "six": np.float32(6)},
        conv("c", "x", "w"),
        ("t", "tanh", "c"),
        ("a", "mul", "c t"),
        ("pooled", "global_average_pool", "a"),
        ("squeezed", "conv", "pooled v"),
        ("shifted", "div", "squeezed six"),
        ("gate", "sigmoid", "shifted"),
        ("gated", "mul", "a gate"),
        conv("y", "gated", "w"),
    )
    found = scheme_of(graph, x)
    assert list(found.tensors) == ["x", "c", "a", "pooled", "squeezed", "gate", "gated"]


def test_what_makes_no_new_values_keeps_the_scale(random: Random) -> None:
    x = random(1, 4, 8, 8)
    graph = network(
        {"x": x},
        {"w": random(4, 4, 3, 3), "w8": random(4, 8, 3, 3)},
        conv("c", "x", "w"),
        ("p", "max_pool", "c", {"kernel_shape": (2, 2), "strides": (2, 2)}),
        ("t", "transpose", "p", {"perm": (0, 1, 3, 2)}),
        ("both", "concat", "t p", {"axis": 1}),
        conv("y", "both", "w8"),
    )
    found = scheme_of(graph, x)
    assert found.tensors == {"x": "x", "c": "c", "p": "c", "t": "c", "both": "both"}
    assert found.concats == [("both", ["t", "p"])]


def test_floats_that_lead_into_no_layer_stay(random: Random) -> None:
    x = random(1, 4, 8, 8)
    graph = network(
        {"x": x},
        {"w": random(4, 4, 3, 3), "half": np.float32(0.5)},
        ("scaled", "mul", "x half"),
        conv("c", "scaled", "w"),
        ("p", "softmax", "c", {"axis": 1}),
        ("y", "add", "p c"),
    )
    assert list(scheme_of(graph, x).tensors) == ["scaled"]


# Histograms and ranges ----------------------------------------------------------------------------


def test_a_histogram_counts_all_values_whatever_comes_first(random: Random) -> None:
    parts = [random(1000) * size for size in (0.01, 1.0, 300.0, 0.1)]
    seen = Histogram()
    for part in parts:
        seen.add(part)
    assert seen.counts.sum() == 4000
    whole = np.concatenate(parts)
    assert (seen.low, seen.high) == (whole.min(), whole.max())
    centres, counts = seen.values()
    want = np.histogram(whole, np.append(centres - seen.width / 2, centres[-1] + seen.width / 2))[0]
    # Values that were counted in narrow bins can lie at the edge of a wide one.
    assert np.abs(np.cumsum(counts) - np.cumsum(want)).max() <= 8
    merged = Histogram()
    for part in parts:
        one = Histogram()
        one.add(part)
        merged = merged.merged(one)
    assert merged.counts.sum() == 4000
    assert (merged.low, merged.high, merged.width) == (seen.low, seen.high, seen.width)


def test_the_error_of_a_range_is_that_of_rounding(random: Random) -> None:
    values = random(200_000)
    seen = Histogram()
    seen.add(values)
    for low, high in ((-4.0, 4.0), (-1.0, 2.0), (-0.5, 0.5)):
        found = quantiser(low, high)
        want = np.mean((found.of(values) - values) ** 2)
        np.testing.assert_allclose(seen.error(low, high), want, rtol=0.03)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_finds_a_range_within_the_values(method: str, random: Random) -> None:
    for values in (random(5000), np.maximum(random(5000), 0), -np.abs(random(5000)), random(1)):
        seen = Histogram()
        seen.add(values)
        low, high = METHODS[method](seen)
        slack = seen.width
        assert min(values.min(), 0) - slack <= low <= 0 <= high <= max(values.max(), 0) + slack
        found = quantiser(low, high)
        assert found.scale > 0
        assert found.of(np.zeros(1, np.float32)) == 0
    assert METHODS[method](Histogram()) == (0, 0)
    assert quantiser(0, 0).scale == 1


def test_minmax_is_exact_and_mse_leaves_out_what_is_rare(random: Random) -> None:
    """One value of 60 among two million of a normal distribution."""
    seen = Histogram()
    for _ in range(20):
        seen.add(random(100_000))
    seen.add(np.full(1, 60, np.float32))
    assert METHODS["minmax"](seen) == (seen.low, 60)
    low, high = METHODS["mse"](seen)
    assert high < 30
    assert seen.error(low, high) < 0.5 * seen.error(*METHODS["minmax"](seen))
    assert METHODS["percentile"](seen)[1] < 5
    assert quantiser(0, 3).zero == 0
    assert quantiser(-3, 0).zero == 255


def test_values_that_are_not_finite_are_refused() -> None:
    graph = network(
        {"x": np.ones((1, 1, 4, 4), np.float32)},
        {"w": np.full((1, 1, 1, 1), np.nan, np.float32)},
        ("c", "conv", "x w"),
        ("y", "conv", "c w"),
    )
    with pytest.raises(CalibrationError, match="tensor 'c': it has values that are not finite"):
        post_training(Model(graph), np.ones((3, 1, 4, 4), np.float32))


# Rounding of weights ------------------------------------------------------------------------------


def output_error(weight: Array, rounded: Array, scale: Array, inputs: Array) -> float:
    difference = weight - rounded * scale[..., None]
    return float(np.sum(np.matmul(difference, inputs) ** 2))


def test_compensated_rounding_makes_smaller_errors_of_the_outputs(random: Random) -> None:
    group, rows, columns, windows = 2, 8, 200, 3000
    mixing = random(group, columns, columns) / np.sqrt(columns)
    inputs = np.matmul(mixing, random(group, columns, windows)) + 1  # correlated, and not centred
    weight = random(group, rows, columns).astype(np.float64)
    scale = scales(weight)
    moments = np.matmul(inputs, inputs.transpose(0, 2, 1)).astype(np.float64)
    nearest = to_nearest(weight, scale)
    found = compensated(weight, scale, moments)
    assert np.abs(found).max() <= 127
    assert np.array_equal(found, np.rint(found))
    before = output_error(weight, nearest, scale, inputs)
    assert output_error(weight, found, scale, inputs) < 0.2 * before
    for g in range(group):  # groups do not know each other
        alone = compensated(weight[g : g + 1], scale[g : g + 1], moments[g : g + 1])
        np.testing.assert_array_equal(alone[0], found[g])


def test_without_correlation_the_nearest_integers_are_the_best(random: Random) -> None:
    weight = random(1, 5, 140).astype(np.float64)
    scale = scales(weight)
    found = compensated(weight, scale, np.eye(140)[None] * np.arange(1, 141))
    np.testing.assert_array_equal(found, to_nearest(weight, scale))
    zeros = compensated(weight, scale, np.zeros((1, 140, 140)))
    np.testing.assert_array_equal(zeros, to_nearest(weight, scale))


def test_scales_of_zeros_and_of_tiny_weights(random: Random) -> None:
    weight = np.stack([np.zeros(4), np.full(4, 1e-40), np.array([1, -2, 0.5, 0])])[None]
    found = scales(weight, np.array([[0.0, 0.25, 0.0]]))
    np.testing.assert_array_equal(found, np.float32([[1, 0.25, 2 / 127]]))


def test_a_large_bias_beside_tiny_weights_stays(random: Random) -> None:
    x = random(6, 1, 4, 4)
    weight = np.array([1e-12, 1, 0], np.float32).reshape(3, 1, 1, 1)
    graph = network(
        {"x": x[:1]},
        {"w": weight, "b": np.float32([5, -3, 7])},
        ("y", "conv", "x w b"),
    )
    found = cnnrt.quantize(Model(graph), x)
    np.testing.assert_allclose(found(x[:1]), Model(graph)(x[:1]), atol=0.05)


# Channels of one size -----------------------------------------------------------------------------


def test_equalisation_keeps_results_and_brings_channels_nearer(random: Random) -> None:
    """Before a depthwise convolution behind a ReLU."""
    x = random(8, 3, 12, 12)
    sizes = np.geomspace(0.01, 4, 6).astype(np.float32).reshape(6, 1, 1, 1)
    graph = network(
        {"x": x[:1]},
        {"w": random(6, 3, 3, 3) * sizes, "b": random(6) * sizes[:, 0, 0, 0]}
        | {"d": random(6, 1, 3, 3) / sizes},
        conv("c", "x", "w", "b"),
        ("r", "relu", "c"),
        conv("y", "r", "d", group=6),
    )
    model = Model(graph, threads=1)
    samples = Samples(model, x)
    prepared = prepare(graph, samples.shapes())
    scheme = choose(prepared.graph, prepared.types)
    found = balance(prepared, scheme, samples, range(8))
    other = Model(found.graph, threads=1)
    for i in range(8):
        want, got = model(x[i : i + 1]), other(x[i : i + 1])
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())

    def spread(one: Model) -> float:
        sizes = np.max([one.run(row[None], ["r"]).max(axis=(0, 2, 3)) for row in x], axis=0)
        return float(sizes.max() / sizes.min())

    assert spread(model) > 100
    assert spread(other) < 0.3 * spread(model)
    weighed = decibels(model(x[:1]), cnnrt.quantize(model, x)(x[:1]))
    assert weighed > 24


def test_channels_before_a_clip_are_scaled_on_large_maps_alone(random: Random) -> None:
    """Values that were not seen would be cut off; a large map shows nearly all of them."""
    for side, changed in ((16, False), (100, True)):
        x = random(1, 3, side, side)
        sizes = np.geomspace(0.01, 4, 6).astype(np.float32).reshape(6, 1, 1, 1)
        graph = network(
            {"x": x},
            {"w": random(6, 3, 3, 3) * sizes, "d": random(6, 1, 3, 3) / sizes}
            | {"low": np.float32(0), "high": np.float32(6)},
            conv("c", "x", "w"),
            ("r", "clip", "c low high"),
            conv("y", "r", "d", group=6),
        )
        samples = Samples(Model(graph), x)
        prepared = prepare(graph, samples.shapes())
        found = balance(prepared, choose(prepared.graph, prepared.types), samples, range(1))
        assert (found is not prepared) == changed
        want, got = Model(graph)(x), Model(found.graph)(x)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


def test_balancing_of_a_normalisation_keeps_results(random: Random) -> None:
    """As SmoothQuant before the linear layers of a transformer, also behind a change of shape."""
    x = random(8, 6, 16)
    outliers = np.ones(16, np.float32)
    outliers[3] = 60
    graph = network(
        {"x": x[:1]},
        {
            **{"g": outliers, "s": random(16) * 0.1, "q": random(16, 16), "k": random(16, 8)},
            **{"rows": np.array([1, 2, 3, 16]), "three": np.array([1, 6, 16])},
        },
        ("n", "layer_normalization", "x g s", {"axis": -1}),
        ("a", "matmul", "n q"),
        ("windows", "reshape", "n rows"),
        ("turned", "transpose", "windows", {"perm": (0, 2, 1, 3)}),
        ("b", "matmul", "turned k"),
        outputs=("a", "b"),
    )
    model = Model(graph, threads=1)
    samples = Samples(model, x)
    prepared = prepare(graph, samples.shapes())
    found = balance(prepared, choose(prepared.graph, prepared.types), samples, range(8))
    other = Model(found.graph, threads=1)
    for name, want in model(x[:1]).items():
        got = other(x[:1])[name]
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 * np.abs(want).max())
    spread = np.abs(other.run(x[:1], ["n"])).max(axis=(0, 1))
    before = np.abs(model.run(x[:1], ["n"])).max(axis=(0, 1))
    assert before.max() / np.median(before) > 40
    assert spread.max() / np.median(spread) < 15
    quantised = cnnrt.quantize(model, x)
    assert min(decibels(y, quantised(x[:1])[name]) for name, y in model(x[:1]).items()) > 30


# Whole networks -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lenet() -> Quantization:
    return post_training(LENET, DIGITS)


@pytest.fixture(scope="module")
def efficientnet() -> Quantization:
    return post_training(EFFICIENTNET, crops(20, seed=1))


def test_lenet_answers_as_in_floats(lenet: Quantization) -> None:
    assert all(layer.integers for layer in lenet.layers)
    assert (lenet.agreement, lenet.changed) == (1.0, [])
    model = cnnrt.load(LENET)
    files = sorted(DIGITS.glob("*.png"))
    for file in files:
        x = model.preprocessing(file)  # type: ignore[misc]
        assert decibels(model(x), lenet.model(x)) > 30
        assert lenet.model.classify(file, 1)[0].label == model.classify(file, 1)[0].label


def test_efficientnet_on_other_photos(efficientnet: Quantization) -> None:
    """At least 26 dB; ONNX Runtime's own quantiser reaches 19.6 on such crops."""
    assert all(layer.integers for layer in efficientnet.layers)
    model = cnnrt.load(EFFICIENTNET)
    inputs = [model.input_from(photo) for photo in crops(16, seed=2)]
    want = np.concatenate([model(x) for x in inputs])
    got = np.concatenate([efficientnet.model(x) for x in inputs])
    assert decibels(want, got) > 26
    assert efficientnet.stored[1] < 0.3 * efficientnet.stored[0]


def test_a_quantised_network_is_written_and_read(lenet: Quantization, tmp_path: Path) -> None:
    x = lenet.model.input_from(DIGITS / "3.png")
    want = lenet.model(x)
    lenet.save(tmp_path / "small.bin")
    assert (tmp_path / "small.bin").stat().st_size < 0.45 * LENET.stat().st_size
    loaded = cnnrt.load(tmp_path / "small.bin")
    np.testing.assert_array_equal(loaded(x), want)
    assert loaded.labels == lenet.model.labels
    pytest.importorskip("onnx")
    lenet.save(tmp_path / "small.onnx")
    np.testing.assert_array_equal(cnnrt.load(tmp_path / "small.onnx")(x), want)


def test_onnxruntime_computes_the_same_integers(lenet: Quantization, tmp_path: Path) -> None:
    onnx, ort = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    lenet.save(tmp_path / "small.onnx")
    proto = onnx.load(tmp_path / "small.onnx")
    integers = [node.output[0] for node in proto.graph.node if node.op_type == "QuantizeLinear"]
    assert len(integers) >= 6
    proto.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None) for name in integers
    )
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for file in sorted(DIGITS.glob("*.png")):
        x = lenet.model.input_from(file)
        y, *want = session.run(None, {session.get_inputs()[0].name: x})
        got = lenet.model.run(x, integers)
        for name, value in zip(integers, want, strict=True):
            np.testing.assert_array_equal(got[name], value, err_msg=name)
        np.testing.assert_allclose(lenet.model(x), y, rtol=1e-5, atol=1e-5)  # sums of floats


def test_layers_go_back_to_floats_until_the_target_holds(lenet: Quantization) -> None:
    higher = lenet.outputs["linear_2"] + 2
    found = post_training(LENET, DIGITS, target_db=higher)
    floats = [layer.name for layer in found.layers if not layer.integers]
    assert 0 < len(floats) < len(found.layers)
    assert found.reached
    assert found.outputs["linear_2"] >= higher
    assert all(layer.alone is not None for layer in found.layers)
    out_of_reach = post_training(LENET, DIGITS, target_db=1000)
    assert not any(layer.integers for layer in out_of_reach.layers)
    assert out_of_reach.reached  # in floats nothing is lost
    answers = post_training(LENET, DIGITS, keep_answers=1)
    assert answers.goal.decibels is None
    assert answers.agreement == 1


def test_excluded_layers_stay_in_floats() -> None:
    found = post_training(LENET, DIGITS, exclude=["conv1", "fc3"])
    integers = {layer.name for layer in found.layers if layer.integers}
    assert integers == {"conv2", "fc1", "fc2"}
    with pytest.raises(GraphError, match="no node is named 'conv9'"):
        post_training(LENET, DIGITS, exclude=["conv9"])
    with pytest.raises(GraphError, match="nothing in this network can run in integers"):
        post_training(LENET, DIGITS, exclude=["conv1", "conv2", "fc1", "fc2", "fc3"])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_works(method: str) -> None:
    assert post_training(LENET, DIGITS, method=method, target_db=20).agreement == 1


def test_arguments_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="method 'best'; expected one of mse"):
        cnnrt.quantize(LENET, DIGITS, method="best")
    with pytest.raises(ValueError, match="keep_answers must be from 0 to 1"):
        cnnrt.quantize(LENET, DIGITS, keep_answers=2)
    with pytest.raises(CalibrationError, match="there are no images"):
        cnnrt.quantize(LENET, [])
    with pytest.raises(ShapeError, match="has 4 axes"):
        cnnrt.quantize(LENET, np.zeros((3, 4), np.float32))


def test_a_network_is_quantised_the_same_every_time(lenet: Quantization) -> None:
    again = post_training(LENET, DIGITS)
    assert list(again.model.graph.constants) == list(lenet.model.graph.constants)
    for name, value in again.model.graph.constants.items():
        np.testing.assert_array_equal(value, lenet.model.graph.constants[name], err_msg=name)


# Inputs -------------------------------------------------------------------------------------------


def test_the_images_to_check_on_are_held_back() -> None:
    assert [list(part) for part in split(9)] == [[0, 1, 2, 4, 5, 6, 8], [3, 7]]
    assert [list(part) for part in split(2)] == [[0, 1], [0, 1]]


def test_images_come_in_many_forms(random: Random) -> None:
    model = cnnrt.load(LENET)
    files = sorted(DIGITS.glob("*.png"))[:4]
    rows = np.concatenate([model.input_from(file) for file in files])
    forms: list[Any] = [files, [str(file) for file in files], rows, list(rows), iter(rows)]
    pictures = [Image.open(file) for file in files]
    pixels = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
    forms += [pictures, pixels, [{model.inputs[0].name: row[None]} for row in rows]]
    for form in forms:
        samples = Samples(model, form)
        assert len(samples) == 4
        for i in range(4):
            found = samples.feed(i)[model.inputs[0].name]
            np.testing.assert_array_equal(found, rows[i : i + 1])


def test_a_fixed_batch_is_filled_and_a_free_one_stays_free(random: Random) -> None:
    weights = {"w": random(5, 3, 3, 3), "v": random(4, 5)}
    layers = (
        conv("c", "x", "w"),
        ("r", "relu", "c"),
        ("p", "global_average_pool", "r"),
        ("flat", "flatten", "p", {"axis": 1}),
        ("y", "matmul", "flat m"),
    )
    weights["m"] = np.ascontiguousarray(weights.pop("v").T)
    images = random(5, 3, 6, 6)
    fixed = network({"x": random(3, 3, 6, 6)}, weights, *layers)
    samples = Samples(Model(fixed), images)
    assert len(samples) == 2
    np.testing.assert_array_equal(samples.feed(1)["x"], images[[3, 4, 0]])
    assert cnnrt.quantize(Model(fixed), images)(images[:3]).shape == (3, 4)
    free = network({"x": images[:1]}, weights, *layers)
    free.inputs = [TensorSpec("x", ("batch", 3, "height", "width"))]
    found = cnnrt.quantize(Model(free), images)
    assert found.inputs[0].shape == ("batch", 3, "height", "width")
    other = random(2, 3, 9, 5)
    assert decibels(Model(free)(other), found(other)) > 25


def test_several_inputs(random: Random) -> None:
    a, b = random(6, 8), random(6, 8)
    graph = network(
        {"a": a[:1], "b": b[:1]},
        {"v": random(8, 8), "w": random(8, 3)},
        ("h", "matmul", "a v"),
        ("s", "add", "h b"),
        ("y", "matmul", "s w"),
    )
    feeds = [{"a": a[i : i + 1], "b": b[i : i + 1]} for i in range(6)]
    found = post_training(Model(graph), feeds)
    assert found.outputs["y"] > 25
    with pytest.raises(ShapeError, match="the network has 2 inputs"):
        post_training(Model(graph), a)


# The names of ONNX Runtime ------------------------------------------------------------------------


class Reader(CalibrationDataReader):
    def __init__(self, feeds: list[dict[str, Array]]) -> None:
        self.feeds = iter(feeds)

    def get_next(self) -> dict[str, Array] | None:
        return next(self.feeds, None)


def test_static_quantisation_by_the_names_of_onnxruntime(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    model = cnnrt.load(LENET)
    feeds = [{model.inputs[0].name: model.input_from(f)} for f in sorted(DIGITS.glob("*.png"))]
    target = tmp_path / "small.onnx"
    quantize_static(
        LENET,
        target,
        Reader(feeds),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        calibrate_method=CalibrationMethod.Percentile,
        nodes_to_exclude=["conv1"],
        op_types_to_quantize=["Conv", "Gemm"],
        extra_options={"WeightSymmetric": True},
    )
    small = cnnrt.load(target)
    integers = [node.op for node in small.graph.nodes].count("quantize_linear")
    assert integers >= 4
    for i, feed in enumerate(feeds):
        assert int(small(feed).argmax()) == i
        assert decibels(model(feed), small(feed)) > 20
    named = tmp_path / "named.bin"
    quantize_static(LENET, named, Reader(feeds), nodes_to_quantize=["conv2"])
    graph = cnnrt.load(named).graph
    assert sum(value.dtype == np.int8 and value.ndim > 1 for value in graph.constants.values()) == 1


def test_what_onnxruntime_has_besides_is_refused(tmp_path: Path) -> None:
    arguments: Any = (LENET, tmp_path / "y.bin", Reader([]))
    for wrong, message in (
        ({"quant_format": QuantFormat.QOperator}, "only QuantFormat.QDQ is supported"),
        ({"weight_type": QuantType.QUInt8}, "only QuantType.QInt8 is supported"),
        ({"extra_options": {"SmoothQuant": True}}, "extra option SmoothQuant=True"),
        ({"op_types_to_quantize": ["LSTM"]}, "'LSTM': only Conv, Gemm, MatMul"),
    ):
        with pytest.raises(ValueError, match=message):
            quantize_static(*arguments, **wrong)
    with pytest.raises(CalibrationError, match="there are no images"):
        quantize_static(*arguments)


def test_dynamic_quantisation(tmp_path: Path) -> None:
    """Linear layers alone, whose inputs get their scale when they come."""
    pytest.importorskip("onnx")
    quantize_dynamic(LENET, tmp_path / "small.onnx")
    quantize_dynamic(LENET, tmp_path / "small.bin", nodes_to_exclude=["fc3"])
    model, small = cnnrt.load(LENET), cnnrt.load(tmp_path / "small.onnx")
    ops = [node.op for node in small.graph.nodes]
    assert (ops.count("matmul_integer"), ops.count("conv")) == (3, 2)
    part = [node.op for node in cnnrt.load(tmp_path / "small.bin").graph.nodes]
    assert part.count("matmul_integer") == 2
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(tmp_path / "small.onnx", providers=["CPUExecutionProvider"])
    for file in sorted(DIGITS.glob("*.png")):
        x = model.input_from(file)
        assert decibels(model(x), small(x)) > 35
        (want,) = session.run(None, {session.get_inputs()[0].name: x})
        np.testing.assert_allclose(small(x), want, rtol=1e-4, atol=0.05)
    with pytest.raises(GraphError, match="no linear layer"):
        quantize_dynamic(LENET, tmp_path / "none.bin", op_types_to_quantize=["Conv"])


# Further use --------------------------------------------------------------------------------------


def test_features_of_a_quantised_network(efficientnet: Quantization) -> None:
    """The layer before the classifier is found, and nothing else is computed."""
    model = cnnrt.load(EFFICIENTNET)
    photos = crops(4, seed=3)
    want, got = cnnrt.FeatureExtractor(model), cnnrt.FeatureExtractor(efficientnet.model)
    assert got.shape == want.shape == (1280,)
    assert decibels(want(photos), got(photos)) > 20
    assert not any(node.op == "gemm" for node in got.model.graph.nodes)


def test_a_new_head_on_a_quantised_network(
    lenet: Quantization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setenv("CNNRT_CACHE", str(tmp_path / "cache"))
    generator = np.random.default_rng(4)
    for name, digits in (("even", "02468"), ("odd", "13579")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for digit in digits:
            pixels = np.asarray(Image.open(DIGITS / f"{digit}.png")).astype(int)
            for i in range(4):
                noisy = np.clip(pixels + generator.integers(-40, 40, pixels.shape), 0, 255)
                image = Image.fromarray(noisy.astype(np.uint8))
                image.save(tmp_path / "data" / name / f"{digit}_{i}.png")
    found = cnnrt.adapt(lenet.model, tmp_path / "data", tmp_path / "head.bin", test_split=0.25)
    assert found.measured is not None
    assert found.measured.accuracy >= 0.9
    loaded = cnnrt.load(tmp_path / "head.bin")
    assert any(node.op == "quantize_linear" for node in loaded.graph.nodes)
    assert loaded.classify(DIGITS / "4.png", 1)[0].label == "even"


# The report and the command line ------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, report = tmp_path / "small.bin", tmp_path / "report.json"
    arguments = ["quantize", str(LENET), str(DIGITS), "-o", str(target), "--report", str(report)]
    assert cli.main([*arguments, "--exclude", "fc3", "--method", "minmax"]) == 0
    text = capsys.readouterr().out
    assert "conv1  conv" in text
    assert "layers in integers   4 of 5" in text
    assert f"wrote {target}" in text
    document = json.loads(report.read_text())
    assert [row["integers"] for row in document["layers"]] == [True] * 4 + [False]
    assert cnnrt.load(target).classify(DIGITS / "3.png", 1)[0].label == "3"
    assert cli.main([*arguments, "--json", "--keep-answers", "0.99"]) == 0
    assert json.loads(capsys.readouterr().out)["agreement"] == 1
    assert cli.main(["quantize", str(LENET), str(tmp_path / "none"), "-o", str(target)]) == 1
    assert "no such file" in capsys.readouterr().err


def test_the_page(lenet: Quantization, tmp_path: Path, browser: Browser) -> None:
    """Also with answers that are said to have changed, one of them no picture's."""
    images = [DIGITS / "3.png", np.zeros((28, 28), np.uint8), np.zeros((1, 1, 28, 28), np.float32)]
    page = tmp_path / "page.html"
    dataclasses.replace(lenet, changed=[Changed(image, 3, 5) for image in images]).report(page)
    browser.check(page)
    assert browser.evaluate("document.querySelectorAll('#layers tbody tr').length") == 5
    assert browser.evaluate("document.querySelectorAll('figure img').length") == 2
    assert browser.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
    assert browser.evaluate("document.querySelectorAll('svg').length") == len(lenet.tensors)
    assert "3.png" in browser.evaluate("document.body.innerText")
