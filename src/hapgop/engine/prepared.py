"""A plan made ready to run: compiled or loaded, and called on addresses."""

from __future__ import annotations

import ctypes
from math import prod

from hapgop.algorithms import Recipe
from hapgop.engine.runnable import Runnable
from hapgop.errors import InputError
from hapgop.planning import Plan
from hapgop.shape import ConvShape

_PACKED = 5e9  # bytes of weights that one core packs in a second, at least


class Prepared(Runnable):
    """A problem ready to run; call it with the addresses of its tensors, in the order that `Problem` documents.

    The tensors are dense, of the problem's dtype and layouts; results are written whole. The bits are the same for any
    number of threads. Safe to call from several Python threads at once.
    """

    def __init__(self, plan: Plan) -> None:
        problem = plan.problem
        super().__init__(plan.recipe, problem.tensors, problem.lane_bytes, plan.seconds, plan.machine)
        self.plan = plan
        self._pack: Runnable | None = None

    @property
    def packed_size(self) -> int:
        """Elements of the packed weights: of the problem's `inside` dtype where its recipe has a `Pack`, else w itself.

        Raises InputError where the problem takes the weights as they are.
        """
        problem = self.plan.problem
        if not problem.packed or not isinstance(problem.shape, ConvShape):
            raise InputError(f"this {problem.op} takes its weights as they are: plan the problem with packed=True")
        return self.plan.recipe.pack.size if self.plan.recipe.pack else prod(problem.shape.w_shape)

    def pack(self, w: int, packed: int, threads: int | None = None) -> None:
        """Lays out the weights at address w, dense in the problem's w_layout, as calls of this problem take them.

        packed: the address of `packed_size` elements, all of which are written; aligned to 64 bytes, calls are fastest.
        They serve every problem whose `plan.recipe.pack` has the same key. Raises InputError as `packed_size` does.
        """
        size, pack, problem = self.packed_size, self.plan.recipe.pack, self.plan.problem
        if pack is None:
            ctypes.memmove(packed, w, size * problem.itemsize)
            return
        if self._pack is None:
            recipe = Recipe(pack.key, pack.build, pack.sizes, (), pack.scratch, pack.private, pack.items)
            seconds = size * problem.lane_bytes / _PACKED
            self._pack = Runnable(recipe, 2, problem.lane_bytes, seconds, self.plan.machine)
        self._pack(w, packed, threads=threads)
