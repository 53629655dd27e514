"""The small kernel language: about a dozen operations on vectors, as data.

A `Kernel` is a sequence of stages. A `Stage` is a grid of independent work items, shared out among threads, with a
barrier after it; its body works on registers (vectors of `lanes` numbers of the kernel's dtype) and on buffers
(flat arrays). The meaning of each operation is its `interpret.py` entry, a line of NumPy; `native` emits the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hapgop.tile.index import Affine, Size, Var

Register = int
Role = Literal["in", "out", "inout", "scratch", "private"]
BinaryOp = Literal["add", "sub", "mul", "div", "max", "min"]

_LINE = 16  # elements that fill a cache line of 64 bytes, or two


@dataclass(frozen=True, slots=True)
class Buffer:
    """A flat array of the kernel's dtype. `private` ones exist once a thread, `scratch` ones once a call.

    An `inout` one is a result that is read again once it is written.

    A `private` one is passed as one array for all threads, in which each has `apart(size)` elements.
    The elements of a `narrow` one, in a kernel of float32, are bfloat16: a load widens them, a store rounds to the
    nearest, of two to the even one. Those of `octets` are whole numbers from 0 to 255, which are only read. Those of a
    `whole` one are whole numbers of 32 bits for `Indirect`: a store brings a number between 0 and 2^30, NaN to 0, and
    rounds it down.
    """

    name: str
    size: Affine
    role: Role
    narrow: bool = False
    octets: bool = False
    whole: bool = False


def apart(size: Affine) -> Affine:
    """Elements from one thread's part of a private buffer to the next: whole cache lines, so that no two share one."""
    return (size + (_LINE - 1)) // _LINE * _LINE


@dataclass(frozen=True, slots=True)
class At:
    """A place in a buffer: lane i of an access is element `index + i * stride`."""

    buffer: Buffer
    index: Affine


@dataclass(frozen=True, slots=True)
class Coordinate:
    """A number that may lie outside of 0 <= value < extent, where there is nothing; inside, it moves an access by
    `value * stride` elements."""

    value: Affine
    extent: Affine
    stride: int


@dataclass(frozen=True, slots=True)
class Const:
    """dst = value in every lane."""

    dst: Register
    value: float


@dataclass(frozen=True, slots=True)
class FromIndex:
    """dst = an integer expression, as a number, in every lane."""

    dst: Register
    index: Affine


@dataclass(frozen=True, slots=True)
class Load:
    """dst = `count` lanes from memory, zero in the rest; all zero where a coordinate of `where` is outside.

    With `pairs`, of a narrow buffer, a lane is two neighbours as they lie, 32 bits for `Dot`.
    """

    dst: Register
    at: At
    count: int
    stride: int = 1
    where: tuple[Coordinate, ...] = ()
    pairs: bool = False


@dataclass(frozen=True, slots=True)
class Broadcast:
    """dst = one element in every lane; with `pairs` as in `Load`."""

    dst: Register
    at: At
    pairs: bool = False


@dataclass(frozen=True, slots=True)
class Store:
    """`count` lanes of src to memory; nothing where a coordinate of `where` is outside.

    `streaming` is a hint: what is stored will not be read again soon, so it may go past the caches, which are then
    neither filled with the old values nor with the new.
    """

    src: Register
    at: At
    count: int
    stride: int = 1
    streaming: bool = False
    where: tuple[Coordinate, ...] = ()


@dataclass(frozen=True, slots=True)
class Binary:
    """dst = a op b; max and min are NaN where either is."""

    op: BinaryOp
    dst: Register
    a: Register
    b: Register


@dataclass(frozen=True, slots=True)
class Fma:
    """dst = a * b + c, rounded once."""

    dst: Register
    a: Register
    b: Register
    c: Register


@dataclass(frozen=True, slots=True)
class Sqrt:
    """dst = the square root of src; NaN below zero."""

    dst: Register
    src: Register


@dataclass(frozen=True, slots=True)
class Pair:
    """Lane i of dst = the bfloat16 of lane i of a, then of b, as 32 bits for `Dot`; both hold bfloat16 numbers."""

    dst: Register
    a: Register
    b: Register


@dataclass(frozen=True, slots=True)
class Dot:
    """dst = c + the second numbers' product, then + the first ones', of lanes a and b that are pairs of bfloat16."""

    dst: Register
    a: Register
    b: Register
    c: Register


@dataclass(frozen=True, slots=True)
class Select:
    """dst = x where the comparison of a and b holds, else y.

    "above": a > b, or a is NaN (the order in which PyTorch's max pooling looks for its winner); "equal": a == b.
    """

    test: Literal["above", "equal"]
    dst: Register
    a: Register
    b: Register
    x: Register
    y: Register


@dataclass(frozen=True, slots=True)
class Permute:
    """dst lane i = src lane order[i]; as many of them as there are lanes."""

    dst: Register
    src: Register
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Transpose:
    """As many registers as there are lanes: lane j of dst i = lane i of src j."""

    dst: tuple[Register, ...]
    src: tuple[Register, ...]


@dataclass(frozen=True, slots=True)
class Prefetch:
    """A hint that the line at this place will be read; it may lie outside the buffer."""

    at: At


@dataclass(frozen=True, slots=True)
class Range:
    """var in range(max(low), min(high), step)."""

    var: Var
    low: tuple[Affine, ...]
    high: tuple[Affine, ...]
    step: int = 1


@dataclass(frozen=True, slots=True)
class Loop:
    """The body, for each value of the range."""

    range: Range
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Indirect:
    """The body, with var = what a whole buffer holds at a place, or `last` where that is above it or below zero.

    So an access lies where data say, and is still proved to lie inside its buffer.
    """

    var: Var
    at: At
    last: int
    body: tuple[Statement, ...]


Statement = (
    Const
    | FromIndex
    | Load
    | Broadcast
    | Store
    | Binary
    | Fma
    | Sqrt
    | Pair
    | Dot
    | Select
    | Permute
    | Transpose
    | Prefetch
    | Loop
    | Indirect
)


@dataclass(frozen=True, slots=True)
class Stage:
    """A grid of work items, any of which may run at the same time as any other, then a barrier.

    `grid` pairs each variable with its extent, slowest first. With `repeat`, each thread goes through its own items
    once for every value of those loops (outermost first), so that what the items share stays in its cache. With
    `descending` it goes from its last item to its first, so that what the stage before left in its cache comes first.
    """

    name: str
    grid: tuple[tuple[Var, Affine], ...]
    body: tuple[Statement, ...]
    repeat: tuple[Range, ...] = ()
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Rounds:
    """The stages, one after the other, once for each value of the range; a barrier after each as ever."""

    range: Range
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class Kernel:
    """A whole kernel: what is passed (buffers, then sizes, in this order) and what is done."""

    name: str
    dtype: str
    lanes: int
    buffers: tuple[Buffer, ...]
    sizes: tuple[Size, ...]
    steps: tuple[Stage | Rounds, ...]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Every stage, those of rounds once."""
        return tuple(s for step in self.steps for s in (step.stages if isinstance(step, Rounds) else (step,)))
