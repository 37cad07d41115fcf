"""Recurrent layers and attention, against PyTorch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnrt.errors import CnnrtError

torch = pytest.importorskip("torch")
F = torch.nn.functional

# Operator -> PyTorch's layer, and where its gates are in ONNX's order.
LAYERS = {
    "rnn": (torch.nn.RNN, [0]),
    "gru": (torch.nn.GRU, [1, 0, 2]),
    "lstm": (torch.nn.LSTM, [0, 3, 1, 2]),
}


def reordered(layer: Any, name: str, order: list[int], directions: int) -> np.ndarray:
    parts = []
    for suffix in ("", "_reverse")[:directions]:
        weight = getattr(layer, f"{name}_l0{suffix}").detach().numpy()
        gates = np.split(weight, len(order))
        parts.append(np.concatenate([gates[i] for i in order]))
    return np.stack(parts)


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("op", LAYERS)
def test_layer(run: Any, rng: np.random.Generator, op: str, directions: int, layout: int) -> None:
    kind, order = LAYERS[op]
    states = 2 if op == "lstm" else 1
    torch.manual_seed(0)
    layer = kind(3, 4, bidirectional=directions == 2, dtype=torch.float64)
    x = rng.normal(size=(5, 2, 3))
    initial = [rng.normal(size=(directions, 2, 4)) for _ in range(states)]
    lengths = np.array([5, 3], np.int32)
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.tensor(x), lengths)
    start = [torch.tensor(s) for s in initial]
    out, last = layer(packed, tuple(start) if states == 2 else start[0])
    want = torch.nn.utils.rnn.pad_packed_sequence(out)[0].detach().numpy()
    want = want.reshape(5, 2, directions, 4).swapaxes(1, 2)
    ends = [s.detach().numpy() for s in (last if states == 2 else [last])]
    weight, recurrence, b_w, b_r = (
        reordered(layer, name, order, directions)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    attributes: dict[str, Any] = {"layout": layout}
    attributes["direction"] = "bidirectional" if directions == 2 else "forward"
    if op == "gru":
        attributes["linear_before_reset"] = 1
    if layout:
        x, want = x.swapaxes(0, 1), want.transpose(2, 0, 1, 3)
        initial, ends = ([s.swapaxes(0, 1) for s in part] for part in (initial, ends))
    bias = np.concatenate([b_w, b_r], axis=1)
    y, *finals = run(
        op, x, weight, recurrence, bias, lengths, *initial, outputs=1 + states, **attributes
    )
    np.testing.assert_allclose(y, want, rtol=1e-10, atol=1e-12)
    for got, end in zip(finals, ends, strict=True):
        np.testing.assert_allclose(got, end, rtol=1e-10, atol=1e-12)


def test_other_activations_and_clip(run: Any, rng: np.random.Generator) -> None:
    x, weight = rng.normal(size=(1, 2, 3)) * 5, rng.normal(size=(1, 4, 3))
    (y,) = run(
        "rnn",
        x,
        weight,
        np.zeros((1, 4, 4)),
        activations=["Affine"],
        activation_alpha=[2.0],
        activation_beta=[1.0],
        clip=0.5,
    )
    np.testing.assert_allclose(y[0, 0], 2 * np.clip(x[0] @ weight[0].T, -0.5, 0.5) + 1)


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("packed", [False, True])
def test_attention(run: Any, rng: np.random.Generator, packed: bool, causal: int) -> None:
    q, k, v = (rng.normal(size=(2, heads, 5, depth)) for heads, depth in ((4, 3), (2, 3), (2, 6)))
    want = F.scaled_dot_product_attention(
        *map(torch.tensor, (q, k, v)), is_causal=bool(causal), enable_gqa=True
    ).numpy()
    attributes: dict[str, Any] = {"is_causal": causal}
    if packed:
        q, k, v, want = (a.swapaxes(1, 2).reshape(2, 5, -1) for a in (q, k, v, want))
        attributes |= {"q_num_heads": 4, "kv_num_heads": 2}
    np.testing.assert_allclose(run("attention", q, k, v, **attributes)[0], want, rtol=1e-10)


@pytest.mark.parametrize(
    ("op", "shapes", "attributes"),
    [
        ("lstm", [(5, 2, 3), (1, 16, 3), (1, 16, 5)], {}),
        ("lstm", [(5, 2, 3), (1, 16, 3), (1, 16, 4)], {"direction": "bidirectional"}),
        ("gru", [(5, 2, 3), (1, 12, 3), (1, 12, 4)], {"activations": ["Sigmoid", "Sine"]}),
        ("gru", [(5, 2, 3), (1, 12, 3), (1, 12, 4)], {"direction": "sideways"}),
        ("rnn", [(5, 3), (1, 4, 3), (1, 4, 4)], {}),
        ("attention", [(1, 4, 6)] * 3, {}),
        ("attention", [(1, 4, 6)] * 3, {"q_num_heads": 4, "kv_num_heads": 2}),
        ("attention", [(1, 3, 4, 6), (1, 2, 4, 6), (1, 2, 4, 6)], {}),
        ("rotary_embedding", [(1, 2, 4, 6), (1, 4, 4), (1, 4, 4)], {}),
    ],
)
def test_errors(
    run: Any, op: str, shapes: list[tuple[int, ...]], attributes: dict[str, Any]
) -> None:
    with pytest.raises(CnnrtError, match=f"the_{op}"):
        run(op, *map(np.zeros, shapes), **attributes)
