"""How operators are run: turns a graph into the steps of a plan.

One file per family, one function per operator:

    @lowers("softmax")
    def lower_softmax(node: Node, to: Lowering) -> bool: ...

A lowering asks `to` for its inputs in the layout it wants (`to.plain`, `to.blocked`; a reorder is
put in where the tensor lies otherwise), makes its output (`to.new_plain`, `to.new_blocked`) and
appends `to.step(...)`. It returns False, before anything else, if no kernel does what the node
asks; then the operator's NumPy reference runs as a step of the plan.

Kernels want a zero border around some tensors. As a producer must leave room for it, operators
that need one declare it beforehand with `@borders("conv")`.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from ..cost import Machine
from ..errors import GraphError, ShapeError
from ..graph import Array, Graph, Node, TensorType
from ..layout.strides import is_row_major
from ..layout.tensors import (
    BLOCK,
    At,
    Blocked,
    Border,
    Buffer,
    Plain,
    Step,
    ViewAt,
    ceil_div,
    dtype_bytes,
)
from ..ops.activation import Activation
from ..process.limits import MAX_SIZE, check_memory
from ..weights.lazy import files_of
from ..weights.packed import Key, Packed
from .concat import concat_places

LowerFunction = Callable[[Node, "Lowering"], bool]
BorderFunction = Callable[[Node, "Lowering"], Mapping[str, Border]]

LOWERINGS: dict[str, LowerFunction] = {}
ANY_TYPE: set[str] = set()
"""Operators that are lowered for every dtype: they move elements without looking at them, or look
at the dtypes themselves."""
BORDERS: dict[str, BorderFunction] = {}


def lowers(*ops: str, any_type: bool = False) -> Callable[[LowerFunction], LowerFunction]:
    """Registers a function as the lowering of these operators, for float32 or for any dtype."""

    def enter(function: LowerFunction) -> LowerFunction:
        for name in ops:
            if name in LOWERINGS:
                raise GraphError(f"operator {name!r} has two lowerings")
            LOWERINGS[name] = function
        if any_type:
            ANY_TYPE.update(ops)
        return function

    return enter


def borders(*ops: str) -> Callable[[BorderFunction], BorderFunction]:
    """Registers what borders these operators need around their inputs."""

    def enter(function: BorderFunction) -> BorderFunction:
        BORDERS.update(dict.fromkeys(ops, function))
        return function

    return enter


class ReferenceStep:
    """An operator that runs by its NumPy reference, between two stretches of kernel steps."""

    def __init__(
        self, node: Node, inputs: Sequence[Plain | Array | None], outputs: list[Plain | None]
    ):
        self.node = node
        self.inputs = list(inputs)
        self.outputs = list(outputs)


class Lowering:
    """The plan of one graph at one set of input shapes, in the making."""

    def __init__(
        self,
        graph: Graph,
        machine: Machine,
        packed: Packed,
        threads: int,
        algorithm: Callable[[str], str],
        weight_bytes: int,
        limit: int,
    ) -> None:
        self.graph = graph
        self.machine = machine
        self.packed = packed
        self.weights: set[Key] = set()
        """The entries of `packed` that the steps use."""
        self.threads = threads
        self.algorithm = algorithm
        """Which convolution algorithm the caller asks for, by node name."""
        self.weights_are_cold = weight_bytes > 8 << 20
        """Whether the network's weights are too many to stay in the last-level cache."""
        self.limit = limit
        """Bytes that the plan may use."""
        self.packed_bytes = 0
        self.steps: list[Step | ReferenceStep] = []
        self.buffers: list[Buffer] = []
        self.externals: list[TensorType] = []
        self.choices: dict[str, Any] = {}
        """What a lowering has decided about a node, kept between border and step."""
        self.windows: dict[str, Any] = {}
        """The windows of convolutions, by the tensor that they make."""
        self._plain: dict[str, Plain] = {}
        self._blocked: dict[str, Blocked] = {}
        self._views: dict[str, Strided] = {}
        """Tensors that are part of another's memory, by strides; copied once somebody must."""
        self._border: dict[str, Border] = {}
        self._places: dict[str, tuple[str, int]] = {}
        self._wholes: dict[str, Blocked] = {}
        self._uses: dict[str, int] = {}
        self._reader: dict[str, Node] = {}
        self._done: set[str] = set()
        """Tensors that the steps of another node than their own have made."""
        self._outputs = {spec.name: None for spec in graph.outputs}
        self._node = ""
        self._count_uses()

    # Building -----------------------------------------------------------------------------------

    def _count_uses(self) -> None:
        for node in self.graph.nodes:
            for name in filter(None, node.inputs):
                self._uses[name] = self._uses.get(name, 0) + 1
                self._reader[name] = node
        for name in self._outputs:
            self._uses[name] = self._uses.get(name, 0) + 1

    def run(self) -> None:
        """Lowers the whole graph."""
        for spec in self.graph.inputs:
            self._plain[spec.name] = self._external(self.type(spec.name))
        output_buffers = {name: self._external(self.type(name)) for name in self._outputs}
        self._output_plain = dict(output_buffers)
        for node in self.graph.nodes:
            if node.op in BORDERS:
                for name, border in BORDERS[node.op](node, self).items():
                    self._border[name] = self._border.get(name, Border()).union(border)
        self._places = concat_places(self.graph)
        for part, (whole, _) in self._places.items():
            # The parts of a concatenation share its memory, and so one border.
            border = self._border.get(part, Border()).union(self._border.get(whole, Border()))
            self._border[whole] = border
        for node in self.graph.nodes:
            self._node = node.name
            lower = LOWERINGS.get(node.op)
            made = self._done.issuperset(filter(None, node.outputs))
            if not made and not (lower and self._plannable(node) and lower(node, self)):
                self._reference(node)
            for name in filter(None, node.inputs):
                self._uses[name] -= 1
                if not self._uses[name]:  # so that the tables hold what is alive, however long
                    for home in (self._plain, self._blocked, self._views):
                        home.pop(name, None)
        for name, wanted in output_buffers.items():
            self._node = name
            got = self.plain(name)
            if got.buffer is not wanted.buffer:
                self.copy(got, wanted)

    def _plannable(self, node: Node) -> bool:
        """Whether all tensors that the node makes and reads at run time are float32, where its
        kernels want that, and not all that it makes, nor any that it reads, is empty, which
        kernels do not expect."""
        made = [self.type(name) for name in node.outputs if name]
        read = [self.type(n) for n in node.inputs if n and n not in self.graph.constants]
        floats = all(type_.dtype == np.float32 for type_ in (*made, *read))
        full = any(t.size for t in made) and all(t.size for t in read)
        return full and (floats or node.op in ANY_TYPE)

    def _external(self, type_: TensorType) -> Plain:
        buffer = Buffer(dtype_bytes(type_), external=len(self.externals))
        self.externals.append(type_)
        return Plain(buffer, type_)

    def _reference(self, node: Node) -> None:
        inputs = [
            None
            if not name
            else self._array(name)
            if name in self.graph.constants
            else self._in_array(name)
            for name in node.inputs
        ]
        outputs: list[Plain | None] = []
        for name in node.outputs:
            if not name:
                outputs.append(None)
                continue
            if name in self._output_plain:
                plain = self._output_plain[name]
            else:
                plain = self._external(self.type(name))
            self._plain[name] = plain
            outputs.append(plain)
        self.steps.append(ReferenceStep(node, inputs, outputs))

    def _array(self, name: str) -> Array:
        """A constant that NumPy reads at each run: not from a file, which may change meanwhile."""
        source = self.graph.constants[name]
        if not files_of(source):
            return np.asarray(source)
        memory = self.constant_memory(name, "array", source)
        array: Array = np.frombuffer(memory, source.dtype).reshape(source.shape)
        return array

    def _in_array(self, name: str) -> Plain:
        """A tensor as one of the arrays that Python sees, whole."""
        plain = self.plain(name)
        whole = plain.offset == 0 and plain.buffer.nbytes == dtype_bytes(plain.type)
        if plain.buffer.external is not None and whole:
            return plain
        array = self._external(plain.type)
        self.copy(plain, array)
        self._plain[name] = array
        return array

    # What lowerings use -------------------------------------------------------------------------

    def type(self, name: str) -> TensorType:
        return self.graph.types[name]

    def constant(self, name: str) -> Array | None:
        """The value of a tensor that is constant; None for an absent or a computed one."""
        return self.graph.constants.get(name)

    def sole_reader(self, name: str) -> Node | None:
        """The node that alone reads a tensor, if nobody has asked for the tensor itself."""
        return self._reader.get(name) if self._uses.get(name) == 1 else None

    def done_here(self, node: Node) -> None:
        """Says that the present node's steps also make the outputs of `node`, a later one."""
        self._done.update(filter(None, node.outputs))

    def is_blocked(self, name: str) -> bool:
        """Whether a tensor lies blocked already (a layout-agnostic operator then stays so)."""
        return name in self._blocked

    def blocked(self, name: str) -> Blocked:
        """A tensor [N, C, *spatial] blocked, with the border that its readers declared."""
        if name in self._blocked:
            return self._blocked[name]
        if self._channels_last(name):
            return self._from_channels_last(name)
        plain = self.plain(name)
        type_ = plain.type
        n, c, *spatial = type_.shape
        same_bytes = c % BLOCK == 0 or (n == 1 and plain.buffer.in_arena)
        unbordered = self._border.get(name, Border()) == Border()
        if math.prod(spatial) == 1 and same_bytes and unbordered and plain.offset == 0:
            self._blocked[name] = Blocked(plain.buffer, type_)
            return self._blocked[name]
        y = self.new_blocked(name)
        self._reorder(plain, y, to_blocked=True)
        return y

    def plain(self, name: str) -> Plain:
        """A tensor as a row-major array."""
        if name in self._plain:
            return self._plain[name]
        if name in self.graph.constants:
            return self._constant_plain(name)
        if name in self._views:
            view = self._views.pop(name)
            y = self.new_plain(name)
            item = y.type.dtype.itemsize
            self.copy_strided(view.at, y.at, y.type.shape, view.strides, y.strides(), item)
            return y
        x = self._blocked[name]
        if (
            math.prod(x.spatial) == 1
            and x.contiguous
            and (x.c % BLOCK == 0 or x.n == 1)
            and (x.image == x.c or x.n == 1)
            and name not in self._outputs
        ):
            offset = x.view().at.offset
            self._plain[name] = Plain(x.buffer, x.type, offset)
            return self._plain[name]
        y = self.new_plain(name)
        self._reorder(y, x, to_blocked=False)
        return y

    def strided(self, name: str) -> Strided:
        """A tensor as it lies, row-major or a view of another."""
        if name in self._views:
            return self._views[name]
        plain = self.plain(name)
        return Strided(plain.at, plain.strides())

    def row_strided(self, name: str) -> Strided:
        """A tensor as it lies if its last axis is contiguous, or else row-major."""
        view = self.strided(name)
        if self.type(name).shape[-1:] != (1,) and tuple(view.strides[-1:]) != (1,):
            plain = self.plain(name)
            return Strided(plain.at, plain.strides())
        return view

    def alias_strided(self, name: str, view: Strided) -> None:
        """Makes the output `name` of the present node a view of existing memory."""
        type_ = self.type(name)
        if is_row_major(type_.shape, view.strides):
            self._plain[name] = Plain(view.at.buffer, type_, view.at.offset)
        else:
            self._views[name] = view

    def _channels_last(self, name: str) -> bool:
        """Whether a tensor is a view whose channels follow each other, in whole blocks."""
        view = self._views.get(name)
        shape = self.type(name).shape
        return view is not None and view.strides[1] == 1 and shape[1] % BLOCK == 0

    def _from_channels_last(self, name: str) -> Blocked:
        view = self._views[name]
        n, _, *spatial = view.strides
        y = self.new_blocked(name)
        d, h, w = ([0, 0, *spatial])[-3:]
        at = Strided.of_blocked(y)
        strides = (n, BLOCK, d, h, w, 1)
        self.copy_strided(
            view.at, at.at, blocked_shape(y), strides, at.strides, 4, "channels last to blocked"
        )
        return y

    def _constant_plain(self, name: str) -> Plain:
        value = self.graph.constants[name]
        memory = self.constant_memory(name, "plain", value)
        return Plain(Buffer(value.nbytes, memory=memory), TensorType(value.shape, value.dtype))

    def new_plain(self, name: str) -> Plain:
        """Room for the output `name` of the present node, row-major."""
        if name in self._output_plain and name not in self._plain:
            plain = self._output_plain[name]
        else:
            plain = Plain(self.new_buffer(dtype_bytes(self.type(name))), self.type(name))
        self._plain[name] = plain
        return plain

    def new_blocked(self, name: str) -> Blocked:
        """Room for the output `name` of the present node, blocked; its border is zeroed.

        What is concatenated later is made in its place in the whole.
        """
        if name in self._places:
            whole, first = self._places[name]
            parent = self._wholes.get(whole)
            if parent is None:
                parent = self._wholes[whole] = self._allocate_blocked(whole)
            y = parent.part(self.type(name), first)
        else:
            y = self._allocate_blocked(name)
        self._blocked[name] = y
        return y

    def _allocate_blocked(self, name: str) -> Blocked:
        type_ = self.type(name)
        border = self._border.get(name, Border())
        y = Blocked(self.new_buffer(Blocked.nbytes(type_, border)), type_, border)
        if border != Border():
            d, h, w = y.spatial
            self.step(
                "border",
                y=y.view(),
                n=y.n,
                blocks=y.blocks,
                d=d,
                h=h,
                w=w,
                note="zero border",
                work=(y.buffer.nbytes - y.n * y.blocks * d * h * w * BLOCK * 4) / 40,
                **{f"border_{axis}": width for axis, width in border._asdict().items()},
            )
            self._after_border = len(self.steps)
        return y

    _after_border = -1

    def new_buffer(self, nbytes: int) -> Buffer:
        check_memory(nbytes, self.limit, f"node {self._node!r}: a tensor as kernels want it")
        # Whole lines, so that a blocked tensor of one pixel may stand for a plain one.
        buffer = Buffer(ceil_div(max(nbytes, 1), 64) * 64)
        self.buffers.append(buffer)
        return buffer

    def alias(self, name: str, plain: Plain) -> None:
        """Makes the output `name` of the present node another name of existing memory."""
        self._plain[name] = plain

    def may_overwrite(self, x: str, y: str, tensor: Blocked | None = None) -> bool:
        """Whether the output y of the present node may take the memory of its input x.

        `tensor` is x, where it lies blocked.
        """
        free = y not in self._outputs and y not in self._places and self.dies(x)
        return free and (tensor is None or self.fits_border(y, tensor))

    def fits_border(self, name: str, tensor: Blocked) -> bool:
        """Whether `tensor` has the border that the readers of `name` need."""
        return self._border.get(name, Border()).union(tensor.border) == tensor.border

    def constant_memory(self, name: str, kind: str, value: Array) -> Any:
        """The memory of a constant in a form of its own, shared by all plans of the model."""
        self.weights.add((name, kind))
        source = self.graph.constants[name]
        return self.packed.get(
            source, (name, kind), lambda: _core.Memory(np.ascontiguousarray(value))
        )

    def weight(self, name: str, kind: str, floats: int, pack: Callable[[Array], Any]) -> Any:
        """A constant as a kernel reads it, shared by all plans of the model.

        Args:
            kind: the order of its values; another order is another kind, and a change of one is
                a change of `packed.PACKING`.
            floats: how many there are.
            pack: makes it of the constant; not called where a compiled file holds it.
        """
        self.weights.add((name, kind))
        self.packed_bytes += floats * 4
        check_memory(self.packed_bytes, self.limit, f"node {self._node!r}: packed weights")
        source = self.graph.constants[name]
        nbytes = None if name in self.graph.varying else floats * 4

        make = lambda: pack(np.asarray(source))  # noqa: E731
        return self.packed.get(source, (name, kind), make, nbytes)

    def alias_blocked(self, name: str, tensor: Blocked) -> None:
        self._blocked[name] = tensor

    def dies(self, name: str) -> bool:
        """Whether the present node is the last to read an arena tensor, which it may overwrite."""
        if self._uses.get(name, 0) != 1 or name in self._outputs:
            return False
        homes = [h[name] for h in (self._plain, self._blocked) if name in h]
        if name in self._views:
            return False
        return all(home.buffer.in_arena and self._sole(home.buffer) for home in homes)

    def _sole(self, buffer: Buffer) -> bool:
        owners = {
            n for h in (self._plain, self._blocked) for n, t in h.items() if t.buffer is buffer
        } | {n for n, view in self._views.items() if view.at.buffer is buffer}
        return sum(self._uses.get(n, 0) for n in owners) == 1

    def step(self, kernel: str, *, note: str = "", work: float = 0.0, **fields: Any) -> None:
        """Appends a kernel call; `work` is its estimated time on one thread in nanoseconds."""
        number = len(self.steps)
        for value in fields.values():
            at = value.at if isinstance(value, ViewAt) else value
            if isinstance(at, At):
                at.buffer.touch(number)
        independent = self._after_border == number and kernel != "border"
        self.steps.append(Step(kernel, fields, self._node, note, work, independent))

    def copy(self, x: Plain, y: Plain) -> None:
        """Copies a whole row-major tensor."""
        self.copy_strided(x.at, y.at, (x.type.size,), (1,), (1,), x.type.dtype.itemsize)

    def copy_strided(
        self,
        x: At | Any,
        y: At,
        shape: Sequence[int],
        x_strides: Sequence[int],
        y_strides: Sequence[int],
        itemsize: int,
        note: str = "copy",
    ) -> None:
        """y[i] = x[i] for strides in elements; axes that can be merged are merged."""
        if 0 in shape:
            return
        sizes, (x_merged, y_merged) = merge_axes(shape, x_strides, y_strides)
        self.step(
            "copy",
            x=x,
            y=y,
            dims=len(sizes),
            element=itemsize,
            shape=sizes,
            x_stride=x_merged,
            y_stride=y_merged,
            note=note,
            work=math.prod(shape) * itemsize / 20,
        )

    def elementwise(
        self,
        op: str,
        shape: Sequence[int],
        a: Strided,
        b: Strided | None,
        y: Strided,
        activation: Activation | None = None,
    ) -> None:
        """y = activation(a op b) over `shape`, with the strides of each in floats."""
        sizes, merged = merge_axes(shape, a.strides, (b or a).strides, y.strides)
        self.step(
            "elementwise",
            a=a.at,
            b=b.at if b else None,
            y=y.at,
            op=op,
            dims=len(sizes),
            shape=sizes,
            a_stride=merged[0],
            b_stride=merged[1],
            y_stride=merged[2],
            epilogue=epilogue(activation),
            note=op if b else "unary",
            work=math.prod(shape) * (12 if b else 8) / self.machine.activations
            + self.machine.time_of(activation, math.prod(shape)),
        )

    def bias(self, node: Node, m: int) -> Any:
        """The bias of a node, its third input, as whole blocks; zeros where there is none."""
        name = node.inputs[2] if len(node.inputs) > 2 else ""
        value = self.graph.constants.get(name)

        def make() -> Any:
            padded = np.zeros(ceil_div(m, BLOCK) * BLOCK, np.float32)
            if value is not None:
                padded[:m] = value
            return _core.Memory(padded)

        key = (name, f"bias {m}")
        self.weights.add(key)
        return self.packed.get(value, key, make)

    def table(self, values: Sequence[int] | Array) -> Any:
        """A constant table of 32-bit integers."""
        numbers = np.asarray(values, np.int64)
        if numbers.size and np.abs(numbers).max() > MAX_SIZE:
            raise ShapeError(f"node {self._node!r}: an image of more than 8 GB")
        return _core.Memory(np.ascontiguousarray(numbers, np.int32))

    def is_input(self, name: str) -> bool:
        """Whether a tensor lies in one of the caller's arrays."""
        return name in self._plain and self._plain[name].buffer.external is not None

    def _reorder(self, plain: Plain, blocked: Blocked, *, to_blocked: bool) -> None:
        d, h, w = blocked.spatial
        self.step(
            "reorder",
            plain=plain.at,
            blocked=blocked.view(),
            image=blocked.c * d * h * w,
            channel=d * h * w,
            n=blocked.n,
            c=blocked.c,
            d=d,
            h=h,
            w=w,
            to_blocked=int(to_blocked),
            note="plain to blocked" if to_blocked else "blocked to plain",
            work=dtype_bytes(plain.type) / 40,
        )


