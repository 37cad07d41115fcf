"""The last look at a step before it becomes C++: every place it reads or writes must exist.

Kernels believe their fields. This module says once more what they do with them: the least and the
greatest element that each place is used at. Python's integers do not overflow. Each element must
lie within the buffer that the planner made. The structs are those of cpp/kernels/kernels.def.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..cost import WINOGRAD
from ..dtypes import DTYPES, FLOAT32, INT64
from ..errors import ShapeError
from ..graph import Array
from ..layout.tensors import BLOCK, At, Step, ViewAt, ceil_div
from ..process.limits import MAX_SIZE

MAX_BATCH = 64
"""Tiles that the Winograd kernel has places for (kMaxBatch in winograd.cpp)."""

WINOGRAD_TILES = {
    (max(h, w), 1 if h == 1 else tile, 1 if w == 1 else tile) for (h, w), tile in WINOGRAD
}
"""Taps of the kernel, and outputs of a tile of the Winograd kernel, down and across (with_tile in
winograd.cpp)."""

ELEMENTS = (1, 2, 4, 8)
"""Bytes of the elements that the kernels move one by one."""

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
"""Gates of a recurrent cell (gates_of in recurrent.cpp)."""


class Use(NamedTuple):
    """Elements [low, high) of `size` bytes that a step uses of one of its places."""

    field: str
    low: int
    high: int
    size: int = FLOAT32.itemsize


class Bad(Exception):
    """A field has a value that its kernel does not take."""


Fields = Mapping[str, Any]
Uses = Iterator[Use]


def check_bounds(step: Step) -> None:
    """Checks every place that a step uses.

    Raises:
        ShapeError: one is outside of its buffer, or a field is out of range.
    """
    fields = step.fields
    try:
        for field, low, high, size in USES[step.kernel](fields):
            place = fields.get(field)
            if place is None or low >= high:
                continue
            at = place.at if isinstance(place, ViewAt) else place
            buffer, offset = at if isinstance(at, At) else (at, 0)
            first, last = offset + low * size, offset + high * size
            if not 0 <= first <= last <= buffer.nbytes:
                raise Bad(f"bytes {first} to {last} of {field!r}, which has {buffer.nbytes}")
    except Bad as error:
        raise ShapeError(
            f"node {step.node!r} cannot be planned: the kernel {step.kernel!r} would use {error}"
        ) from None


def _need(condition: bool, what: str, *values: object) -> None:
    """Raises `Bad` unless the condition holds; `what` is a format of the values."""
    if not condition:
        raise Bad(what.format(*values))


def _span(sizes: Sequence[int], strides: Sequence[int], width: int = 1) -> tuple[int, int]:
    """The elements that strided axes reach, each place being `width` elements wide."""
    low, high = 0, width
    for n, stride in zip(sizes, strides, strict=True):
        if not 1 <= n <= MAX_SIZE:
            raise Bad(f"sizes {sizes}")
        end = (n - 1) * stride
        if end < 0:
            low += end
        else:
            high += end
    return low, high


def _first(field: str, count: int, size: int = FLOAT32.itemsize) -> Use:
    return Use(field, 0, count, size)


def _strided(
    field: str, shape: Sequence[int], strides: Sequence[int], size: int = FLOAT32.itemsize
) -> Use:
    return Use(field, *_span(shape, strides), size)


def _pixels(f: Fields, field: str, n: int, blocks: int, d: int, h: int, w: int) -> Use:
    """All pixels of a blocked tensor."""
    v = f[field]
    if v is None:
        return Use(field, 0, 0)
    _, image, block, plane, row, dtype = v
    low, high = _span((n, blocks, d, h, w), (image, block, plane, row, BLOCK), BLOCK)
    return Use(field, low, high, dtype.itemsize)


def _element(f: Fields, field: str) -> int:
    """The bytes of the elements that a kernel moves: those of a blocked tensor."""
    element: int = f["element"]
    _need(element in ELEMENTS, "elements of {} bytes", element)
    _need(element == f[field].dtype.itemsize, "{!r} in elements of {} bytes", field, element)
    return element


def _outputs(f: Fields, *names: str) -> Uses:
    """The results of a blocked kernel, and what lies as they do."""
    for name in names:
        if name in f:
            yield _pixels(f, name, f["n"], f["blocks"], f["out_d"], f["out_h"], f["out_w"])


def _table(f: Fields, field: str, count: int) -> Array:
    """A table of integers, of which `count` are used."""
    table: Array = np.frombuffer(f[field], np.int32)
    _need(len(table) >= count > 0, "{} entries of {!r}, which has {}", count, field, len(table))
    return table[:count]


def _range(f: Fields, field: str, count: int) -> tuple[int, int]:
    """The smallest and the largest of the integers of a table of which `count` are used."""
    if count > 64:
        table = _table(f, field, count)
        return int(table.min()), int(table.max())
    # Less than half as long as NumPy for the few taps of most convolutions.
    numbers = memoryview(f[field]).cast("i")
    _need(len(numbers) >= count > 0, "{} entries of {!r}, which has {}", count, field, len(numbers))
    used = numbers[:count].tolist()
    return min(used), max(used)


def _conv(f: Fields) -> Uses:
    taps = f["taps"] + f["last_taps"]
    low, high = _range(f, "offsets", taps)
    high += BLOCK
    if f.get("windows") is not None:
        windows = _table(f, "windows", 2 * f["blocks"])
        low, high = low + int(windows[::2].min()), high + int(windows[::2].max())
        _need(windows[1::2].min() >= 1 and windows[1::2].max() <= BLOCK, "a depth beyond a block")
    _need(0 <= f["last_depth"] <= BLOCK, "a depth beyond a block")
    group = f.get("group", 0)
    _need(group in (0, 2, 4, 8) and not (group and f["taps"]), "groups of {}", group)
    depth = f["taps"] * BLOCK + f["last_taps"] * (group or f["last_depth"])
    _need(depth * BLOCK <= f["panel"], "weights beyond a panel")
    first, last = _span(
        (f["n"], f["out_d"], f["out_h"], f["out_w"]),
        (f["x"].image, f["step_d"], f["step_h"], f["step_w"]),
    )
    yield Use("x", first + low, last - 1 + high, f["x"].dtype.itemsize)
    yield _first("weight", f["blocks"] * f["panel"])
    yield _first("bias", f["blocks"] * BLOCK)
    yield from _outputs(f, "y", "residual")
    if f.get("scale") is not None:
        _need(f["panel"] == depth * BLOCK, "scaled weights of other than 1x1")
        yield _strided("scale", (f["n"], depth), (f["scale_image"], 1))


def _conv_planar(f: Fields) -> Uses:
    taps = f["c"] * f["kernel_d"] * f["kernel_h"] * f["kernel_w"]
    reach = (f["out_w"] - 1) * f["stride_w"] + (f["kernel_w"] - 1) * f["dilation_w"] + 1
    rows = f["c"] * f["kernel_d"] * f["kernel_h"]
    _need(rows * (reach + BLOCK) <= MAX_SIZE, "rows beyond 32 bits")
    _need(taps * BLOCK <= f["panel"], "weights beyond a panel")
    yield _first("x", f["n"] * f["c"] * f["in_d"] * f["in_h"] * f["in_w"])
    yield _first("weight", f["blocks"] * f["panel"])
    yield _first("bias", f["blocks"] * BLOCK)
    yield from _outputs(f, "y", "residual")


def _winograd(f: Fields) -> Uses:
    tile = f["tile_h"], f["tile_w"]
    known = (f["taps"], *tile) in WINOGRAD_TILES
    _need(known and 1 <= f["batch"] <= MAX_BATCH, "another tile or batch")
    blocks = ceil_div(f["c"], BLOCK)
    positions = math.prod(1 if outputs == 1 else outputs + f["taps"] - 1 for outputs in tile)
    plane = blocks * f["in_d"] * f["batch"] * BLOCK + BLOCK
    _need(plane <= MAX_SIZE, "planes beyond 32 bits")
    _need(f["kernel_d"] == 1 or f["c"] % BLOCK == 0, "a part of a block")
    tiles = f["n"] * ceil_div(f["out_h"], tile[0]) * ceil_div(f["out_w"], tile[1])
    yield _pixels(f, "x", f["n"], blocks, f["in_d"], f["in_h"], f["in_w"])
    yield _first("weight", positions * f["blocks"] * f["kernel_d"] * f["c"] * BLOCK)
    yield _first("bias", f["blocks"] * BLOCK)
    yield _first("transformed", ceil_div(tiles, f["batch"]) * positions * plane)
    yield from _outputs(f, "residual")
    _need(not f.get("pooled") or tile[0] == tile[1], "windows larger than a tile")
    shrink = 2 if f.get("pooled") else 1
    y_size = (f["out_d"], f["out_h"] // shrink, f["out_w"] // shrink)
    yield _pixels(f, "y", f["n"], f["blocks"], *y_size)


def _depthwise(f: Fields) -> Uses:
    taps = f["kernel_d"] * f["kernel_h"] * f["kernel_w"]
    for axis in "dhw":  # taps beyond the image are left out: padding may be any
        _need(f[f"stride_{axis}"] >= 1 and f[f"dilation_{axis}"] >= 1, "no step between taps")
    yield _pixels(f, "x", f["n"], f["blocks"], f["in_d"], f["in_h"], f["in_w"])
    yield _first("weight", f["blocks"] * taps * BLOCK)
    yield _first("bias", f["blocks"] * BLOCK)
    yield from _outputs(f, "y")


def _linear(f: Fields) -> Uses:
    rows, padded = f["rows"], ceil_div(f["columns"], BLOCK) * BLOCK
    yield _strided("x", (rows, f["depth"]), (f["x_row"], 1))
    yield _strided("y", (rows, f["columns"]), (f["y_row"], 1))
    yield _strided("residual", (rows, f["columns"]), (f.get("residual_row", 0), 1))
    yield _first("weight", padded * f["depth"])
    yield _first("bias", padded)


def _pool(f: Fields) -> Uses:
    v, first, last = f["x"], 0, 0
    for axis, step in zip("dhw", (v.plane, v.row, BLOCK), strict=True):
        windows = _table(f, f"windows_{axis}", 3 * f[f"out_{axis}"]).reshape(-1, 3)
        _need(windows.min() >= 0 and f[f"dilation_{axis}"] >= 1, "a window before the image")
        first += int(windows[:, 0].min()) * step
        last += max(0, int(windows[:, 1].max()) - 1) * step
    low, high = _span((f["n"], f["blocks"]), (v.image, v.block), BLOCK)
    yield Use("x", low + min(first, last), high + last, v.dtype.itemsize)
    yield from _outputs(f, "y")


def _pool_planar(f: Fields) -> Uses:
    inside, outside = f["planes"], f["planes"]
    for axis in "dhw":
        size, out = f[f"in_{axis}"], f[f"out_{axis}"]
        windows = _table(f, f"windows_{axis}", 3 * out).reshape(-1, 3)
        read = windows[windows[:, 0] < windows[:, 1]]
        _need(f[f"dilation_{axis}"] >= 1, "a dilation below 1")
        _need(read.min(initial=0) >= 0, "a window before the image")
        _need(read[:, 1].max(initial=0) <= size, "a window beyond the image")
        inside, outside = inside * size, outside * out
    yield _first("x", inside)
    yield _first("y", outside)


def _elementwise(f: Fields) -> Uses:
    shape = f["shape"]
    for field in ("a", "b", "y"):
        strides = f[f"{field}_stride"]
        _need(strides[-1] in ((1,) if field == "y" and shape[-1] > 1 else (0, 1)), "such strides")
        yield _strided(field, shape, strides)


def _copy(f: Fields) -> Uses:
    for field in ("x", "y"):
        yield Use(field, *_span(f["shape"], f[f"{field}_stride"]), f["element"])


def _indices(f: Fields) -> Uses:
    """The indices of gather and scatter; that they lie on the axis is checked as they are read."""
    _need(f["index_bytes"] in (4, 8), "indices of {} bytes", f["index_bytes"])
    shape = (f["outer"], f["count"], f["inner"])
    strides = (f.get("index_outer", 0), f["index_row"], f.get("index_inner", 0))
    yield _strided("indices", shape, strides, f["index_bytes"])


def _gather(f: Fields) -> Uses:
    element = f["element"]
    # Rows that one index serves are copied as bytes.
    _need(element in ELEMENTS or not f.get("index_inner", 0), "elements of {} bytes", element)
    yield from _indices(f)
    yield _first("x", f["outer"] * f["axis"] * f["inner"], element)
    yield _first("y", f["outer"] * f["count"] * f["inner"], element)


def _scatter(f: Fields) -> Uses:
    _need(f["op"] in ("none", "add", "mul", "min", "max"), "the operation {!r}", f["op"])
    yield from _indices(f)
    yield _first("x", f["outer"] * f["count"] * f["inner"])
    yield _first("y", f["outer"] * f["axis"] * f["inner"])


def _where(f: Fields) -> Uses:
    element = f["element"]
    _need(element in ELEMENTS, "elements of {} bytes", element)
    for field, size in {"condition": 1, "a": element, "b": element}.items():
        yield _strided(field, f["shape"], f[f"{field}_stride"], size)
    yield _first("y", math.prod(f["shape"]), element)


def _convert(f: Fields) -> Uses:
    types, scales = (f["from"], f["to"]), f.get("scales", 1)
    _need("float32" in types, "{} to {}", *types)
    scaled = [f.get(field) is not None for field in ("scale", "zero")]
    _need(scaled[0] == scaled[1], "a scale or a zero point alone")
    _need(scales >= (f["columns"] if f.get("by_column") else 1), "{} scales", scales)
    for field, dtype in zip("xy", types, strict=True):
        yield _first(field, f["rows"] * f["columns"], DTYPES[dtype].itemsize)
    for field in ("scale", "zero"):
        yield _first(field, scales)


def _reorder(f: Fields) -> Uses:
    n, c, d, h, w = (f[k] for k in "ncdhw")
    element = _element(f, "blocked")
    yield _strided("plain", (n, c, d * h * w), (f["image"], f["channel"], 1), element)
    yield _pixels(f, "blocked", n, ceil_div(c, BLOCK), d, h, w)


def _border(f: Fields) -> Uses:
    v = f["y"]
    before = f["border_d"] * v.plane + f["border_h"] * v.row + f["border_w"] * BLOCK
    element = _element(f, "y")
    inside = _pixels(f, "y", f["n"], f["blocks"], f["d"], f["h"], f["w"])
    yield Use("y", inside.low - before, max(inside.high, f["n"] * v.image), element)


def _softmax(f: Fields) -> Uses:
    for field in "xy":
        yield _first(field, f["outer"] * f["axis"] * f["inner"])


def _resize(f: Fields) -> Uses:
    v, last = f["x"], 0
    for axis, step in zip("dhw", (v.plane, v.row, BLOCK), strict=True):
        count = f[f"taps_{axis}"] * f[f"out_{axis}"]
        index = _table(f, f"index_{axis}", count)
        _need(index.min() >= 0, "an index before the image")
        _need(axis != "w" or index.max() < f["in_w"], "an index beyond a row")
        last += (f["in_w"] - 1 if axis == "w" else int(index.max())) * step
        yield _first(f"weight_{axis}", count)
    low, high = _span((f["n"], f["blocks"]), (v.image, v.block), BLOCK)
    yield Use("x", low, high + last, v.dtype.itemsize)
    yield from _outputs(f, "y")


def _layer_norm(f: Fields) -> Uses:
    axis, span = f["axis"], f.get("span", 0)
    _need(
        axis >= 1 and span >= 0 and (not span or axis % span == 0), "rows of {} by {}", axis, span
    )
    blocks, rest = divmod(axis, BLOCK)
    for field in "xy":
        low, high = _span(f["shape"], f[f"{field}_stride"])
        step = f[f"{field}_block"]
        row = blocks * step + rest if rest else (blocks - 1) * step + BLOCK
        _need(not span or step == BLOCK, "rows in pieces")
        yield Use(field, low, high - 1 + row)
    for field in ("scale", "bias"):
        yield _first(field, f["groups"] * (axis // span) if span else axis)


def _reduce(f: Fields) -> Uses:
    yield _first("x", f["outer"] * f["axis"] * f["inner"])
    yield _first("y", f["outer"] * f["inner"])


def _topk(f: Fields) -> Uses:
    outer, axis, inner, k = (f[name] for name in ("outer", "axis", "inner", "k"))
    _need(1 <= k <= axis < 1 << 32, "{} of {}", k, axis)
    yield _first("x", outer * axis * inner)
    yield _first("values", outer * k * inner)
    yield _first("indices", outer * k * inner, INT64.itemsize)


def _arg_extremum(f: Fields) -> Uses:
    _need(1 <= f["axis"] < 1 << 24 and f["inner"] >= 1, "{} columns of {}", f["inner"], f["axis"])
    yield _first("x", f["outer"] * f["axis"] * f["inner"])
    yield _first("y", f["outer"] * f["inner"], INT64.itemsize)


def _recurrent(f: Fields) -> Uses:
    directions, length, batch, hidden = (f[k] for k in ("directions", "length", "batch", "hidden"))
    _need(directions in (1, 2), "{} directions", directions)
    width = ceil_div(hidden, BLOCK) * BLOCK
    gates = directions * GATES[f["cell"]] * width
    yield Use("x", *_span((length, batch), (f["x_time"], f["x_row"]), gates))
    yield _first("weight", gates * hidden)
    yield _first("bias", directions * width)
    yield _first("peephole", directions * 3 * width)
    yield _first("lengths", batch)
    for field in ("h0", "c0", "h_last", "c_last"):
        state = (f["state_direction"], f["state_row"], 1)
        yield _strided(field, (directions, batch, hidden), state)
    strides = (f["y_time"], f["y_direction"], f["y_row"], 1)
    yield _strided("y", (length, directions, batch, hidden), strides)


def _matmul(f: Fields) -> Uses:
    rows, depth, columns, batch = f["rows"], f["depth"], f["columns"], list(f["shape"])
    yield _strided("a", [*batch, rows, depth], [*f["a_stride"], f["a_row"], 1])
    yield _strided("b", [*batch, depth, columns], [*f["b_stride"], f["b_row"], f["b_column"]])
    yield _first("y", math.prod(batch) * rows * columns)


def _attention(f: Fields) -> Uses:
    n, heads, rows, tokens = f["n"], f["heads"], f["rows"], f["tokens"]
    _need(f["group"] >= 1 and heads % f["group"] == 0, "groups of {} heads", f["group"])
    shared = heads // f["group"]
    for field, shape in {
        "q": (n, heads, rows, f["depth"]),
        "k": (n, shared, tokens, f["depth"]),
        "v": (n, shared, tokens, f["columns"]),
        "mask": (n, heads, rows, tokens),
        "y": (n, heads, rows, f["columns"]),
    }.items():
        yield _strided(field, shape, f[f"{field}_stride"])


def _grid_sample(f: Fields) -> Uses:
    n, rank, axes = f["n"], f["rank"], "dhw"
    _need(1 <= rank <= 3, "{} axes", rank)
    yield _pixels(f, "x", n, f["blocks"], *(f[f"in_{axis}"] for axis in axes))
    yield _first("grid", n * math.prod(f[f"out_{axis}"] for axis in axes) * rank)
    yield from _outputs(f, "y")


def _roi_align(f: Fields) -> Uses:
    count, blocks = f["count"], f["blocks"]
    _need(f["ratio"] >= 0, "{} points along a side", f["ratio"])
    yield _pixels(f, "x", f["n"], blocks, 1, f["in_h"], f["in_w"])
    yield _pixels(f, "y", count, blocks, 1, f["out_h"], f["out_w"])
    yield _first("regions", count * 4)
    yield _first("images", count, INT64.itemsize)


def _peak(f: Fields) -> Uses:
    yield _first("y", BLOCK + BLOCK * f["tasks"])  # of four bytes; peak_u8's factors are 64 of one


USES: dict[str, Callable[[Fields], Uses]] = {
    "arg_extremum": _arg_extremum,
    "attention": _attention,
    "border": _border,
    "conv": _conv,
    "conv_planar": _conv_planar,
    "convert": _convert,
    "copy": _copy,
    "depthwise": _depthwise,
    "elementwise": _elementwise,
    "gather": _gather,
    "grid_sample": _grid_sample,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "matmul": _matmul,
    "peak": _peak,
    "peak_u8": _peak,
    "pool": _pool,
    "pool_planar": _pool_planar,
    "recurrent": _recurrent,
    "reduce": _reduce,
    "reorder": _reorder,
    "resize": _resize,
    "roi_align": _roi_align,
    "scatter": _scatter,
    "softmax": _softmax,
    "topk": _topk,
    "where": _where,
    "winograd": _winograd,
    "winograd_input": _winograd,
    "winograd_output": _winograd,
}
