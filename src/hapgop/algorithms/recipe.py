"""What an algorithm is, and what it hands to the engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hapgop.algorithms.problem import Problem
from hapgop.machine import Machine
from hapgop.tile import Kernel

if TYPE_CHECKING:  # numpy.typing takes a third as long to import as all of NumPy
    from numpy import floating
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Pack:
    """How weights are laid out ahead of the calls that read them, once instead of in every call.

    The kernel's buffers are, in this order: w (in, as the problem's w_layout says), packed (out, `size` elements), the
    scratch buffers. It writes all of packed, which is best aligned to 64 bytes.

    key      names the layout as well as the program: weights packed under one key serve every problem whose recipe has
             a `Pack` of that key, such as other batch sizes
    build    makes the kernel; called only where no compiled object is at hand
    size     elements of the packed weights
    sizes    the values of the kernel's run-time sizes
    scratch  elements of each scratch buffer
    private  elements of each private buffer, for one thread; they come after the scratch
    items    the work items of the widest stage
    """

    key: str
    build: Callable[[], Kernel]
    size: int
    sizes: tuple[int, ...] = ()
    scratch: tuple[int, ...] = ()
    private: tuple[int, ...] = ()
    items: int = 1


@dataclass(frozen=True)
class Recipe:
    """How to run an algorithm on a problem.

    The kernel's buffers are, in this order: the tensors of the problem's op, the tables, the scratch buffers, the
    private buffers. Of a problem with `packed`, the weights' buffer is what `pack` made, and the kernel does no such
    work itself.

    key      names the program: two recipes with one key build the same kernel
    build    makes the kernel; called only where no compiled object is at hand
    sizes    the values of the kernel's run-time sizes
    tables   constant arrays of the problem's dtype
    scratch  elements of each scratch buffer
    private  elements of each private buffer, for one thread
    items    the work items of the widest stage: more threads than that have nothing to do
    tiles    the register tile in words, for people
    pack     of a problem with `packed`: how the weights are packed; None where the kernel reads w as it lies, so that
             the packed weights are w itself. Without `packed` it is None.
    """

    key: str
    build: Callable[[], Kernel]
    sizes: tuple[int, ...] = ()
    tables: tuple[NDArray[floating], ...] = ()
    scratch: tuple[int, ...] = ()
    private: tuple[int, ...] = ()
    items: int = 1
    tiles: str = ""
    pack: Pack | None = None


class Algorithm(ABC):
    """One way to compute some operations. To add one: a file here, and a line in `ALL`."""

    name: str

    @abstractmethod
    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        """Why this algorithm cannot do the problem, in words, or None where it can."""

    @abstractmethod
    def seconds(self, problem: Problem, machine: Machine) -> float:
        """The predicted time on one core."""

    def growth(self, problem: Problem) -> float:
        """How many times the error bound of plain sums the results may need; 1 where they are plain sums.

        The bound is (16 + 2 sqrt(terms)) unit roundings of the sum of the terms' magnitudes: of plain sums element by
        element; of what needs more, that of the largest such sum in the result, for a tile's values share their terms.
        """
        return 1.0

    @abstractmethod
    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        """How to do it; only asked where `refuses` returned None."""
