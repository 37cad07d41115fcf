"""Dilated convolutions by Winograd's algorithm on the phases of the image."""

from __future__ import annotations

import numpy as np
import pytest

import cnnrt
from checks import WINOGRAD_TOLERANCE, Random, assert_close
from checks import reference as by_definition
from cnnrt.graph import Array, TensorSpec
from cnnrt.lowering.conv_im2col import live_share, row_bands
from cnnrt.model import plan_for
from cnnrt.ops.windows import Windows
from networks import network, operator


def run(
    x: Array, weight: Array, isa: str, threads: int, algorithm: str, **attributes: object
) -> tuple[Array, str]:
    graph, inputs = operator("conv", x, weight, **attributes)
    model = cnnrt.Model(graph, algorithm=algorithm, isa=isa, threads=threads)
    y = model.run(inputs)
    assert isinstance(y, np.ndarray)
    return y, model.describe()


@pytest.mark.parametrize("algorithm", ["winograd2", "winograd4"])
@pytest.mark.parametrize(
    ("size", "dilation", "pads"),
    [
        ((16, 16), (2, 2), (2, 2, 2, 2)),
        ((17, 15), (2, 2), (2, 2, 2, 2)),  # phases of different sizes along both axes
        ((19, 23), (3, 4), (3, 4, 3, 4)),
        ((7, 30), (12, 5), (12, 5, 12, 5)),  # phases of one row or none
        ((20, 18), (2, 1), (2, 1, 2, 1)),  # along one axis alone
        ((20, 18), (1, 3), (0, 3, 2, 0)),  # more on one side
        ((21, 22), (4, 4), (8, 0, 1, 3)),
        ((23, 21), (2, 2), (0, 0, 0, 0)),
        ((20, 21), (2, 3), (1, 1, 3, 2)),  # padding that is no multiple of the dilation
    ],
)
def test_phases(
    size: tuple[int, int],
    dilation: tuple[int, int],
    pads: tuple[int, ...],
    algorithm: str,
    isa: str,
    threads: int,
    random: Random,
) -> None:
    for n, c, m in ((1, 16, 16), (2, 35, 20)):
        x, weight = random(n, c, *size), random(m, c, 3, 3)
        attributes = {"pads": list(pads), "dilations": list(dilation)}
        y, text = run(x, weight, isa, threads, algorithm, **attributes)
        assert f"{algorithm}: asked for; on " in text
        want = by_definition("conv", x, weight, **attributes)
        assert_close(y, want, WINOGRAD_TOLERANCE[algorithm], (size, dilation, pads, n))
        other, _ = run(x, weight, isa, 5, algorithm, **attributes)
        assert np.array_equal(other, y)
        alone, _ = run(x[:1], weight, isa, threads, algorithm, **attributes)
        assert np.array_equal(alone, y[:1])


@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": [2, 2, 2, 2], "dilations": [2, 2], "strides": [2, 2]},
        {"pads": [5, 5, 5, 5], "dilations": [2, 2]},  # more padding than a tile has
    ],
)
def test_not_on_phases(attributes: dict[str, list[int]], isa: str, random: Random) -> None:
    x, weight = random(1, 32, 20, 20), random(32, 32, 3, 3)
    y, text = run(x, weight, isa, 2, "winograd4", **attributes)
    assert "phases" not in text
    assert_close(y, by_definition("conv", x, weight, **attributes), 1e-5)


def test_chosen_by_cost(isa: str, random: Random) -> None:
    """A large image, but not one on which most taps read padding."""
    weight = random(256, 256, 3, 3)
    for size, dilation, chosen in ((64, 2, True), (16, 12, False)):
        graph, _ = operator(
            "conv",
            random(1, 256, size, size),
            weight,
            pads=[dilation] * 4,
            dilations=[dilation] * 2,
        )
        assert ("phases" in cnnrt.Model(graph, isa=isa).describe()) == chosen


def test_share_of_products_in_bands() -> None:
    for size, dilation, begin, out in ((16, 12, 12, 16), (5, 2, 2, 5), (7, 9, 0, 1), (9, 4, 8, 12)):
        w = Windows((3, 3), (1, 1), (dilation, 1), (begin, 1), (0, 1), (size, 4), (out, 4))
        bands = row_bands(w)
        done = sum((b.stop - b.first) * (b.stop_tap - b.tap) for b in bands)
        if len(bands) > 1 or w.live(0).mean() > 0.75:
            assert live_share(w) == pytest.approx(done / (3 * out))


