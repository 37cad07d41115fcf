"""Receptive fields: how much of the input an element of each tensor sees, along each axis.

For a window of k taps with stride s, dilation d and padding p the field of the output follows from
that of the input by

    size' = size + d (k - 1) jump,   jump' = jump s,   start' = start + (d (k - 1) / 2 - p) jump

(Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016; Araujo, Norris and
Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill, 2019). Where branches
meet, their fields are united. What mixes all positions, such as global pooling, attention or a
linear layer over a flattened map, sees everything, as does what is multiplied by such a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from ..graph import Graph, Node, TensorType
from ..ops import OPS
from ..ops.elementwise import Unary
from ..ops.windows import resolve_windows


@dataclass(frozen=True)
class Field:
    """What an element sees along one spatial axis of the input, in its elements."""

    size: float
    jump: float | None = 1.0
    """The distance between the fields of neighbours; None: they do not lie at equal distances."""
    start: float | None = 0.5
    """The centre of the first element's field; that of the first pixel is 0.5."""

    def moved(self, offset: float) -> Field:
        """With the first element `offset` elements further on."""
        if self.start is None or self.jump is None:
            return self
        return replace(self, start=self.start + offset * self.jump)

    def scattered(self) -> Field:
        """Of elements in no order that a jump would describe."""
        return Field(self.size, None, None)

    def united(self, other: Field) -> Field:
        """Of an element that depends on one of each."""
        if self == other:
            return self
        if self.start is None or other.start is None or not self.jump or not other.jump:
            return Field(max(self.size, other.size), None, None)
        low = min(self.start - self.size / 2, other.start - other.size / 2)
        high = max(self.start + self.size / 2, other.start + other.size / 2)
        return Field(high - low, max(self.jump, other.jump), (low + high) / 2)


@dataclass(frozen=True)
class Seen:
    """What a tensor's elements see of one spatial axis of the input."""

    field: Field | None
    """None: all of it."""
    axes: tuple[int, ...] = ()
    """The tensor's axes that move along it."""


View = tuple[Seen, ...]
"""For each spatial axis of the input; empty where a tensor does not depend on the input at all."""

ALL = Seen(None)


def receptive_fields(graph: Graph) -> dict[str, tuple[Field | None, ...]]:
    """The fields of all tensors of a graph whose types are known, one per spatial axis.

    The spatial axes are the third and following of the first input that has three axes or more;
    None stands for all of the input. Tensors that depend on no such input have no entry.
    """
    views: dict[str, View] = {}
    spatial = max((graph.types[spec.name].rank - 2 for spec in graph.inputs), default=0)
    for spec in graph.inputs:
        rank = graph.types[spec.name].rank
        if rank >= 3:
            own = [Seen(Field(1.0), (2 + i,)) for i in range(rank - 2)]
            views[spec.name] = (*[ALL] * (spatial - len(own)), *own)
    for node in graph.nodes:
        inputs = [views.get(name, ()) for name in node.inputs]
        if not any(inputs):
            continue
        x = _Inputs(graph, node, inputs)
        rule = RULES.get(node.op)
        if rule is None and isinstance(OPS.get(node.op), Unary):
            rule = _same
        made = rule(x) if rule and not x.empty else x.everything()
        for index, name in enumerate(node.outputs):
            if name:
                views[name] = made(index) if callable(made) else made
    return {name: tuple(seen.field for seen in view) for name, view in views.items()}


