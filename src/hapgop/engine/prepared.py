"""A plan made ready to run: compiled or loaded, and called on addresses."""

from __future__ import annotations

import ctypes
import struct
from math import prod

from hapgop.engine.compiled import compiled
from hapgop.engine.memory import rounded
from hapgop.engine.packer import Packer
from hapgop.engine.scratch import scratch
from hapgop.engine.team import get_threads, most_threads
from hapgop.errors import InputError
from hapgop.native import launch
from hapgop.planning import Plan
from hapgop.shape import ConvShape
from hapgop.tile import Affine, apart


class Prepared:
    """A problem ready to run; call it with the addresses of its tensors, in the order that `Problem` documents.

    The tensors are dense, of the problem's dtype and layouts; results are written whole. The bits are the same for any
    number of threads. Safe to call from several Python threads at once.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        recipe, problem = plan.recipe, plan.problem
        tables = [table.ctypes.data for table in recipe.tables]
        self._buffers = len(recipe.scratch) + len(recipe.private)
        self._layouts: dict[int, tuple[tuple[int, ...], int]] = {}
        self._words = struct.Struct(
            f"={_TENSORS[problem.op] + len(tables) + self._buffers + len(recipe.sizes)}q"
        ).pack  # a ctypes array takes twice as long
        self._tables, self._sizes = tuple(tables), recipe.sizes
        self._function = compiled(recipe.key, recipe.build, plan.machine)  # kept: the code lives as long as this object
        self._run = self._function.address
        self.bytes = self._function.bytes
        self._team = most_threads(plan.seconds, recipe.items)
        self._expected = int(plan.seconds * 1e9)
        self._pack: Packer | None = None

    def __call__(self, *pointers: int, threads: int | None = None) -> None:
        team = self._team
        if team > 1:
            team = min(team, threads or get_threads())
        if self._buffers:
            offsets, size = self._layouts.get(team) or self._laid_out(team)
            block = scratch(size)  # a name keeps it, whatever a signal's handler computes before the launch
            base = block.address
            words = self._words(*pointers, *self._tables, *[base + o for o in offsets], *self._sizes)
        else:
            words = self._words(*pointers, *self._tables, *self._sizes)
        launch(self._run, words, team, self._expected)

    def _laid_out(self, team: int) -> tuple[tuple[int, ...], int]:
        """Where scratch and private buffers start in one block, and the block's bytes."""
        recipe = self.plan.recipe
        private = [apart(Affine(elements)).const * team for elements in recipe.private]
        offsets = [0]
        for elements in (*recipe.scratch, *private):
            offsets.append(offsets[-1] + rounded(elements * self.plan.problem.itemsize))
        self._layouts[team] = tuple(offsets[:-1]), offsets[-1]
        return self._layouts[team]

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
            self._pack = Packer(self.plan.recipe.pack, self.plan.problem.itemsize, self.plan.machine)
        self._pack(w, packed, threads)


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
