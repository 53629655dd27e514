"""The gradient of the input where a ReLU and a 2x2 max pool follow, spread winner by winner.

Each winner adds its filter, times its number, to the patch of the gradient that it comes from (`winners`). A block of a
filter's vectors stays in registers while winners pass. Neighbours' patches overlap, and what was just stored cannot be
loaded again at once; so the winners of some images take turns. An infinite gradient makes NaN of what lies beside its
patch's rows, where zeros fill a filter's last vector, which exact precision does not allow.
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

_SLOTS = 4  # images that take turns, where half the second cache holds them
_ITEMS = 8  # and where so many groups of them are left to be shared out
_HELD = 3  # registers beside a block's weights: the winner's number, a vector of the patch, one to spare


@dataclass(frozen=True, slots=True)
class WinnersGradX(Algorithm):
    """`pooled_grad_x`, of few channels as of many."""

    name: str = "winners grad_x"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.op != "pooled_grad_x":
            return f"computes the input's gradient through a pool, not {problem.op}"
        p = Patches.of(problem, machine)
        if problem.precision == "exact" and p.shape.kw * p.shape.ic % p.lanes:
            return "adds zeros, times a winner's number, beside a filter's row, which fills no vectors"
        return refusal(problem, machine)

    def seconds(self, problem: Problem, machine: Machine) -> float:
        s, patches = problem.conv, Patches.of(problem, machine)
        # A vector is loaded, multiplied, added and stored.
        cycles = s.n * patches.cycles(_HELD, max(1.0, 2 * costs.step_cycles(1, 1, patches.machine.vector_bytes) / 4))
        return cycles / costs.CLOCK + costs.CALL + costs.STAGE

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        patches, n = Patches.of(problem, machine), problem.conv.n
        (rows, vectors), slots = patches.blocks(_HELD)[0], _slots(patches, n)
        return Recipe(
            key=f"winners_grad_x {patches} {slots}",
            build=partial(_kernel, patches, slots),
            sizes=(n,),
            scratch=(_filter(patches) * patches.shape.oc,),
            private=tuple(size * slots for size in patches.private),
            items=max(1, n // slots, n % slots),
            tiles=f"{len(rows)} rows x {len(vectors)} vectors, {slots} images in turn",
        )


def _slots(p: Patches, n: int) -> int:
    """How many of n images take turns; it changes no sum's order."""
    return max(1, min(_SLOTS, n // _ITEMS, p.machine.l2 // 2 // (sum(p.private) * p.problem.itemsize)))


def _filter(p: Patches) -> int:
    """Elements of a filter in whole vectors: [row][vector][lane]."""
    return p.shape.kh * p.vectors * p.lanes


def _kernel(p: Patches, slots: int) -> Kernel:
    s = p.shape
    k = Builder("winners_grad_x", p.problem.dtype, p.lanes)
    n = k.size("n", low=0)
    given = [k.buffer(name, n * p.pooled, "in") for name in ("g", "z", "winners")]
    w, dx = k.buffer("w", prod(s.w_shape), "in"), k.buffer("dx", n * prod(s.x_shape), "out")
    packed = k.buffer("packed", _filter(p) * s.oc, "scratch")
    private = [
        k.buffer(name, size * slots, "private", whole=name == "places")
        for name, size in zip(("inside", "through", "places"), p.private, strict=True)
    ]
    _pack(k, p, w, packed)
    whole = n // slots
    with k.stage("images", ("some", whole)) as (some,):
        _spread(k, p, given, packed, private, dx, some * slots, slots)
    if slots > 1:
        with k.stage("images left", ("image", n - whole * slots)) as (image,):
            _spread(k, p, given, packed, private, dx, image + whole * slots, 1)
    return k.kernel()


def _pack(k: Builder, p: Patches, w: Buffer, packed: Buffer) -> None:
    """Each row of a filter in whole vectors, filled up with zeros."""
    s = p.shape
    strides = weight_strides(p.problem.w_layout, s.ic, s.kh, s.kw)
    with k.stage("filters", ("filter", s.oc), ("row", s.kh)) as (f, t):
        for v in range(p.vectors):
            to = ((f * s.kh + t) * p.vectors + v) * p.lanes
            k.store(k.const(0.0), packed, to)
            for lane, at, count in p.runs(v, strides):
                row = k.load(w, f * strides.n + t * strides.h + at, count, strides.c)
                k.store(row, packed, to + lane, count)


def _spread(
    k: Builder, p: Patches, given: Sequence[Buffer], packed: Buffer, private: Sequence[Buffer], dx: Buffer,
    image: Affine, slots: int,
) -> None:  # fmt: skip
    """The gradients of some images, the first of them `image`."""
    inside, through, places = private
    zero = k.const(0.0)
    in_steps(k, slots * p.size, p.lanes, lambda at, count: k.store(zero, inside, at, count))
    for slot in range(slots):
        p.find(k, given, image + slot, through, places, slot)
    for rows, vectors in p.blocks(_HELD):
        with k.loop("filter", 0, p.shape.oc) as f:
            spots = [(t * p.row + v * p.lanes, (t * p.vectors + v) * p.lanes) for t in rows for v in vectors]
            held = [(to, k.load(packed, f * _filter(p) + at)) for to, at in spots]
            p.each_winner(k, through, places, f, slots, partial(_add, k, inside, held))
    for slot in range(slots):
        _write(k, p, inside, slot, dx, (image + slot) * prod(p.shape.x_shape))


def _add(k: Builder, inside: Buffer, held: Sequence[tuple[int, Register]], value: Register, patch: Affine) -> None:
    """A part of a filter, times a winner's number; `held`: where it goes to in the patch, and its vectors."""
    for to, weights in held:
        k.store(k.fma(weights, value, k.load(inside, patch + to)), inside, patch + to)


def _write(k: Builder, p: Patches, inside: Buffer, slot: int, dx: Buffer, first: Affine) -> None:
    """The gradient of a slot's image; what no window sees has none."""
    s, (rows, width) = p.shape, p.overlap
    if rows < s.ih or width < s.iw * s.ic:
        zero = k.const(0.0)
        in_steps(k, prod(s.x_shape), p.lanes, lambda at, count: k.store(zero, dx, first + at, count))

    def copy(at: Affine, place: Affine, count: int) -> None:
        k.store(k.load(inside, place + slot * p.size, count), dx, first + at, count)

    p.seen(k, copy)
