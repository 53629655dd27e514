"""A problem made ready to run: planned, compiled or loaded, and called on addresses."""

from __future__ import annotations

import ctypes
import hashlib
import threading
from collections.abc import Callable
from functools import cache, lru_cache
from math import prod
from pathlib import Path

from hapgop._version import __version__
from hapgop.algorithms import Pack, Problem
from hapgop.engine.scratch import rounded, scratch
from hapgop.engine.team import get_threads, most_threads
from hapgop.errors import InputError
from hapgop.machine import Machine, host
from hapgop.native import Function, launch, load
from hapgop.planning import Plan, choose
from hapgop.shape import ConvShape
from hapgop.tile import Kernel, check

_MOST = 4096  # problems kept ready; a plan is a few kilobytes
_KERNELS = 2048


class Refused(InputError):
    """No algorithm here takes the problem; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Prepared:
    """A problem ready to run; call it with the addresses of its tensors, in the order that `Problem` documents.

    The tensors are dense, of the problem's dtype and layouts; results are written whole. The bits are the same for any
    number of threads. Safe to call from several Python threads at once.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        recipe, problem = plan.recipe, plan.problem
        tables = [table.ctypes.data for table in recipe.tables]
        offsets, self._scratch = _laid_out([elements * problem.itemsize for elements in recipe.scratch])
        self._offsets = tuple(offsets)
        self._words = ctypes.c_int64 * (_TENSORS[problem.op] + len(tables) + len(offsets) + len(recipe.sizes))
        self._tables, self._sizes = tuple(tables), recipe.sizes
        self._function = _function(plan)  # kept: the code lives as long as this object
        self._run = self._function.address
        self._team = most_threads(plan.seconds, recipe.items)
        self._pack: _Packer | None = None

    def __call__(self, *pointers: int, threads: int | None = None) -> None:
        offsets = self._offsets
        if offsets:
            base = scratch(self._scratch)
            words = self._words(*pointers, *self._tables, *[base + o for o in offsets], *self._sizes)
        else:
            words = self._words(*pointers, *self._tables, *self._sizes)
        team = self._team
        if team > 1:
            team = min(team, threads or get_threads())
        launch(self._run, ctypes.addressof(words), team)

    @property
    def packed_size(self) -> int:
        """Elements of the packed weights. Raises InputError where the problem takes them as they are."""
        problem = self.plan.problem
        if not problem.packed or not isinstance(problem.shape, ConvShape):
            raise InputError(f"this {problem.op} takes its weights as they are: plan the problem with packed=True")
        return self.plan.recipe.pack.size if self.plan.recipe.pack else prod(problem.shape.w_shape)

    def pack(self, w: int, packed: int, threads: int | None = None) -> None:
        """Lays out the weights at address w, dense in the problem's w_layout, as calls of this problem take them.

        packed: the address of `packed_size` elements, all of which are written; aligned to 64 bytes, calls are fastest.
        They serve every problem whose `plan.recipe.pack` has the same key. Raises InputError as `packed_size` does.
        """
        size = self.packed_size
        if self.plan.recipe.pack is None:
            ctypes.memmove(packed, w, size * self.plan.problem.itemsize)
            return
        if self._pack is None:
            self._pack = _Packer(self.plan.recipe.pack, self.plan.problem.itemsize, self.plan.machine)
        self._pack(w, packed, threads)


class _Packer:
    """The packing of weights, ready to run."""

    def __init__(self, pack: Pack, itemsize: int, machine: Machine) -> None:
        self._offsets, self._scratch = _laid_out([elements * itemsize for elements in pack.scratch])
        self._sizes = pack.sizes
        self._function = _compiled(pack.key, pack.build, machine)
        self._team = most_threads(pack.size * itemsize / _PACKED, pack.items)

    def __call__(self, w: int, packed: int, threads: int | None) -> None:
        base = scratch(self._scratch)
        values = (w, packed, *[base + o for o in self._offsets], *self._sizes)
        words = (ctypes.c_int64 * len(values))(*values)
        launch(self._function.address, ctypes.addressof(words), min(self._team, threads or get_threads()))


def _laid_out(sizes: list[int]) -> tuple[list[int], int]:
    """Where buffers of so many bytes start in one block, and the block's size."""
    offsets = [0]
    for size in sizes:
        offsets.append(offsets[-1] + rounded(size))
    return offsets[:-1], offsets[-1]


_TENSORS = {
    "conv": 4,
    "grad_x": 3,
    "grad_w": 3,
    "grad_b": 2,
    "max_pool": 3,
    "max_pool_grad": 3,
    "avg_pool": 2,
    "avg_pool_grad": 2,
}

_PACKED = 5e9  # bytes of packed weights that one core writes in a second, at least

_making = threading.Lock()
_loaded: dict[str, Function] = {}


@lru_cache(_MOST)
def prepare(problem: Problem) -> Prepared:
    """A problem ready to run; the second call with an equal problem costs a look-up.

    Raises Refused where no algorithm takes it.
    """
    return Prepared(plan_for(problem))


@lru_cache(_MOST)
def plan_for(problem: Problem) -> Plan:
    """The plan for a problem on this machine."""
    try:
        return choose(problem, host())
    except InputError as error:
        raise Refused(str(error)) from None


def _function(plan: Plan) -> Function:
    """The plan's kernel, loaded; one for all plans with the same key."""
    return _compiled(plan.recipe.key, plan.recipe.build, plan.machine)


def _compiled(key: str, build: Callable[[], Kernel], machine: Machine) -> Function:
    with _making:
        function = _loaded.pop(key, None)
        if function is None:

            def make() -> Kernel:
                kernel = build()
                check(kernel, machine.registers)
                return kernel

            function = load(f"{key} {_generator()}", make, machine.cpu)
        _loaded[key] = function  # at the end: the first is the one unused for longest
        if len(_loaded) > _KERNELS:
            del _loaded[next(iter(_loaded))]
    return function


@cache
def _generator() -> str:
    """A digest of the code that makes kernels: an object made by other code is not ours."""
    rooms = Path(__file__).parents[1]
    sources = sorted(path for room in ("tile", "algorithms", "native") for path in (rooms / room).glob("*.py"))
    digest = hashlib.sha256(__version__.encode())
    for path in sources:
        digest.update(path.read_bytes())
    return digest.hexdigest()
