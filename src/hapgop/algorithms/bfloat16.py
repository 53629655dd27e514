"""bfloat16 by the kernels of float32: tensors are read and written as bfloat16, all sums are float32.

A load widens, a store rounds once, and what kernels read one element at a time (it would be widened once for every use)
is widened ahead, by a stage of its own. So each algorithm serves bfloat16 as it is, with its speed or better where
memory is the limit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from hapgop.algorithms import costs
from hapgop.algorithms.direct import Direct
from hapgop.algorithms.direct_grad_w import DirectGradW
from hapgop.algorithms.planar import Planar
from hapgop.algorithms.planar_grad_w import PlanarGradW
from hapgop.algorithms.problem import MAP_OPS, POOLED_OPS, Problem
from hapgop.algorithms.recipe import Algorithm, Pack, Recipe
from hapgop.machine import Machine
from hapgop.shape import ConvShape
from hapgop.tile import Buffer, Builder, Kernel, Stage, with_buffers

_SPREADING = (Direct, DirectGradW, Planar, PlanarGradW)  # put single elements into all lanes, in their inner loops
_CHUNK = 1 << 14  # elements that a work item widens


@dataclass(frozen=True, slots=True)
class Bfloat16(Algorithm):
    """An algorithm of float32, on tensors of bfloat16."""

    inner: Algorithm
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.inner.name)

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.dtype != "bfloat16":
            return f"is for bfloat16, not {problem.dtype}"
        if problem.op in MAP_OPS + POOLED_OPS:
            return f"computes no {problem.op} of bfloat16"
        return self.inner.refuses(_wide(problem), machine)

    def seconds(self, problem: Problem, machine: Machine) -> float:
        widened = sum(prod(shape) for shape in self._ahead(problem).values())
        return self.inner.seconds(_wide(problem), machine) + costs.turned(4 * widened, machine) * bool(widened)

    def growth(self, problem: Problem) -> float:
        return self.inner.growth(_wide(problem))

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        wide, ahead = _wide(problem), self._ahead(problem)
        recipe = self.inner.recipe(wide, machine)
        wide_ones = {_WINNERS.get(problem.op), problem.tensors - 1 if problem.pooled else None}
        wide_ones.add(_WEIGHTS if recipe.pack else None)
        narrow = [i for i in range(problem.tensors) if i not in wide_ones]
        return replace(
            recipe,
            key=f"bfloat16 {narrow} {list(ahead)} {recipe.key}",
            build=lambda: _narrowed(recipe.build(), narrow, list(ahead), len(recipe.private)),
            scratch=(*recipe.scratch, *(prod(shape) for shape in ahead.values())),
            pack=recipe.pack and _narrow_pack(recipe.pack),
        )

    def _ahead(self, problem: Problem) -> dict[int, tuple[int, ...]]:
        """The tensors that are widened ahead, by their places, and their sizes."""
        s = problem.shape
        if not isinstance(self.inner, _SPREADING) or not isinstance(s, ConvShape):
            return {}
        if problem.op == "grad_w":
            return {0: s.x_shape, 1: s.y_shape}
        return {0: s.x_shape if problem.op == "conv" else s.y_shape}


# Places among the tensors: of the weights of conv and grad_x, and of a pool's winners.
_WEIGHTS = 1
_WINNERS = {"max_pool": 2, "max_pool_grad": 1}


def _wide(problem: Problem) -> Problem:
    return replace(problem, dtype="float32")


def _narrow_pack(pack: Pack) -> Pack:
    """The weights come as bfloat16; packed ones are float32, as the kernels want them."""
    return replace(pack, key=f"bfloat16 {pack.key}", build=lambda: _narrowed(pack.build(), [0], [], 0))


def _narrowed(kernel: Kernel, narrow: list[int], ahead: list[int], private: int) -> Kernel:
    """The kernel with some of its buffers narrow, those `ahead` by way of scratch: the last before `private` ones."""
    given = {i: replace(kernel.buffers[i], narrow=True) for i in narrow}
    wide = {i: Buffer(f"{kernel.buffers[i].name}_wide", kernel.buffers[i].size, "scratch") for i in ahead}
    read = with_buffers(kernel, {kernel.buffers[i]: wide.get(i, given[i]) for i in narrow})
    buffers = [given.get(i, buffer) for i, buffer in enumerate(kernel.buffers)]
    end = len(buffers) - private
    stages = [stage for i in ahead for stage in _widening(kernel, given[i], wide[i])]
    return replace(
        read,
        name=f"{kernel.name}_bfloat16",
        buffers=(*buffers[:end], *wide.values(), *buffers[end:]),
        steps=(*stages, *read.steps),
    )


def _widening(kernel: Kernel, source: Buffer, target: Buffer) -> tuple[Stage, ...]:
    k = Builder("widen", kernel.dtype, kernel.lanes)
    size, lanes = source.size, kernel.lanes
    with k.stage(f"widen {source.name}", ("chunk", (size + (_CHUNK - 1)) // _CHUNK)) as (chunk,):
        first = chunk * _CHUNK
        with k.loop("vector", first, [first + _CHUNK, size - (lanes - 1)], lanes) as at:
            k.store(k.load(source, at), target, at)
    if any(step % lanes for step in (size.const, *size.terms.values())):
        with k.stage(f"widen the rest of {source.name}", ("all", 1)):
            with k.loop("element", size // lanes * lanes, size) as at:
                k.store(k.load(source, at, 1), target, at, 1)
    return k.kernel().stages