def epilogue(activation: Activation | None) -> tuple[str, float, float] | None:
    """The Epilogue of args.h."""
    return None if activation is None else tuple(activation)  # type: ignore[return-value]


class Strided(NamedTuple):
    """Where a tensor begins and its stride along each axis, in elements (0: broadcast)."""

    at: Any
    strides: Sequence[int]

    @staticmethod
    def of_blocked(x: Blocked, like: Blocked | None = None) -> Strided:
        """Over the axes n, block, d, h, w, lane; axes of size 1 broadcast to those of `like`."""
        v = x.view()
        strides = [v.image, v.block, v.plane, v.row, BLOCK, 1]
        if like is not None:
            d, h, w = x.spatial
            for axis, size in enumerate((x.n, x.c, d, h, w)):
                if size == 1:
                    strides[axis] = 0
            if x.c == 1 and like.c > 1:
                strides[5] = 0
        return Strided(v.at, strides)

    @staticmethod
    def of_plain(x: Plain, shape: Sequence[int]) -> Strided:
        """Over the axes of `shape`, to which x is broadcast."""
        return Strided(x.at, x.strides()).broadcast(x.type.shape, shape)

    def broadcast(self, own: Sequence[int], shape: Sequence[int]) -> Strided:
        """Over the axes of `shape`, to which this one, of the shape `own`, is broadcast."""
        strides = [0 if n == 1 else s for n, s in zip(own, self.strides, strict=True)]
        return Strided(self.at, [0] * (len(shape) - len(own)) + strides)


def blocked_shape(x: Blocked) -> tuple[int, ...]:
    """The axes n, block, d, h, w, lane of a blocked tensor."""
    return (x.n, x.blocks, *x.spatial, BLOCK)


def merge_axes(shape: Sequence[int], *strides: Sequence[int]) -> tuple[list[int], list[list[int]]]:
    """Drops axes of size 1, and makes one of neighbours that are contiguous in every operand."""
    axes: list[tuple[int, tuple[int, ...]]] = []
    for n, *steps in zip(shape, *strides, strict=True):
        if n == 1:
            continue
        outer = axes[-1][1] if axes else None
        if outer and all(o == n * i for o, i in zip(outer, steps, strict=True)):
            axes[-1] = (axes[-1][0] * n, tuple(steps))
        else:
            axes.append((n, tuple(steps)))
    if not axes:
        axes = [(1, (1,) * len(strides))]
    return [n for n, _ in axes], [list(s) for s in zip(*(s for _, s in axes), strict=True)]


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
