"""Operators as each opset of ONNX defines them: against ONNX Runtime wherever it runs them.

The walk goes through all versions of all operators whose attributes, defaults or inputs changed.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import cnnrt
from cnnrt.errors import FormatError, UnsupportedOperator
from cnnrt.graph import Array

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import defs, helper

from onnx_cases import Case, check, randoms
from opset_samples import SAMPLES, X

# All versions of all operators that changed -------------------------------------------------------

ELSEWHERE = {"Constant", "Scan"}
"""Operators that changed and that other tests are about."""


def changed() -> dict[str, list[int]]:
    """The versions of ONNX's operators whose attributes, defaults or inputs are not always the
    same."""
    versions: dict[str, list[Any]] = {}
    for schema in defs.get_all_schemas_with_history():
        if not schema.domain:
            versions.setdefault(schema.name, []).append(schema)

    def form(schema: Any) -> Any:
        attributes = {
            name: (a.type, a.required, a.default_value.SerializeToString())
            for name, a in schema.attributes.items()
            if name != "consumed_inputs"
        }
        return attributes, [i.name for i in schema.inputs], len(schema.outputs)

    return {
        name: sorted(s.since_version for s in found)
        for name, found in versions.items()
        if any(form(schema) != form(found[0]) for schema in found)
    }


def test_the_walk_leaves_nothing_out() -> None:
    assert changed().keys() - ELSEWHERE == SAMPLES.keys()


@pytest.mark.parametrize("op", SAMPLES)
def test_each_version(op: str) -> None:
    compared = 0
    for version in changed()[op]:
        for case in SAMPLES[op](version):
            compared += check(op, version, case)
    assert compared or op in ("Attention", "Range")


# What ONNX Runtime does not run any more, by definition -------------------------------------------


@pytest.mark.parametrize(
    ("op", "opset", "case", "want"),
    [
        ("GlobalLpPool", 1, Case(X, p=2.0), np.sqrt((X * X).sum((2, 3), keepdims=True))),
        (
            "Pad",
            1,
            Case(X, paddings=[0, 0, 1, 3, 0, 0, 2, 4]),
            np.pad(X, [(0, 0)] * 2 + [(1, 2), (3, 4)]),
        ),
        ("Cast", 1, Case(X * 3, to="INT32"), (X * 3).astype(np.int32)),
        ("Tile", 1, Case(X, np.float32(2), np.float32(1)), np.tile(X, (1, 2, 1, 1))),
        ("Upsample", 1, Case(X, height_scale=2.0, width_scale=3.0), X.repeat(2, 2).repeat(3, 3)),
        ("Split", 1, Case(X, np.array([4], np.float32), axis=1), X),
        ("Concat", 1, Case(X, X, fixed=2), np.concatenate([X, X], 1)),
    ],
)
def test_forgotten_forms(op: str, opset: int, case: Case, want: Array) -> None:
    assert check(op, opset, case, want)


# Operators that were on trial ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "case"),
    [
        ("Affine", Case(X, alpha=2.0, beta=3.0)),
        ("Crop", Case(X, border=[1, 1, 3, 2])),
        ("Crop", Case(X, border=[1, 0, 0, 0])),
        ("Crop", Case(X, border=[1, 2, 0, 0], scale=[3, 4])),
        ("ImageScaler", Case(X, scale=1.5, bias=[1.0, 2.0, 3.0, 4.0])),
        ("ParametricSoftplus", Case(X, alpha=2.0, beta=3.0)),
        ("ScaledTanh", Case(X, alpha=2.0, beta=3.0)),
        ("ThresholdedRelu", Case(X, alpha=0.5)),
        ("MeanVarianceNormalization", Case(X)),
        ("MeanVarianceNormalization", Case(X, across_channels=1)),
        ("MeanVarianceNormalization", Case(X, across_channels=1, normalize_variance=0)),
        ("LayerNormalization", Case(X, randoms(7, seed=1), randoms(7, seed=2))),
        ("SimplifiedLayerNormalization", Case(X, randoms(7, seed=1))),
    ],
)
def test_operators_on_trial(op: str, case: Case) -> None:
    assert check(op, 1, case)


def test_attributes_that_such_an_operator_does_not_have() -> None:
    with pytest.raises(UnsupportedOperator, match="attribute 'gamma' is not supported"):
        cnnrt.load(Case(X, alpha=2.0, gamma=1.0).model("Affine", 1))


# Which opset -------------------------------------------------------------------------------------


def softmax(x: Array, *axes: int) -> Array:
    powers = np.exp(x - x.max(axes, keepdims=True))
    return np.asarray(powers / powers.sum(axes, keepdims=True))


def proto_of(*nodes: Any, functions: Any = (), opsets: Any = (), ir: int = 8) -> Any:
    """A model from x (2, 3, 4) to y."""
    shape = [2, 3, 4]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info("y", 1, shape)],
    )
    model = helper.make_model(graph, functions=functions, ir_version=ir)
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*pair) for pair in opsets)
    return model


def function(name: str, opset: int, *nodes: Any) -> Any:
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("my.lib", 1)]
    return helper.make_function("my.lib", name, ["a"], ["b"], nodes, imports)


def mine(name: str, x: str, y: str) -> Any:
    return helper.make_node(name, [x], [y], domain="my.lib")


SOFTMAX = helper.make_node("Softmax", ["a"], ["b"])
OLD, NEW = function("Old", 12, SOFTMAX), function("New", 13, SOFTMAX)
NESTED = function("Nested", 14, mine("Old", "a", "b"))


@pytest.mark.parametrize("opset", [12, 13, 17])
@pytest.mark.parametrize(
    ("names", "axes"),
    [
        (["Old"], [(1, 2)]),
        (["New"], [(2,)]),
        (["Old", "New"], [(1, 2), (2,)]),
        (["New", "Old", "New"], [(2,), (1, 2), (2,)]),
        (["Nested"], [(1, 2)]),
    ],
)
def test_functions_of_other_opsets(opset: int, names: list[str], axes: list[Any]) -> None:
    tensors = ["x", *(f"t{i}" for i in range(len(names) - 1)), "y"]
    pairs = itertools.pairwise(tensors)
    nodes = [mine(n, *pair) for n, pair in zip(names, pairs, strict=True)]
    proto = proto_of(*nodes, functions=[OLD, NEW, NESTED], opsets=[("", opset), ("my.lib", 1)])
    x = want = randoms(2, 3, 4)
    for over in axes:
        want = softmax(want, *over)
    got = cnnrt.load(proto.SerializeToString())(x)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
@pytest.mark.parametrize("imported", ["", "ai.onnx"])
@pytest.mark.parametrize(("opset", "axes"), [(12, (1, 2)), (13, (2,))])
def test_both_names_of_onnx_own_domain(
    domain: str, imported: str, opset: int, axes: tuple[int, ...]
) -> None:
    node = helper.make_node("Softmax", ["x"], ["y"], domain=domain)
    proto = proto_of(node, opsets=[("com.example", 3), (imported, opset)])
    x = randoms(2, 3, 4)
    got = cnnrt.load(proto.SerializeToString())(x)
    np.testing.assert_allclose(got, softmax(x, *axes), rtol=1e-5, atol=1e-6)


def test_without_an_opset() -> None:
    node = helper.make_node("Softmax", ["x"], ["y"])
    x = randoms(2, 3, 4)
    first = cnnrt.load(proto_of(node, ir=1).SerializeToString())(x)  # there was no other one
    np.testing.assert_allclose(first, softmax(x, 1, 2), rtol=1e-5, atol=1e-6)
    for opsets in ([], [("my.lib", 1)]):
        with pytest.raises(FormatError, match=r"no opset_import for .* 'Softmax'"):
            cnnrt.load(proto_of(node, opsets=opsets, ir=3).SerializeToString())