class _Inputs:
    """A node with what its inputs see."""

    def __init__(self, graph: Graph, node: Node, views: list[View]) -> None:
        self.graph, self.node, self.views = graph, node, views

    def type(self, index: int) -> TensorType:
        return self.graph.types[self.node.inputs[index]]

    def out(self, index: int = 0) -> TensorType:
        return self.graph.types[self.node.outputs[index]]

    @property
    def empty(self) -> bool:
        """If a tensor that it reads or makes has no elements, which see nothing."""
        names = filter(None, (*self.node.inputs, *self.node.outputs))
        return any(0 in self.graph.types[name].shape for name in names)

    def has(self, index: int) -> bool:
        return index < len(self.node.inputs) and bool(self.node.inputs[index])

    def value(self, index: int) -> list[int] | None:
        """A constant input, as a list."""
        name = self.node.inputs[index] if self.has(index) else ""
        value = self.graph.constants.get(name)
        return None if value is None else value.reshape(-1).tolist()

    def everything(self) -> View:
        return tuple(ALL for _ in next(v for v in self.views if v))

    def mapped(self, change: Callable[[int, Field], Field | None], index: int = 0) -> View:
        """The fields of an input after `change`(axis, field), where they move along one axis."""
        made = []
        for seen in self.views[index]:
            field = seen.field
            if field is not None and len(seen.axes) == 1:
                field = change(seen.axes[0], field)
            elif field is not None and seen.axes:
                changed = {change(axis, field) for axis in seen.axes}
                field = field.scattered() if changed == {field} else None
            made.append(Seen(field, seen.axes if field else ()))
        return tuple(made)

    def mixed(self, view: View, type_: TensorType, axes: Sequence[int]) -> View:
        """After every element has come to depend on all along these axes."""
        wide = {axis % type_.rank for axis in axes if type_.shape[axis] > 1}
        return tuple(ALL if wide & set(seen.axes) else seen for seen in view)

    def moved(self, view: View, table: Callable[[int], int | None]) -> View:
        """With the axes renumbered; None: the axis is gone."""
        return tuple(
            replace(seen, axes=tuple(t for a in seen.axes if (t := table(a)) is not None))
            for seen in view
        )


def _union(views: Sequence[View]) -> View:
    return reduce(_united, [view for view in views if view], ())


def _united(a: View, b: View) -> View:
    if not a or not b:
        return a or b
    made = []
    for x, y in zip(a, b, strict=True):
        if x.field is None or y.field is None:
            made.append(ALL)
        elif x.axes == y.axes:
            made.append(Seen(x.field.united(y.field), x.axes))
        else:
            axes = tuple(sorted({*x.axes, *y.axes}))
            made.append(Seen(x.field.united(y.field).scattered(), axes))
    return tuple(made)


# Rules: what the outputs see.


def _same(x: _Inputs) -> View:
    return x.views[0]


def _broadcast(x: _Inputs) -> View:
    """Elementwise, of any number of inputs whose axes are aligned at the last."""
    rank = x.out().rank
    views = []
    for i, view in enumerate(x.views):
        if view:
            shift = rank - x.type(i).rank
            views.append(x.moved(view, lambda a, shift=shift: a + shift))  # type: ignore[misc]
    return _union(views)


def _window(x: _Inputs) -> View:
    weight = WEIGHTS.get(x.node.op)
    kernel = x.type(weight).shape[2:] if weight else x.node["kernel_shape"]
    ceil_mode = bool(x.node.attributes.get("ceil_mode"))
    w = resolve_windows(x.node, x.type(0).shape[2:], kernel=kernel, ceil_mode=ceil_mode)

    def change(axis: int, field: Field) -> Field | None:
        if axis < 2:
            return None if axis == 1 and x.type(0).shape[1] > 1 else field
        i = axis - 2
        span = (w.kernel[i] - 1) * w.dilation[i]
        if field.jump is None:
            return field if span == 0 else None
        moved = field.moved(span / 2 - w.begin[i])
        return replace(moved, size=field.size + span * field.jump, jump=field.jump * w.stride[i])

    residual = x.views[3:4] if x.node.op == "conv" else []
    return _union([x.mapped(change), *residual])


WEIGHTS = {"conv": 1, "conv_integer": 1, "qlinear_conv": 3}
"""Which input of a convolution is its weight."""


def _transposed_window(x: _Inputs) -> View:
    node, rank = x.node, x.type(0).rank - 2
    kernel = x.type(1).shape[2:]
    stride = node["strides"] or [1] * rank
    dilation = node["dilations"] or [1] * rank
    pads = node["pads"] or [0] * rank
    if node["auto_pad"] != "NOTSET" or node["output_shape"]:
        return x.mapped(lambda _, field: None if field.jump is None else field.scattered())

    def change(axis: int, field: Field) -> Field | None:
        if axis < 2:
            return None if axis == 1 else field
        i = axis - 2
        span = (kernel[i] - 1) * dilation[i]
        if field.jump is None:
            return None
        # Of `span + 1` outputs that an input reaches, every stride-th falls on a given output.
        size = field.size + span // stride[i] * field.jump
        moved = field.moved((pads[i] - span / 2) / stride[i])
        return replace(moved, size=size, jump=field.jump / stride[i])

    return x.mapped(change)