def test_epilogue(isa: str, threads: int, random: Random) -> None:
    """A residual is added, and an activation done, where the outputs lie."""
    x, weight, bias = random(1, 64, 40, 40), random(64, 64, 3, 3), random(64)
    dilated = {"pads": [2, 2, 2, 2], "dilations": [2, 2]}
    nodes = [("c", "conv", "x w b", dilated), ("a", "add", "c x"), ("y", "relu", "a")]
    constants = {"w": weight, "b": bias}
    linear = by_definition("conv", x, weight, bias, **dilated)
    for graph, want in (
        (network({"x": x}, constants, nodes[0], ("y", "relu", "c")), np.maximum(linear, 0)),
        (network({"x": x}, constants, *nodes), np.maximum(linear + x, 0)),
        (network({"x": x}, constants, nodes[0], ("y", "tanh", "c")), np.tanh(linear)),
    ):
        model = cnnrt.Model(graph, isa=isa, threads=threads, algorithm="winograd4")
        assert len(model.describe().splitlines()) <= 4 and "phases" in model.describe()
        scale = float(np.abs(linear).max())  # the activation cuts the large values
        assert_close(model(x), want, WINOGRAD_TOLERANCE["winograd4"], scale=scale)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("algorithm", ["winograd2", "winograd4", "winograd6"])
def test_not_finite(algorithm: str, isa: str, threads: int, random: Random) -> None:
    """An infinite or NaN pixel reaches the outputs whose windows hold it, and no others."""
    x, weight = random(1, 32, 31, 33), random(32, 32, 3, 3)
    x[0, 3, 7, 9], x[0, 20, 30, 0] = np.inf, np.nan
    attributes = {"pads": [3] * 4, "dilations": [3, 3]}
    y, text = run(x, weight, isa, threads, algorithm, **attributes)
    assert "phases" in text
    want = by_definition("conv", x, weight, **attributes)
    finite = np.isfinite(want)
    assert np.array_equal(np.isfinite(y), finite) and not finite.all()
    assert np.array_equal(np.isnan(y), np.isnan(want))
    assert_close(y[finite], want[finite], WINOGRAD_TOLERANCE[algorithm])


@pytest.mark.parametrize(
    ("shape", "kernel"),
    [
        ((2, 20, 70), (3,)),
        ((1, 16, 9, 40), (1, 3)),
        ((1, 16, 40, 9), (3, 1)),
        ((1, 16, 24, 25), (5, 5)),
    ],
)
def test_other_kernels(
    shape: tuple[int, ...], kernel: tuple[int, ...], isa: str, threads: int, random: Random
) -> None:
    """One axis alone, and 5x5."""
    x, weight = random(*shape), random(24, shape[1], *kernel)
    pads = [3 * (k // 2) for k in kernel] * 2
    attributes = {"pads": pads, "dilations": [3] * len(kernel)}
    algorithm = "winograd2" if kernel == (5, 5) else "winograd4"
    y, text = run(x, weight, isa, threads, algorithm, **attributes)
    assert algorithm in text and "phases" in text
    assert_close(y, by_definition("conv", x, weight, **attributes), WINOGRAD_TOLERANCE[algorithm])


def test_free_sizes(random: Random) -> None:
    """A plan for each size, some of them from templates."""
    weight = random(64, 64, 3, 3)
    dilated = {"pads": [3] * 4, "dilations": [3, 3]}
    graph = network({"x": random(1, 64, 30, 30)}, {"w": weight}, ("y", "conv", "x w", dilated))
    graph.inputs[0] = TensorSpec("x", (1, 64, "h", "w"))
    model = cnnrt.Model(graph, algorithm="winograd4")
    for h, w in ((30, 30), (31, 30), (40, 37), (41, 37), (42, 39), (45, 45), (48, 51)):
        x = random(1, 64, h, w)
        want = by_definition("conv", x, weight, **dilated)
        assert_close(model(x), want, WINOGRAD_TOLERANCE["winograd4"], (h, w))
        assert "phases" in str(plan_for(model, [x]).describe())
