"""The operators that move elements without computing, against NumPy and PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnrt.errors import CnnrtError

torch = pytest.importorskip("torch")
F = torch.nn.functional


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


X = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)


@pytest.mark.parametrize(
    ("shape", "allowzero", "want"),
    [
        ([0, -1], 0, (2, 60)),
        ([-1], 0, (120,)),
        ([0, 0, 20], 0, (2, 3, 20)),
        ([6, 20], 1, (6, 20)),
        ([2, 1, 3, 4, 1, 5], 0, (2, 1, 3, 4, 1, 5)),
    ],
)
def test_reshape(run: Any, shape: list[int], allowzero: int, want: tuple[int, ...]) -> None:
    (y,) = run("reshape", X, i64(*shape), allowzero=allowzero)
    np.testing.assert_array_equal(y, X.reshape(want))


def test_reshape_of_nothing(run: Any) -> None:
    empty = np.zeros((0, 3))
    assert run("reshape", empty, i64(3, 0), allowzero=1)[0].shape == (3, 0)
    assert run("reshape", empty, i64(0, -1))[0].shape == (0, 3)  # an axis kept, then the rest
    assert run("reshape", np.zeros((0, 4, 6)), i64(0, -1, 3))[0].shape == (0, 8, 3)
    with pytest.raises(CnnrtError, match="do not make"):  # -1 would stand for anything
        run("reshape", empty, i64(0, -1), allowzero=1)


@pytest.mark.parametrize(
    "cut",
    [
        ([0], [2], [0], [1]),
        ([1], [2**63 - 1], [1], [1]),
        ([-1], [-(2**63)], [3], [-1]),
        ([-1, 0], [-10, 3], [-1, 2], [-2, 2]),
        ([3], [1], [2], [1]),
        ([10], [20], [1], [1]),
        ([10], [-20], [1], [-1]),
        ([0], [0], [0], [-1]),
    ],
)
def test_slice(run: Any, cut: tuple[list[int], ...]) -> None:
    starts, ends, axes, steps = cut
    (y,) = run("slice", X, *(i64(*v) for v in cut))
    want = X
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        stop = None if step < 0 and end < -X.shape[axis] else end
        want = np.moveaxis(np.moveaxis(want, axis, 0)[start:stop:step], 0, axis)
    np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_pad(run: Any, mode: str) -> None:
    peer = {"edge": "replicate", "wrap": "circular"}.get(mode, mode)
    (y,) = run("pad", X, i64(1, 2, 0, 3), np.float32(0), i64(-2, -1), mode=mode)
    np.testing.assert_array_equal(y, F.pad(torch.tensor(X), (2, 3, 1, 0), mode=peer).numpy())


def test_negative_pads_crop(run: Any) -> None:
    (y,) = run("pad", X, i64(-1, 2, 0, -2), np.float32(7), i64(2, 3))
    want = F.pad(torch.tensor(X), (2, -2, -1, 0), value=7).numpy()
    np.testing.assert_array_equal(y, want)


def test_split(run: Any) -> None:
    assert [y.shape[3] for y in run("split", X, outputs=2, axis=-1, num_outputs=2)] == [3, 2]
    assert [y.shape[1] for y in run("split", X, i64(1, 0, 2), outputs=3, axis=1)] == [1, 0, 2]


@pytest.mark.parametrize("axis", [0, 2, -1])
def test_gather_and_scatter(run: Any, rng: np.random.Generator, axis: int) -> None:
    indices = rng.integers(-2, 2, (3, 2))
    np.testing.assert_array_equal(run("gather", X, indices, axis=axis)[0], X.take(indices, axis))
    places = rng.integers(0, X.shape[axis], (2, 3, 2, 2))
    t, p = torch.tensor(X), torch.tensor(places)
    (y,) = run("gather_elements", X, places, axis=axis)
    np.testing.assert_array_equal(y, t.gather(axis, p).numpy())
    (z,) = run("scatter_elements", X, places, y, axis=axis, reduction="add")
    np.testing.assert_array_equal(z, t.scatter_add(axis, p, torch.tensor(y)).numpy())


def test_depth_to_space(run: Any) -> None:
    x = np.arange(2 * 8 * 3 * 5.0).reshape(2, 8, 3, 5)
    (y,) = run("depth_to_space", x, blocksize=2, mode="CRD")
    np.testing.assert_array_equal(y, F.pixel_shuffle(torch.tensor(x), 2).numpy())
    np.testing.assert_array_equal(run("space_to_depth", y, blocksize=2, mode="CRD")[0], x)
    (y,) = run("depth_to_space", x, blocksize=2)
    np.testing.assert_array_equal(run("space_to_depth", y, blocksize=2)[0], x)


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("axis", [0, -1])
def test_topk(run: Any, rng: np.random.Generator, axis: int, largest: int) -> None:
    x = rng.permutation(60).reshape(5, 3, 4).astype(np.float64)
    y, index = run("topk", x, i64(3), outputs=2, axis=axis, largest=largest)
    want = torch.topk(torch.tensor(x), 3, axis, bool(largest))
    np.testing.assert_array_equal(y, want.values.numpy())
    np.testing.assert_array_equal(index, want.indices.numpy())


def test_shapes_depending_on_values(run: Any) -> None:
    x = np.array([[0, 2], [3, 2]])
    assert run("non_zero", x, constant_x=True)[0].tolist() == [[0, 1, 1], [1, 0, 1]]
    assert run("unique", x, constant_x=True)[0].tolist() == [0, 2, 3]
    with pytest.raises(CnnrtError, match="must be constant"):
        run("non_zero", x)


def test_range(run: Any) -> None:
    assert run("range", i64(5)[0], i64(-1)[0], i64(-2)[0], constant_x=True)[0].tolist() == [5, 3, 1]


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("reshape", [X, i64(7, -1)], {}),
        ("reshape", [X, i64(-1, -1)], {}),
        ("reshape", [X, i64(2, 3, 4, 5, 0)], {}),
        ("reshape", [X, i64(-2, -60)], {}),
        ("reshape", [X], {}),
        ("flatten", [X], {"axis": 5}),
        ("transpose", [X], {"perm": [0, 1, 2, 2]}),
        ("squeeze", [X, i64(0)], {}),
        ("unsqueeze", [X, i64(6)], {}),
        ("unsqueeze", [X, i64(1, 1)], {}),
        ("concat", [X, X[:, :2]], {"axis": 0}),
        ("concat", [X, X[0]], {"axis": 0}),
        ("split", [X, i64(1, 1)], {"axis": 1}),
        ("slice", [X, i64(0), i64(1), i64(0), i64(0)], {}),
        ("slice", [X, i64(0, 0), i64(1)], {}),
        ("slice", [X, i64(0), i64(1), i64(4)], {}),
        ("pad", [X, i64(1, 1)], {}),
        ("pad", [X, i64(-2, -1), None, i64(0)], {}),
        ("pad", [X, i64(*[0] * 8)], {"mode": "mirror"}),
        ("expand", [X, i64(2, 4, 4, 5)], {}),
        ("tile", [X, i64(2)], {}),
        ("gather", [X, i64(3)], {"axis": 1}),
        ("gather", [X, i64(0)], {"axis": 4}),
        ("gather_nd", [X, i64(0, 0, 0, 0, 0)], {}),
        ("scatter_nd", [X, i64(0), X], {}),
        ("depth_to_space", [X], {"blocksize": 2}),
        ("space_to_depth", [X], {"blocksize": 0}),
        ("topk", [X, i64(6)], {}),
        ("one_hot", [i64(1), i64(0), i64(0, 1)], {}),
        ("cumsum", [X, i64(4)], {}),
    ],
)
def test_errors(run: Any, op: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    with pytest.raises(CnnrtError, match=f"the_{op}"):
        run(op, *inputs, outputs=3 if op == "split" else 1, **attributes)