RESIZE_TAPS = {"nearest": 1, "linear": 2, "cubic": 4}


def _resize(x: _Inputs) -> View:
    before, after = x.type(0).shape, x.out().shape
    mode = x.node["coordinate_transformation_mode"]
    taps = RESIZE_TAPS[x.node["mode"]]
    if mode == "tf_crop_and_resize" or x.node.attributes.get("antialias"):
        return x.everything()

    def change(axis: int, field: Field) -> Field | None:
        if before[axis] == after[axis]:
            return field
        if field.jump is None:
            return field if taps == 1 else None
        ratio = before[axis] / after[axis]
        if mode == "align_corners":
            ratio = (before[axis] - 1) / max(1, after[axis] - 1)
        centred = mode in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
        moved = field.moved(ratio / 2 - 0.5 if centred else 0.0)
        size = field.size + (taps - 1) * field.jump
        return replace(moved, size=size, jump=field.jump * ratio)

    return x.mapped(change)


def _over_all(x: _Inputs) -> View:
    """Global pools and normalisations over all positions."""
    rank = x.type(0).rank
    return x.mixed(x.views[0], x.type(0), range(2, rank))


def _adaptive(x: _Inputs) -> View:
    before, after = x.type(0).shape, x.out().shape

    def change(axis: int, field: Field) -> Field | None:
        n, m = before[axis], after[axis]
        if n == m:
            return field
        if m == 1 or n % m or field.jump is None:
            return None
        size = field.size + (n // m - 1) * field.jump
        return replace(field.moved((n // m - 1) / 2), size=size, jump=field.jump * n / m)

    return x.mapped(change)


def _reduce(x: _Inputs) -> View:
    rank = x.type(0).rank
    given = x.node.attributes.get("axes")
    if given is None and x.has(1):
        given = x.value(1)
    if given is None and "axis" in x.node.attributes:
        given = [x.node["axis"]]
    none = not given and bool(x.node.attributes.get("noop_with_empty_axes"))
    axes = {a % rank for a in given} if given else set() if none else set(range(rank))
    view = x.mixed(x.views[0], x.type(0), sorted(axes))
    if x.node["keepdims"]:
        return view
    kept = [a for a in range(rank) if a not in axes]
    return x.moved(view, lambda a: kept.index(a) if a in kept else None)


def _along_axis(x: _Inputs) -> View:
    return x.mixed(x.views[0], x.type(0), [x.node["axis"]])


def _layer_normalization(x: _Inputs) -> View:
    rank = x.type(0).rank
    return x.mixed(x.views[0], x.type(0), range(x.node["axis"] % rank, rank))


def _linear(x: _Inputs) -> View:
    return _union([x.mixed(x.views[0], x.type(0), [-1]), *x.views[3:4]])


def _gemm(x: _Inputs) -> View:
    a, b = x.type(0), x.type(1)
    left = x.mixed(x.views[0], a, [0 if x.node["transA"] else 1])
    right = x.mixed(x.views[1], b, [1 if x.node["transB"] else 0])
    left = x.moved(left, lambda axis: None if axis == (0 if x.node["transA"] else 1) else 0)
    right = x.moved(right, lambda axis: None if axis == (1 if x.node["transB"] else 0) else 1)
    return _union([left, right, *x.views[2:3]])


def _matmul(x: _Inputs) -> View:
    a, b, rank = x.type(0), x.type(1), x.out().rank
    if min(a.rank, b.rank) < 2:
        return x.everything()
    left = x.moved(x.mixed(x.views[0], a, [-1]), lambda axis: axis + rank - a.rank)
    right = x.moved(x.mixed(x.views[1], b, [-2]), lambda axis: axis + rank - b.rank)
    return _union([left, right])


def _attention(x: _Inputs) -> View:
    keys = [x.mixed(view, x.type(i), [-2]) for i, view in enumerate(x.views) if i in (1, 2)]
    return _union([x.views[0], *keys])


def _transpose(x: _Inputs) -> View:
    perm = x.node["perm"] or list(range(x.type(0).rank))[::-1]
    return x.moved(x.views[0], lambda axis: list(perm).index(axis))


def _reshape(x: _Inputs) -> View:
    """Axes that are only renamed keep their fields; merged or split they keep the size alone."""
    before, after = x.type(0).shape, x.out().shape
    groups = _groups(before, after)
    made = []
    for seen in x.views[0]:
        if seen.field is None or not seen.axes:
            made.append(seen)
            continue
        field, axes = seen.field, list[int]()
        for axis in seen.axes:
            if before[axis] == 1:
                continue
            mine, other = next((a, b) for a, b in groups if axis in a)
            axes += [i for i in other if after[i] > 1]
            if [before[i] for i in mine if before[i] > 1] != [after[i] for i in other]:
                field = field.scattered()
        made.append(Seen(field, tuple(sorted(set(axes)))))
    return tuple(made)


def _groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Axes of two shapes of as many elements, in the shortest groups of equal products."""
    groups = []
    i = j = 0
    while i < len(before) or j < len(after):
        left, right = list[int](), list[int]()
        a = b = 1
        while True:
            if a <= b and i < len(before):
                a, i = a * before[i], i + 1
                left.append(i - 1)
            elif j < len(after):
                b, j = b * after[j], j + 1
                if after[j - 1] > 1:
                    right.append(j - 1)
            elif i < len(before):
                a, i = a * before[i], i + 1
                left.append(i - 1)
            else:
                break
            if a == b and a > 1:
                break
        groups.append((left, right))
    return groups


def _concat(x: _Inputs) -> View:
    view = _union(x.views)
    axis = x.node["axis"] % x.out().rank
    return tuple(
        replace(seen, field=seen.field.scattered()) if seen.field and axis in seen.axes else seen
        for seen in view
    )


def _split(x: _Inputs) -> Callable[[int], View]:
    axis = x.node["axis"] % x.type(0).rank

    def part(index: int) -> View:
        first = sum(x.out(i).shape[axis] for i in range(index))
        return x.mapped(lambda a, field: field.moved(first) if a == axis else field)

    return part


def _slice(x: _Inputs) -> View:
    shape = x.type(0).shape
    starts = x.value(1)
    axes = x.value(3) if x.has(3) else list(range(len(starts or [])))
    steps = x.value(4) if x.has(4) else [1] * len(starts or [])
    if starts is None or axes is None or steps is None:
        return x.mapped(lambda _, field: field.scattered())
    cuts = {a % len(shape): (b, s) for a, b, s in zip(axes, starts, steps, strict=True)}

    def change(axis: int, field: Field) -> Field:
        if axis not in cuts:
            return field
        begin, step = cuts[axis]
        n = shape[axis]
        begin = max(-n, min(begin, n - 1)) % n
        moved = field.moved(begin)
        return replace(moved, jump=None if field.jump is None or step < 0 else field.jump * step)

    return x.mapped(change)


def _pad(x: _Inputs) -> View:
    rank, amounts = x.type(0).rank, x.value(1)
    axes = x.value(3) if x.has(3) else list(range(rank))
    if amounts is None or axes is None or x.node["mode"] == "wrap":
        return x.everything()
    begin = {a % rank: b for a, b in zip(axes, amounts[: len(axes)], strict=True)}
    return x.mapped(lambda axis, field: field.moved(-begin.get(axis, 0)))


def _gather(x: _Inputs) -> View:
    rank, axis = x.type(0).rank, x.node["axis"] % x.type(0).rank
    added = x.type(1).rank - 1
    view = tuple(
        replace(seen, field=seen.field.scattered()) if seen.field and axis in seen.axes else seen
        for seen in x.views[0]
    )
    where = {a: a if a < axis else a + added for a in range(rank) if a != axis}
    if added >= 0:
        where[axis] = axis
    return _union([x.moved(view, where.get), *([x.everything()] if x.views[1] else [])])


def _space_to_depth(x: _Inputs) -> View:
    size = x.node["blocksize"]

    def change(axis: int, field: Field) -> Field | None:
        if field.jump is None or axis < 2:
            return None
        wide = field.moved((size - 1) / 2)
        return replace(wide, size=field.size + (size - 1) * field.jump, jump=field.jump * size)

    return x.mapped(change)


def _depth_to_space(x: _Inputs) -> View:
    size = x.node["blocksize"]

    def change(axis: int, field: Field) -> Field | None:
        if field.jump is None or axis < 2:
            return None
        return replace(field.moved(0.5 / size - 0.5), jump=field.jump / size)

    return x.mapped(change)


def _first_axes(x: _Inputs) -> View:
    """Tiled or expanded: as many axes and more before them."""
    shift = x.out().rank - x.type(0).rank
    tiled = [a for a, n in enumerate(x.type(0).shape) if n > 1 and x.out().shape[a + shift] != n]
    view = x.mapped(lambda a, field: field.scattered() if a in tiled else field)
    return x.moved(view, lambda a: a + shift)


Rule = Callable[[_Inputs], "View | Callable[[int], View]"]

RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            *("batch_normalization", "channel_normalization", "lrn", "clip", "cast", "cast_like"),
            *("dropout", "activate", "quantize_linear", "dequantize_linear", "trilu"),
        ),
        _same,
    ),
    **dict.fromkeys(
        (
            *("add", "sub", "mul", "div", "pow", "mod", "prelu", "where", "min", "max", "sum"),
            *("mean", "and", "or", "xor", "equal", "less", "greater", "less_or_equal"),
            *("greater_or_equal", "bit_shift", "bitwise_and", "bitwise_or", "bitwise_xor"),
        ),
        _broadcast,
    ),
    **dict.fromkeys((*WEIGHTS, "max_pool", "average_pool", "lp_pool"), _window),
    **dict.fromkeys(
        (
            *("global_average_pool", "global_max_pool", "global_lp_pool"),
            *("instance_normalization", "group_normalization"),
        ),
        _over_all,
    ),
    **dict.fromkeys(("adaptive_average_pool", "adaptive_max_pool"), _adaptive),
    **dict.fromkeys(
        (
            *(op for op in OPS if op.startswith("reduce_")),
            *("argmax", "argmin", "arg_max", "arg_min"),
        ),
        _reduce,
    ),
    **dict.fromkeys(("softmax", "log_softmax", "hardmax", "lp_normalization"), _along_axis),
    **dict.fromkeys(("layer_normalization", "rms_normalization"), _layer_normalization),
    **dict.fromkeys(("reshape", "flatten", "squeeze", "unsqueeze"), _reshape),
    **dict.fromkeys(("expand", "tile"), _first_axes),
    "attention": _attention,
    "concat": _concat,
    "conv_transpose": _transposed_window,
    "depth_to_space": _depth_to_space,
    "gather": _gather,
    "gemm": _gemm,
    "identity": _same,
    "linear": _linear,
    "matmul": _matmul,
    "pad": _pad,
    "resize": _resize,
    "slice": _slice,
    "space_to_depth": _space_to_depth,
    "split": _split,
    "transpose": _transpose,
}
"""By operator; those that are missing mix everything."""


def text(fields: Sequence[Field | None] | None) -> str:
    """ "7x7 /4 @0.5": size, jump and start, per axis where they differ; "all" for everything."""
    if not fields:
        return "-"
    if all(field is None for field in fields):
        return "all"
    parts = []
    for prefix, name in (("", "size"), ("/", "jump"), ("@", "start")):
        values = ["all" if f is None else _number(getattr(f, name)) for f in fields]
        if name == "size":
            parts.append("x".join(values))
        elif "?" not in values:
            parts.append(prefix + ",".join(values if len(set(values)) > 1 else values[:1]))
    return " ".join(parts)


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}" if value % 1 else str(math.floor(value))
