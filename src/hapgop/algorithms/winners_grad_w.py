"""The gradients of weights and bias where a ReLU and a 2x2 max pool follow, summed winner by winner.

A filter's gradient is the sum of the patches of its winners, each times the winner's number (`winners`). A block of a
patch's vectors stays in registers while an image's winners pass. Images are dealt to a number of groups that depends on
the shape alone, and the groups' sums are added in order. Around images lie zeros, which an infinite gradient makes NaN
of; by the definition nothing would be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

from hapgop.algorithms import costs
from hapgop.algorithms.layout import weight_strides
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Recipe
from hapgop.algorithms.winners import Patches, in_steps, refusal
from hapgop.machine import Machine
from hapgop.tile import Affine, Buffer, Builder, Kernel, Register

_GROUPS = 32  # enough for any usual number of cores to share out evenly; fixed, so that the bits are
_HELD = 3  # registers beside a block's sums: the winner's number, a vector of the patch, the bias' sum


@dataclass(frozen=True, slots=True)
class WinnersGradW(Algorithm):
    """`pooled_grad_w`, of few channels as of many."""

    name: str = "winners grad_w"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.op != "pooled_grad_w":
            return f"computes the gradient through a pool and a convolution at once, not {problem.op}"
        return refusal(problem, machine)

    def seconds(self, problem: Problem, machine: Machine) -> float:
        s, patches = problem.conv, Patches.of(problem, machine)
        cycles = s.n * patches.cycles(_HELD, costs.step_cycles(1, 1, patches.machine.vector_bytes) / costs.LATENCY)
        return cycles / costs.CLOCK + costs.CALL + costs.STAGE

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        patches, groups = Patches.of(problem, machine), min(max(problem.conv.n, 1), _GROUPS)
        rows, vectors = patches.blocks(_HELD)[0]
        return Recipe(
            key=f"winners_grad_w {patches} {groups}",
            build=partial(_kernel, patches, groups),
            sizes=(problem.conv.n,),
            scratch=(groups * _size(patches),),
            private=patches.private,
            items=groups,
            tiles=f"{len(rows)} rows x {len(vectors)} vectors",
        )


def _size(p: Patches) -> int:
    """Elements of a group's sums: [filter][row][vector][lane] of the weights, then [filter][lane] of the bias."""
    return p.shape.oc * (p.shape.kh * p.vectors + 1) * p.lanes


def _kernel(p: Patches, groups: int) -> Kernel:
    s, lanes = p.shape, p.lanes
    k = Builder("winners_grad_w", p.problem.dtype, lanes)
    n = k.size("n", low=0)
    x = k.buffer("x", n * prod(s.x_shape), "in")
    given = [k.buffer(name, n * p.pooled, "in") for name in ("g", "z", "winners")]
    dw, db = k.buffer("dw", prod(s.w_shape), "out"), k.buffer("db", s.oc, "out")
    sums = k.buffer("sums", groups * _size(p), "scratch")
    inside, through, places = (
        k.buffer(name, size, "private", whole=name == "places")
        for name, size in zip(("inside", "through", "places"), p.private, strict=True)
    )
    with k.stage("sums", ("group", groups)) as (group,):
        first = group * _size(p)
        for buffer, at, size in ((sums, first, _size(p)), (inside, Affine(), p.size)):
            _clear(k, buffer, at, size)
        with k.loop("image", group, n, groups) as image:
            p.seen(k, partial(_copy, k, x, image * prod(s.x_shape), inside))
            p.find(k, given, image, through, places, 0)
            for number, (rows, vectors) in enumerate(p.blocks(_HELD)):
                _add(k, p, (inside, through, places, sums), first, rows, vectors, with_bias=number == 0)
    _total(k, p, groups, sums, dw, db)
    return k.kernel()


def _copy(k: Builder, x: Buffer, first: Affine, inside: Buffer, at: Affine, place: Affine, count: int) -> None:
    k.store(k.load(x, first + at, count), inside, place, count)


def _clear(k: Builder, buffer: Buffer, first: Affine, size: int) -> None:
    zero = k.const(0.0)
    in_steps(k, size, k.lanes, lambda at, count: k.store(zero, buffer, first + at, count))


def _add(
    k: Builder, p: Patches, buffers: Sequence[Buffer], first: Affine, rows: range, vectors: range, *, with_bias: bool
) -> None:
    """An image's sums of some rows and vectors of patches, filter by filter."""
    inside, through, places, sums = buffers
    s, lanes = p.shape, p.lanes
    with k.loop("filter", 0, s.oc) as f:
        of_filter = first + f * (s.kh * p.vectors * lanes)
        spots = [(t, v, of_filter + (t * p.vectors + v) * lanes) for t in rows for v in vectors]
        acc = [k.load(sums, spot) for _, _, spot in spots]
        of_bias = first + (s.oc * s.kh * p.vectors + f) * lanes
        bias = k.load(sums, of_bias) if with_bias else None

        def visit(value: Register, patch: Affine) -> None:
            for (t, v, _), total in zip(spots, acc, strict=True):
                k.fma(k.load(inside, patch + t * p.row + v * lanes), value, total, into=total)
            if bias is not None:
                k.add(bias, value, into=bias)

        p.each_winner(k, through, places, f, 1, visit)
        for (_, _, spot), total in zip(spots, acc, strict=True):
            k.store(total, sums, spot)
        if bias is not None:
            k.store(bias, sums, of_bias)


def _total(k: Builder, p: Patches, groups: int, sums: Buffer, dw: Buffer, db: Buffer) -> None:
    """The groups' sums in order, written in the weights' layout."""
    s, lanes = p.shape, p.lanes
    strides = weight_strides(p.problem.w_layout, s.ic, s.kh, s.kw)

    def total(at: Affine) -> Register:
        found = k.load(sums, at)
        with k.loop("group", 1, groups) as group:
            k.add(found, k.load(sums, at + group * _size(p)), into=found)
        return found

    with k.stage("weights", ("filter", s.oc), ("row", s.kh)) as (f, t):
        for v in range(p.vectors):
            found = total((f * s.kh + t) * (p.vectors * lanes) + v * lanes)
            for lane, at, count in p.runs(v, strides):
                order = [min(lane + i, lanes - 1) for i in range(lanes)]
                k.store(k.permute(found, order), dw, f * strides.n + t * strides.h + at, count, strides.c)
    with k.stage("bias", ("filter", s.oc)) as (f,):
        k.store(total((f + s.oc * s.kh * p.vectors) * lanes), db, f, 1)
