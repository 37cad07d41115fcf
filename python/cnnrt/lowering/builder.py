"""The steps of one plan, as the lowerings append them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..graph import Array, Graph, Node, TensorType
from ..layout.strides import Strided, blocked_shape, is_row_major
from ..layout.tensors import (
    BLOCK,
    NO_BORDER,
    NOWHERE,
    Blocked,
    Buffer,
    Plain,
    ceil_div,
)
from ..ops.windows import Windows
from ..process.limits import check_memory
from ..symbolic import any_symbolic, call
from ..weights.lazy import files_of
from .lowered import Lowered, ReferenceStep
from .options import PlanOptions
from .registry import BORDERS, LOWERINGS, has_kernel
from .step_list import StepList
from .tensor_table import TensorTable
from .weight_packer import WeightPacker, int32_table

if TYPE_CHECKING:
    from .conv_lowering import Choice


class PlanBuilder(StepList):
    """Appends the steps of a graph, node by node.

    A lowering takes its inputs in the layout it wants (`plain`, `blocked`, `strided`); a reorder is
    inserted if the tensor lies otherwise. It makes room for its outputs (`new_plain`,
    `new_blocked`) and appends steps.
    """

    def __init__(self, graph: Graph, options: PlanOptions) -> None:
        """
        Args:
            graph: a graph specialised for the sizes of its inputs (`passes.specialise`).
            options: the options of the model's plans.
        """
        super().__init__(options.machine)
        self.graph = graph
        self.options = options
        self.threads = options.threads
        self.team = options.team
        self.weights_are_cold = options.weights_are_cold
        self.tensors = TensorTable(graph)
        self.packer = WeightPacker(graph, options.packed, options.limit)
        self.buffers: list[Buffer] = []
        self.externals: list[TensorType] = []
        self.choices: dict[str, Choice | None] = {}
        """The algorithms of convolutions, by node, from the time borders are declared on."""
        self.windows: dict[str, Windows] = {}
        """The windows of convolutions, by the tensor that they make."""
        self._outputs: dict[str, Plain] = {}
        """The arrays that the outputs of the graph end up in."""

    # Building -----------------------------------------------------------------------------------

    def run(self) -> Lowered:
        """Lowers the whole graph, once."""
        graph, tensors = self.graph, self.tensors
        for spec in graph.inputs:
            tensors.plain[spec.name] = self._external(self.type(spec.name))
        for spec in graph.outputs:
            if spec.name not in self._outputs:
                self._outputs[spec.name] = self._external(self.type(spec.name))
        for node in graph.nodes:
            borders = BORDERS.get(node.op)
            if borders is not None:
                for name, border in borders(node, self).items():
                    tensors.require_border(name, border)
        tensors.share_borders()
        for node in graph.nodes:
            self._node = node.name
            if not tensors.is_made(node):
                lower = LOWERINGS.get(node.op)
                if not (lower and has_kernel(node, graph) and lower(node, self)):
                    self._reference(node)
            tensors.release(node)
        for name, wanted in self._outputs.items():
            self._node = name
            got = self.plain(name)
            if got.buffer is not wanted.buffer:
                self.copy(got, wanted)
        return Lowered(
            graph,
            self.steps,
            self.buffers,
            self.externals,
            tuple(self.packer.used),
            self.packer.nbytes,
            self._cost_ns,
        )

    def _external(self, type_: TensorType) -> Plain:
        buffer = Buffer(type_.nbytes, external=len(self.externals))
        self.externals.append(type_)
        return Plain(buffer, type_)

    def _reference(self, node: Node) -> None:
        named = [name for name in node.outputs if name]
        if all(0 in self.type(name).shape for name in named):
            for name in named:  # nothing to compute: the inputs need not be there as arrays
                self.new_plain(name)
            return
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
            plain = self._outputs.get(name)
            if plain is None:
                plain = self._external(self.type(name))
            self.tensors.plain[name] = plain
            outputs.append(plain)
        self.steps.append(ReferenceStep(node, inputs, outputs))

    def _array(self, name: str) -> Array:
        """A constant that NumPy reads at each run: not from a file, which may change meanwhile."""
        source = self.graph.constants[name]
        if not files_of(source):
            return np.asarray(source)
        memory = self.constant_memory(name, "array", source)
        values: Array = np.frombuffer(memory, source.dtype).reshape(source.shape)
        return values

    def _in_array(self, name: str) -> Plain:
        """A tensor as one of the arrays that Python sees, whole."""
        plain = self.plain(name)
        whole = plain.offset == 0 and plain.buffer.nbytes == plain.type.nbytes
        if plain.buffer.external is not None and whole:
            return plain
        whole_array = self._external(plain.type)
        self.copy(plain, whole_array)
        self.tensors.plain[name] = whole_array
        return whole_array

    # Tensors ------------------------------------------------------------------------------------

    def type(self, name: str) -> TensorType:
        """Shape and dtype of a tensor."""
        return self.graph.types[name]

    def constant(self, name: str) -> Array | None:
        """The value of a constant tensor; None for an absent or a computed one."""
        return self.graph.constants.get(name)

    def is_blocked(self, name: str) -> bool:
        """True if a tensor lies blocked already; a layout-agnostic operator then stays so."""
        return name in self.tensors.blocked

    def blocked(self, name: str) -> Blocked:
        """A tensor [N, C, *spatial] blocked, with the border that its readers declared."""
        tensors = self.tensors
        known = tensors.blocked.get(name)
        if known is not None:
            return known
        if self._channels_last(name):
            return self._from_channels_last(name)
        plain = self.plain(name)
        type_ = plain.type
        n, c, *spatial = type_.shape
        same_bytes = c % BLOCK == 0 or (n == 1 and plain.buffer.in_arena)
        unbordered = tensors.border(name) == NO_BORDER
        if math.prod(spatial) == 1 and same_bytes and unbordered and plain.offset == 0:
            tensors.blocked[name] = Blocked(plain.buffer, type_)
            return tensors.blocked[name]
        y = self.new_blocked(name)
        self.reorder(plain, y, to_blocked=True)
        return y

    def plain(self, name: str) -> Plain:
        """A tensor as a row-major array."""
        tensors = self.tensors
        known = tensors.plain.get(name)
        if known is not None:
            return known
        if name in self.graph.constants:
            return self._constant_plain(name)
        if name in tensors.views:
            view = tensors.views.pop(name)
            y = self.new_plain(name)
            item = y.type.dtype.itemsize
            self.copy_strided(view.at, y.at, y.type.shape, view.strides, y.strides(), item)
            return y
        x = tensors.blocked[name]
        if (
            math.prod(x.spatial) == 1
            and x.contiguous
            and (x.c % BLOCK == 0 or x.n == 1)
            and (x.image == x.c or x.n == 1)
            and name not in tensors.outputs
        ):
            offset = x.view().at.offset
            tensors.plain[name] = Plain(x.buffer, x.type, offset)
            return tensors.plain[name]
        y = self.new_plain(name)
        self.reorder(y, x, to_blocked=False)
        return y

    def strided(self, name: str) -> Strided:
        """A tensor as it lies, row-major or a view of another."""
        view = self.tensors.views.get(name)
        if view is not None:
            return view
        plain = self.plain(name)
        return Strided(plain.at, plain.strides())

    def row_strided(self, name: str) -> Strided:
        """A tensor as it lies if its last axis is contiguous, or else row-major."""
        view = self.strided(name)
        if self.type(name).shape[-1:] != (1,) and tuple(view.strides[-1:]) != (1,):
            plain = self.plain(name)
            return Strided(plain.at, plain.strides())
        return view

    def _channels_last(self, name: str) -> bool:
        """True if a tensor is a view whose channels follow each other, in whole blocks."""
        view = self.tensors.views.get(name)
        return view is not None and view.strides[1] == 1 and self.type(name).shape[1] % BLOCK == 0

    def _from_channels_last(self, name: str) -> Blocked:
        view = self.tensors.views[name]
        n, _, *spatial = view.strides
        y = self.new_blocked(name)
        d, h, w = ([0, 0, *spatial])[-3:]
        at = Strided.of_blocked(y)
        strides = (n, BLOCK, d, h, w, 1)
        self.copy_strided(
            view.at,
            at.at,
            blocked_shape(y),
            strides,
            at.strides,
            y.itemsize,
            "channels last to blocked",
        )
        return y

    def _constant_plain(self, name: str) -> Plain:
        type_ = self.type(name)
        return Plain(Buffer(type_.nbytes, memory=self.packer.plain(name)), type_)

    # Outputs ------------------------------------------------------------------------------------

    def new_plain(self, name: str) -> Plain:
        """Room for the output `name` of the present node, row-major."""
        plains = self.tensors.plain
        plain = self._outputs.get(name) if name not in plains else None
        if plain is None:
            type_ = self.type(name)
            plain = Plain(self.new_buffer(type_.nbytes), type_)
        plains[name] = plain
        return plain

    def new_blocked(self, name: str) -> Blocked:
        """Room for the output `name` of the present node, blocked; its border is zeroed.

        A part of a later concatenation is made in its place in the whole.
        """
        tensors = self.tensors
        place = tensors.places.get(name)
        if place is None:
            y = self._allocate_blocked(name)
        else:
            whole, first = place
            parent = tensors.concatenated.get(whole)
            if parent is None:
                parent = tensors.concatenated[whole] = self._allocate_blocked(whole)
            y = parent.part(self.type(name), first)
        tensors.blocked[name] = y
        return y

    def _allocate_blocked(self, name: str) -> Blocked:
        type_ = self.type(name)
        border, fill = self.tensors.border(name), self.tensors.fill(name)
        y = Blocked(NOWHERE, type_, border)
        y.buffer = self.new_buffer(y.nbytes)
        if border != NO_BORDER:
            d, h, w = y.spatial
            self.step(
                "border",
                y=y.view(),
                element=y.itemsize,
                n=y.n,
                blocks=y.blocks,
                d=d,
                h=h,
                w=w,
                border_d=border.d,
                border_h=border.h,
                border_w=border.w,
                **({"fill": fill} if fill else {}),
                note="zero border",
                cost_ns=(y.buffer.nbytes - y.n * y.blocks * d * h * w * BLOCK * y.itemsize) / 40,
            )
            self._after_border = len(self.steps)
        return y

    def new_buffer(self, nbytes: int) -> Buffer:
        """A piece of the arena.

        Raises:
            MemoryLimitError: it alone is more than the plan may use.
        """
        limit = self.options.limit
        if nbytes > limit:
            check_memory(nbytes, limit, f"node {self._node!r}: a tensor as kernels want it")
        # Whole lines, so that a blocked tensor of one pixel may stand for a plain one.
        buffer = Buffer(ceil_div(max(nbytes, 1), 64) * 64)
        self.buffers.append(buffer)
        return buffer

    def alias(self, name: str, plain: Plain) -> None:
        """Makes the output `name` of the present node another name of existing memory."""
        self.tensors.plain[name] = plain

    def alias_blocked(self, name: str, tensor: Blocked) -> None:
        """The same for a blocked tensor."""
        self.tensors.blocked[name] = tensor

    def alias_strided(self, name: str, view: Strided) -> None:
        """Makes the output `name` of the present node a view of existing memory."""
        type_ = self.type(name)
        if is_row_major(type_.shape, view.strides):
            self.tensors.plain[name] = Plain(view.at.buffer, type_, view.at.offset)
        else:
            self.tensors.views[name] = view

    def may_overwrite(self, x: str, y: str, tensor: Blocked | None = None) -> bool:
        """True if the output y of the present node may take the memory of its input x.

        Args:
            tensor: x, if it lies blocked.
        """
        tensors = self.tensors
        if y in self._outputs or y in tensors.places or not tensors.dies(x):
            return False
        return tensor is None or tensors.fits_border(y, tensor)

    # Constants ----------------------------------------------------------------------------------

    def constant_memory(self, name: str, kind: str, value: Array) -> Any:
        """The memory of a constant in a form of its own, shared by all plans of the model."""
        return self.packer.constant(name, kind, value)

    def weight(
        self,
        name: str,
        kind: str,
        floats: int,
        pack: Callable[..., Any],
        stored: Array | None = None,
        variant: int | None = None,
    ) -> Any:
        """A constant as a kernel reads it, see `WeightPacker.weight`."""
        return self.packer.weight(self._node, name, kind, floats, pack, stored, variant)

    def bias(self, node: Node, channels: int) -> Any:
        """The bias of a node, its third input, as whole blocks; zeros if there is none."""
        return self.packer.bias(node.input(2), channels)

    def table(self, values: Sequence[int] | Array) -> Any:
        """A constant table of 32-bit integers.

        Raises:
            ShapeError: a value needs more bits.
        """
        if isinstance(values, list | tuple) and any_symbolic(values):
            node = self._node
            return call(lambda *numbers: int32_table(numbers, node), *values)
        return call(int32_table, values, self._node)
