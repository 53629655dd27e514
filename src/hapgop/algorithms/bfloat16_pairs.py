"""bfloat16 by products of pairs, two to an instruction, where the CPU has them (AVX512-BF16).

Two neighbouring channels are one number of 32 bits. So a convolution that sums `ic` channels is one of ic / 2 such
numbers, in which "multiply and add" means both products: float32's kernel for half the channels, with other
instructions. The weights' pairs are put together first where they are no neighbours. A weight gradient sums over
pixels: there, each channel of two pixels becomes a pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from hapgop.algorithms import costs
from hapgop.algorithms.direct import Direct
from hapgop.algorithms.direct_grad_w import DirectGradW
from hapgop.algorithms.layout import is_pointwise
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Pack, Recipe
from hapgop.machine import Machine
from hapgop.tile import Affine, Buffer, Builder, Kernel, Stage, as_pairs, with_buffers

_LEAST = 16  # channels of a group: of fewer, float32's kernels put several groups or pixels into a vector
_CHUNK = 1 << 12  # pairs that a work item puts together


@dataclass(frozen=True, slots=True)
class DirectPairs(Algorithm):
    """`conv` and `grad_x`, of channels last, where an even number of channels is summed."""

    name: str = "direct, pairs"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.op not in ("conv", "grad_x"):
            return f"computes conv and grad_x, not {problem.op}"
        s = problem.conv
        summed, layout = (s.ic, problem.x_layout) if problem.op == "conv" else (s.oc, problem.y_layout)
        if layout != "nhwc":
            return "reads channels last"
        if summed // s.groups % 2:
            return f"sums channels in pairs, and {summed // s.groups} are odd"
        if s.groups > 1 and min(s.ic, s.oc) // s.groups < _LEAST:
            return f"takes {_LEAST} channels a group or more where there are groups"
        return _unable(problem, machine) or Direct().refuses(_half_channels(problem), machine)

    def seconds(self, problem: Problem, machine: Machine) -> float:
        weights = 0 if problem.packed else prod(problem.conv.w_shape)
        return Direct().seconds(_half_channels(problem), machine) + 2 * weights / costs.PACKED

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        inner = Direct().recipe(_half_channels(problem), machine)
        run = _run(problem)
        packed = inner.pack is not None
        wide = {i for i, unchanged in ((_WEIGHTS, packed), (problem.tensors - 1, problem.pooled)) if unchanged}
        apart = {_WEIGHTS: run} if run and not packed else {}
        pairs = {0} if packed else {0, _WEIGHTS}

        def build() -> Kernel:
            return _of_pairs(inner.build(), problem.tensors, pairs, wide, apart, len(inner.private))

        return replace(
            inner,
            key=f"pairs {sorted(wide)} {apart} {inner.key}",
            build=build,
            scratch=(*inner.scratch, *(_pairs_of(problem) for _ in apart)),
            pack=inner.pack and _pack(inner.pack, run, _pairs_of(problem)),
        )


@dataclass(frozen=True, slots=True)
class PointwiseGradWPairs(Algorithm):
    """`grad_w` of 1x1 filters, of channels last and an even number of pixels."""

    name: str = "pointwise grad_w, pairs"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.op != "grad_w":
            return f"computes grad_w, not {problem.op}"
        s = problem.conv
        if not is_pointwise(s) or s.groups > 1:
            return "is for filters of one weight, one group and stride 1"
        if (problem.x_layout, problem.y_layout) != ("nhwc", "nhwc"):
            return "reads channels last"
        if s.n * s.ih * s.iw % 2:
            return f"sums pixels in pairs, and {s.n * s.ih * s.iw} are odd"
        return _unable(problem, machine) or DirectGradW().refuses(_half_pixels(problem), machine)

    def seconds(self, problem: Problem, machine: Machine) -> float:
        s = problem.shape
        inner = DirectGradW().seconds(_half_pixels(problem), machine)
        return inner + costs.turned(2 * (prod(s.x_shape) + prod(s.y_shape)), machine)

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        s = problem.conv
        inner = DirectGradW().recipe(_half_pixels(problem), machine)
        apart = {0: s.ic, 1: s.oc}

        def build() -> Kernel:
            return _of_pairs(inner.build(), problem.tensors, {0, 1}, set(), apart, len(inner.private))

        return replace(
            inner,
            key=f"pairs {apart} {inner.key}",
            build=build,
            scratch=(*inner.scratch, prod(s.x_shape) // 2, prod(s.y_shape) // 2),
        )


_WEIGHTS = 1  # their place among the tensors


def _unable(problem: Problem, machine: Machine) -> str | None:
    if problem.dtype != "bfloat16":
        return f"is for bfloat16, not {problem.dtype}"
    return None if machine.bf16 else f"needs products of pairs in hardware, which {machine.name} has not"


def _half_channels(problem: Problem) -> Problem:
    """The same with each pair of summed channels as one of float32."""
    s = problem.conv
    half = replace(s, ic=s.ic // 2) if problem.op == "conv" else replace(s, oc=s.oc // 2)
    return replace(problem, shape=half, dtype="float32")


def _half_pixels(problem: Problem) -> Problem:
    """The same with each pair of pixels as one of float32; where a row of an image has no half, of two images."""
    s = problem.conv
    pixels = s.ih * s.iw
    half = replace(s, ih=1, iw=pixels // 2) if pixels % 2 == 0 else replace(s, n=s.n // 2, ih=1, iw=pixels)
    return replace(problem, shape=half, dtype="float32")


def _run(problem: Problem) -> int:
    """Weights between the two of a pair, if they are no neighbours; else 0."""
    s = problem.conv
    if problem.op == "grad_x":
        return s.ic // s.groups * s.kh * s.kw
    together = problem.w_layout == "ohwi" or s.kh * s.kw == 1
    return 0 if together else s.kh * s.kw


def _pairs_of(problem: Problem) -> int:
    return prod(problem.conv.w_shape) // 2


def _pack(pack: Pack, run: int, pairs: int) -> Pack:
    """The weights come as bfloat16; packed ones are pairs."""
    return replace(
        pack,
        key=f"pairs {run} {pack.key}",
        build=lambda: _of_pairs(pack.build(), 1, {0}, set(), {0: run} if run else {}, len(pack.private)),
        scratch=(*pack.scratch, *([pairs] if run else [])),
    )


def _of_pairs(
    kernel: Kernel, tensors: int, pairs: set[int], wide: set[int], apart: Mapping[int, int], private: int
) -> Kernel:
    """float32's kernel on bfloat16: some tensors read as pairs, all narrow but the `wide` ones.

    apart: tensors whose pairs are put together first, in scratch that comes last before `private` buffers: from one
    number of a pair to the other.
    """
    given = {i: replace(kernel.buffers[i], narrow=True) for i in range(tensors) if i not in wide}
    for i in pairs:
        given[i] = replace(given[i], size=given[i].size * 2)
    together = {i: Buffer(f"{given[i].name}_pairs", kernel.buffers[i].size, "scratch") for i in apart}
    new = as_pairs(kernel, {kernel.buffers[i]: given[i] for i in pairs if i not in apart})
    new = with_buffers(
        new, {kernel.buffers[i]: together.get(i, b) for i, b in given.items() if i not in pairs - set(apart)}
    )
    buffers = [given.get(i, b) for i, b in enumerate(kernel.buffers)]
    end = len(buffers) - private
    stages = [stage for i, run in apart.items() for stage in _interleaving(kernel, given[i], together[i], run)]
    return replace(
        new,
        name=f"{kernel.name}_pairs",
        buffers=(*buffers[:end], *together.values(), *buffers[end:]),
        steps=(*stages, *new.steps),
    )


def _interleaving(kernel: Kernel, source: Buffer, target: Buffer, run: int) -> tuple[Stage, ...]:
    """Pair r of turn t is number 2 t run + r with the one that comes `run` after it."""
    k, lanes = Builder("interleave", kernel.dtype, kernel.lanes), kernel.lanes
    turns, whole = target.size // run, run - run % lanes
    at_once = max(1, _CHUNK // run)

    def pair(at: Affine, to: Affine, count: int) -> None:
        k.store(k.pair(k.load(source, at, count), k.load(source, at + run, count)), target, to, count)

    with k.stage(f"pairs of {source.name}", ("chunk", (turns + (at_once - 1)) // at_once)) as (chunk,):
        with k.loop("turn", chunk * at_once, [chunk * at_once + at_once, turns]) as t:
            if whole:
                with k.loop("vector", 0, whole, lanes) as r:
                    pair(t * (2 * run) + r, t * run + r, lanes)
            if whole < run:
                pair(t * (2 * run) + whole, t * run + whole, run - whole)
    return k.kernel().stages
