"""The unary operators and the activations, against PyTorch in float64."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnrt.graph import Node
from cnnrt.ops import OPS, complete
from cnnrt.ops.activation import Activation
from cnnrt.ops.elementwise import ACTIVATIONS, Unary, activated, apply

torch = pytest.importorskip("torch")
F = torch.nn.functional

PEERS: dict[str, tuple[dict[str, float], Any]] = {
    "relu": ({}, F.relu),
    "leaky_relu": ({"alpha": 0.3}, lambda x: F.leaky_relu(x, 0.3)),
    "sigmoid": ({}, torch.sigmoid),
    "silu": ({}, F.silu),
    "swish": ({"alpha": 1.7}, lambda x: x * torch.sigmoid(1.7 * x)),
    "tanh": ({}, torch.tanh),
    "hard_sigmoid": ({"alpha": 1 / 6, "beta": 0.5}, F.hardsigmoid),
    "hard_swish": ({}, F.hardswish),
    "gelu": ({}, F.gelu),
    "elu": ({"alpha": 0.7}, lambda x: F.elu(x, 0.7)),
    "selu": ({}, F.selu),
    "celu": ({"alpha": 0.7}, lambda x: F.celu(x, 0.7)),
    "softplus": ({}, F.softplus),
    "mish": ({}, F.mish),
    "softsign": ({}, F.softsign),
    "abs": ({}, torch.abs),
    "neg": ({}, torch.neg),
    "exp": ({}, torch.exp),
    "log": ({}, torch.log),
    "sqrt": ({}, torch.sqrt),
    "reciprocal": ({}, torch.reciprocal),
    "erf": ({}, torch.erf),
    "floor": ({}, torch.floor),
    "ceil": ({}, torch.ceil),
    "round": ({}, torch.round),
    "sign": ({}, torch.sign),
    "identity": ({}, lambda x: x),
    "sin": ({}, torch.sin),
    "cos": ({}, torch.cos),
    "tan": ({}, torch.tan),
    "asin": ({}, torch.asin),
    "acos": ({}, torch.acos),
    "atan": ({}, torch.atan),
    "sinh": ({}, torch.sinh),
    "cosh": ({}, torch.cosh),
    "asinh": ({}, torch.asinh),
    "acosh": ({}, torch.acosh),
    "atanh": ({}, torch.atanh),
    "thresholded_relu": ({"alpha": 0.4}, lambda x: F.threshold(x, 0.4, 0.0)),
    "shrink": ({"lambd": 0.4, "bias": 0.4}, lambda x: F.softshrink(x, 0.4)),
    "is_nan": ({}, torch.isnan),
    "is_inf": ({}, torch.isinf),
}
INTEGER = {"bitwise_not", "not"}  # held by ONNX's cases


def values() -> np.ndarray:
    special = [0.0, 0.5, 1.5, -0.5, 1.0, -1.0, 3.0, -3.0, 6.0, 40.0, -40.0, np.inf, -np.inf, np.nan]
    return np.array(special + list(np.random.default_rng(0).normal(size=50) * 2))


def test_every_unary_operator_has_a_peer() -> None:
    assert {n for n, o in OPS.items() if isinstance(o, Unary)} == PEERS.keys() | INTEGER


@pytest.mark.parametrize("name", PEERS)
def test_unary(run: Any, name: str) -> None:
    attributes, peer = PEERS[name]
    x = values()
    if name in ("selu", "erf", "mish", "hard_swish", "silu", "swish", "gelu"):  # inf - inf, 0 inf
        x = x[~np.isinf(x)]
    (y,) = run(name, x, **attributes)
    if name in ("sign", "thresholded_relu", "shrink"):  # PyTorch treats NaN otherwise than ONNX
        x, y = x[~np.isnan(x)], y[~np.isnan(x)]
    rtol = 1e-6 if name == "selu" else 1e-12  # ONNX has its constants in float32
    np.testing.assert_allclose(y, peer(torch.tensor(x)).numpy(), rtol=rtol, atol=1e-12)


def test_gelu_tanh(run: Any) -> None:
    x = values()[:11]
    want = F.gelu(torch.tensor(x), approximate="tanh").numpy()
    np.testing.assert_allclose(run("gelu", x, approximate="tanh")[0], want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3, 4)])
@pytest.mark.parametrize("name", PEERS)
def test_dtype_and_shape_stay(run: Any, name: str, shape: tuple[int, ...], dtype: str) -> None:
    run(name, np.ones(shape, dtype) / 2, **PEERS[name][0])


def test_activations_are_those_of_the_kernels() -> None:
    listed = Path(__file__).parents[2] / "cpp" / "kernels" / "activations.def"
    assert re.findall(r"^ACTIVATION\((\w+),", listed.read_text(), re.M) == list(ACTIVATIONS)


@pytest.mark.parametrize("name", PEERS)
def test_fused_form_computes_the_same(run: Any, name: str) -> None:
    attributes, _ = PEERS[name]
    node = Node(name, name, ["x"], ["y"], dict(attributes))
    complete(node)
    op = OPS[name]
    assert isinstance(op, Unary)
    fused = op.activation(node)
    assert (fused is not None) == (name in ACTIVATIONS)
    if fused:
        x = values()
        np.testing.assert_array_equal(apply(fused, x), run(name, x, **attributes)[0])
        carrier = Node("conv", "c", [], [], {"activation": list(fused)})
        np.testing.assert_array_equal(activated(carrier, x), apply(fused, x))


@pytest.mark.parametrize(
    ("attributes", "fused"),
    [({"approximate": "none"}, "gelu"), ({"approximate": "tanh"}, "gelu_tanh")],
)
def test_gelu_fuses_in_both_forms(attributes: dict[str, str], fused: str) -> None:
    op = OPS["gelu"]
    assert isinstance(op, Unary)
    assert op.activation(Node("gelu", "g", ["x"], ["y"], attributes)) == Activation(fused)


def test_swish_of_one_is_silu() -> None:
    op = OPS["swish"]
    assert isinstance(op, Unary)
    node = Node("swish", "s", ["x"], ["y"], {"alpha": 1.0})
    assert op.activation(node) == Activation("silu")


def test_clip_of_crossed_bounds_is_the_upper(run: Any) -> None:
    x = np.array([-2.0, 0.0, 2.0])
    assert run("clip", x, np.array(1.0), np.array(-1.0))[0].tolist() == [-1, -1, -1]
    assert run("clip", x, None, np.array(1.0))[0].tolist() == [-2, 0, 1]


def test_cast_truncates(run: Any) -> None:
    assert run("cast", np.array([-1.7, 1.7, 0.0]), to="int8")[0].tolist() == [-1, 1, 0]
    assert run("cast", np.array([-1.7, 0.0]), to="bool")[0].tolist() == [True, False]
