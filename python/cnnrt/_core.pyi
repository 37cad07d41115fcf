"""Types of the extension module; see cpp/bind/."""

from array import array
from collections.abc import Sequence
from typing import Any

from .graph import Array

activations: tuple[str, ...]
kernels: dict[str, tuple[str, ...]]
"""The kernels and the fields of their arguments (cpp/kernels/kernels.def)."""
enums: dict[str, tuple[str, ...]]
"""The values of the enumerations that fields have, by the enumeration's name in lower case."""
dtypes: tuple[tuple[str, int, str, int], ...]
"""(name, item size in bytes, kind, ONNX's number) of each element type (cpp/kernels/dtypes.def)."""

def isas() -> list[str]:
    """The instruction-set tiers of this machine, best first."""

def overlays(isa: str) -> list[str]:
    """The instructions that a tier's integer kernels use beyond the tier's own, such as `vnni`.

    `Plan(f"{isa}+no{overlay}")` does without one and those after it.
    """

class Threads:
    """How many threads a region may use, and whose: "pool" or "openmp". An int is so many of the
    pool."""

    def __init__(self, count: int, threading: str = "pool") -> None: ...

def set_thread_budget(threads: int) -> None: ...
def limit_regions(threads: int) -> None: ...
def openmp_is_built() -> bool: ...
def load_openmp() -> str:
    """Finds an OpenMP runtime, loaded or installed: the path of its file, "" if there is none."""

def fork_generation() -> int:
    """How many forks lie between the process that loaded this module and the present one."""

class Memory:
    """Aligned memory holding a copy of an array, or packed weights."""

    def __init__(self, source: Array | array[int]) -> None: ...
    @staticmethod
    def empty(nbytes: int) -> Memory:
        """Memory of unspecified content."""

    @staticmethod
    def view(source: Array | memoryview) -> Memory:
        """Memory that is not copied: `source` begins on a 64-byte boundary, and at least 64 bytes
        that may be read follow it."""

    @property
    def nbytes(self) -> int: ...
    @property
    def owned(self) -> bool:
        """Whether it is memory of its own; False: a view."""

    def __buffer__(self, flags: int, /) -> memoryview: ...

def pack_conv(weight: Array, threads: int | Threads = 1) -> Memory:
    """Panels [m / 16][c / 16][taps][steps][16][depth] of a weight [m, c, taps].

    A step has one channel of float32, or four of int8.
    """

def pack_conv_grouped(
    weight: Array, group: int, window: Sequence[int], span: int, threads: int | Threads = 1
) -> Memory: ...
def pack_planar(weight: Array, threads: int | Threads = 1) -> Memory: ...
def pack_linear(
    to: Memory, depth: int, row: int, column: int, weight: Array, threads: int | Threads = 1
) -> None:
    """A part of a matrix of `depth` columns, from this row and column on, packed into existing
    memory as by `pack_planar`. The part may be transposed.

    Its elements are float32, int8, or uint16: the bits of float16 or bfloat16.
    """

def pack_depthwise(weight: Array) -> Memory: ...
def pack_winograd(weight: Array, g_h: Array, g_w: Array, threads: int | Threads = 1) -> Memory: ...
def non_max_suppression(
    boxes: Array, scores: Array, most: int, overlap: float, least: float | None, centred: bool
) -> Array:
    """(image, class, box) of each chosen box, int64 (chosen, 3): see ONNX's NonMaxSuppression.

    Args:
        boxes: float32 or float64 (images, boxes, 4), row-major.
        scores: of the same type (images, classes, boxes), row-major.
        most: boxes chosen of one class of one image.
        overlap: the intersection over union above which a box is suppressed.
        least: scores that are not above it do not count; None: all do.
        centred: boxes are centre and size, not two opposite corners.
    """

def non_zero(x: Array, mask: int) -> Array:
    """The places of elements of which a bit in the mask is set, int64 (rank, count).

    Args:
        x: unsigned integers, row-major, of at least one axis.
        mask: as many bits as an element has.
    """

class Workspace:
    """Memory of one run, kept over several calls of `Plan.run_steps`."""

class Program:
    """A record of arithmetic that is done again on other numbers; see `cnnrt.symbolic.Program`.

    An operation is the register of its result, a function and the registers of its operands.
    """

    def __init__(
        self,
        values: list[Any],
        first: Sequence[tuple[int, Any, Sequence[int]]],
        last: Sequence[tuple[int, Any, Sequence[int]]],
        inputs: Sequence[int],
        guards: Sequence[int],
        expected: list[Any],
        results: Sequence[int],
    ) -> None:
        """
        Args:
            values: the contents of all registers before a run.
            first: the operations that guards need, in order.
            last: the others.
            inputs: the registers that are set for each run.
            guards: registers that must hold the `expected` values.
            results: the registers that are returned.
        """

    def run(self, inputs: Sequence[Any]) -> list[Any] | None:
        """The contents by register, None apart from `results`; None alone if a guard fails."""

def lay_out(lifetimes: Sequence[tuple[int, int, int]]) -> tuple[int, int, list[int]]:
    """Bytes of the arena, bytes alive at most, and the offset of each buffer in the arena.

    A lifetime is a buffer's bytes and its first and last step; the first steps are in order.
    """

class RunMemory:
    """The memory of runs, shared by all plans of a model: a workspace for each run at the same
    time, and the memory of outputs that the user has dropped."""

    def __init__(self) -> None: ...
    def trim(self) -> None:
        """Gives back what is idle."""

    @property
    def workspaces(self) -> int:
        """How many exist, idle or in use."""

    @property
    def arena_bytes(self) -> int: ...
    @property
    def scratch_bytes(self) -> int: ...
    @property
    def output_bytes(self) -> int:
        """Those of dropped outputs that wait for the next run."""

class Plan:
    def __init__(self, isa: str, memory: RunMemory | None = None) -> None: ...
    def add(
        self,
        kernel: str,
        fields: dict[str, Any],
        serial: bool = False,
        independent: bool = False,
        nanoseconds: float = 0.0,
    ) -> None: ...
    def finish(
        self,
        arena_bytes: int,
        inputs: Sequence[tuple[tuple[int, ...], Any]],
        outputs: Sequence[tuple[tuple[int, ...], Any]],
        threads: int | Threads,
        images: int = 1,
    ) -> None:
        """With `images`, the steps are those of one image, and `run` takes and gives so many, one
        after the other along axis 0, which is 1 in `inputs` and `outputs`."""

    def run(self, inputs: Sequence[Array]) -> list[Array]: ...
    def make_output(self, index: int) -> Array:
        """A new array, of unspecified content, as `run` returns for this output."""

    def workspace(self) -> Workspace: ...
    def run_steps(
        self,
        workspace: Workspace,
        arrays: Sequence[Array],
        first: int,
        last: int,
        timed: bool = False,
        image: int = 0,
        in_turn: bool = False,
    ) -> Array:
        """Runs some of the steps. If `timed`, returns when each thread worked on each: int64
        (threads, steps, 2). With `in_turn` the caller does the shares of all threads."""

    def waits(self) -> list[bool]:
        """True for each step that begins with a barrier."""

    def __len__(self) -> int: ...
    @property
    def isa(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def arena_bytes(self) -> int: ...
    @property
    def scratch_bytes(self) -> int: ...
