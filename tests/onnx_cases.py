"""One node of ONNX, of any opset and domain, run by cnnrt and by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as runtime
from onnx import helper, numpy_helper

import cnnrt
from cnnrt.graph import Array


def randoms(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


class Case:
    """The inputs of one node, those that are constants, and its attributes."""

    def __init__(
        self,
        *inputs: Any,
        outputs: int | Sequence[str | None] = 1,
        fixed: int | None = None,
        **attributes: Any,
    ) -> None:
        """
        Args:
            inputs: arrays; None: an input that is left out.
            outputs: their number, if ONNX infers the types; or the dtype of each, None: left out.
            fixed: from this input on they are constants; None: from the second.
            attributes: attributes of the node.
        """
        self.inputs = [None if x is None else np.asarray(x) for x in inputs]
        self.outputs, self.attributes = outputs, attributes
        self.fixed = 1 if fixed is None else fixed

    def model(self, op: str, opset: int, *, ir: int = 8) -> bytes:
        """A file with this node.

        Args:
            op: the operator, behind its domain and a point if that is not ONNX's own.
        """
        domain, _, op = op.rpartition(".")
        names = ["" if x is None else f"x{i}" for i, x in enumerate(self.inputs)]
        kinds = [""] * self.outputs if isinstance(self.outputs, int) else self.outputs
        made = ["" if kind is None else f"y{i}" for i, kind in enumerate(kinds)]
        given = dict(zip(names, self.inputs, strict=True))
        constants = {n: given[n] for n in names[self.fixed :] if n}
        inputs = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for n, x in given.items()
            if n and n not in constants and x is not None
        ]
        graph = helper.make_graph(
            [helper.make_node(op, names, made, domain=domain, **self.attributes)],
            "g",
            inputs,
            [onnx.ValueInfoProto(name=name) for name in made if name],
            [numpy_helper.from_array(v, n) for n, v in constants.items()],
        )
        for value, kind in zip(graph.output, [k for k in kinds if k is not None], strict=True):
            code = helper.np_dtype_to_tensor_dtype(np.dtype(kind)) if kind else 0
            value.type.tensor_type.elem_type = code  # 0: it is inferred
        opsets = [helper.make_opsetid("", opset)]
        if domain:
            opsets.append(helper.make_opsetid(domain, 1))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=3 if opset < 9 else ir)
        if domain:
            return bytes(model.SerializeToString())
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        types = {v.name: v.type for v in inferred.graph.output}
        for value in model.graph.output:
            value.type.CopyFrom(types[value.name])
            if not value.type.tensor_type.elem_type:
                value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        return bytes(model.SerializeToString())

    @property
    def feeds(self) -> dict[str, Array]:
        pairs = enumerate(self.inputs[: self.fixed])
        return {f"x{i}": x for i, x in pairs if x is not None}


def by_cnnrt(model: bytes, feeds: dict[str, Array]) -> list[Array]:
    loaded = cnnrt.load(model)
    found = loaded.run(feeds)
    return list(found.values()) if isinstance(found, dict) else [found]


def by_runtime(model: bytes, feeds: dict[str, Array]) -> list[Array] | None:
    """The outputs by ONNX Runtime; None if it does not run this model."""
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return list(session.run(None, feeds))
    except Exception:  # of classes of its own
        return None


def check(
    op: str, opset: int, case: Case, want: Any = None, *, atol: float = 2e-5, rtol: float = 1e-4
) -> bool:
    """Compares with `want`, or with ONNX Runtime; False if there is neither."""
    model = case.model(op, opset)
    expected = by_runtime(model, case.feeds) if want is None else [np.asarray(want)]
    found = by_cnnrt(model, case.feeds)
    if expected is None:
        return False
    for got, right in zip(found, expected, strict=True):
        assert (got.shape, got.dtype) == (right.shape, right.dtype)
        np.testing.assert_allclose(got, right, rtol=rtol, atol=atol, err_msg=f"{op}-{opset}")
    return True
