"""The weight gradient by plain sums: each weight is the sum over all pixels of input times output gradient.

A register tile is some channels of one side, broadcast, times some vectors of channels of the other; the inner loop
runs over the pixels of a row. Vectors lie along the output channels, or along the input's where those are neighbours in
the weights. With few input channels, a tile takes (tap column, input channel) pairs instead of channels.
Threads share out tiles and groups of images, never the terms of one sum in an order that depends on them: the images
are dealt to a number of groups that depends on the shape and the machine, and the groups' sums are added in order.
What comes with its channels first is laid out with its channels last before anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import ceil

from hapgop.algorithms import costs, registers
from hapgop.algorithms.grad_w_sums import Sums
from hapgop.algorithms.grad_w_tile import Tile
from hapgop.algorithms.layout import Count, weight_strides
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Recipe
from hapgop.algorithms.turn import turn
from hapgop.machine import Machine
from hapgop.tile import Affine, Buffer, Builder, Kernel, Register


@dataclass(frozen=True, slots=True)
class DirectGradW(Algorithm):
    """`grad_w` of every shape."""

    name: str = "direct grad_w"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        return None if problem.op == "grad_w" else f"computes grad_w, not {problem.op}"

    def seconds(self, problem: Problem, machine: Machine) -> float:
        plan = Sums.of(problem, machine)
        s = plan.shape
        steps = plan.rows.hits * plan.cols.hits / (s.kw if plan.narrow else 1)
        bundled = costs.PERMUTE * plan.pairs + costs.LOOP if plan.bundle > 1 else 0
        down = registers.runs(plan.tall * (s.kw if plan.narrow else 1), plan.pairs)
        across = registers.runs(len(plan.counts), plan.vectors)
        tiles = sum(
            m * n * (costs.step_cycles(pairs, vectors, machine.vector_bytes) + bundled)
            for m, pairs in down
            for n, vectors in across
        )
        # Each visit of a tile loads and stores its sums, but for one that sees all there is to add.
        visits = 0 if plan.at_once else plan.batch * ceil(s.oh / plan.row_block) + plan.image_groups
        cycles = plan.batch * plan.groups * steps * tiles + visits * plan.size / plan.lanes * 2 * costs.STORE
        total = max(cycles / costs.CLOCK, costs.traffic(plan.batch * plan.image_bytes, machine))
        for name, size in _scratch(plan, plan.batch):
            if name != "sums":
                total += costs.turned(size * problem.itemsize, machine)
        return total + costs.CALL + 2 * costs.STAGE

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        plan = Sums.of(problem, machine)
        return Recipe(
            key=f"direct_grad_w {plan.image_groups} {plan.row_block} {plan.at_once} {plan.once_through} {plan.problem}"
            f" {machine}",
            build=partial(_kernel, plan),
            sizes=(plan.batch,),
            scratch=tuple(size for _, size in _scratch(plan, plan.batch)),
            items=plan.image_groups * plan.tiles,
            tiles=f"{plan.pairs} pairs x {plan.vectors} vectors",
        )


def _kernel(plan: Sums) -> Kernel:
    p, s = plan.problem, plan.shape
    k = Builder("direct_grad_w", p.dtype, plan.lanes)
    n = k.size("n", low=0)
    x = k.buffer("x", n * (s.ic * s.ih * s.iw), "in")
    g = k.buffer("g", n * (s.oc * s.oh * s.ow), "in")
    dw = k.buffer("dw", s.oc * plan.ic * s.kh * s.kw, "out")
    scratch = {name: k.buffer(name, size, "scratch") for name, size in _scratch(plan, n)}
    if plan.turns_x:
        turn(k, "x channels last", n, x, scratch["x_last"], s.ic, s.ih * s.iw)
    if plan.turns_g:
        turn(k, "g channels last", n, g, scratch["g_last"], s.oc, s.oh * s.ow)
    x, g = scratch.get("x_last", x), scratch.get("g_last", g)
    if plan.at_once:
        _add(plan, k, n, x, g, dw)
        return k.kernel()
    sums = scratch["sums"]
    with k.stage("zero", ("row", plan.image_groups * plan.size // plan.lanes)) as (row,):
        k.store(k.const(0.0), sums, row * plan.lanes)
    _add(plan, k, n, x, g, sums)
    _total(plan, k, sums, dw)
    return k.kernel()


def _scratch(plan: Sums, n: Count) -> list[tuple[str, Count]]:
    """The scratch buffers, for so many images."""
    s = plan.shape
    sizes = [] if plan.at_once else [("sums", n * 0 + plan.image_groups * plan.size)]
    sizes += [("x_last", n * (s.ic * s.ih * s.iw))] if plan.turns_x else []
    return sizes + ([("g_last", n * (s.oc * s.oh * s.ow))] if plan.turns_g else [])


def _add(plan: Sums, k: Builder, n: Affine, x: Buffer, g: Buffer, to: Buffer) -> None:
    """Every tile's sums, image group by image group."""
    s = plan.shape
    full, rest = divmod(plan.tall, plan.channels)
    # One image group's images are every `image_groups`-th: a thread does its tiles for one image, then the next.
    # Where the sums are many, it does so for some of them first, then for the next.
    by_row, panel = plan.by_row, plan.panel
    for name, tiles, channels, first in (
        ("sums", full, plan.channels, 0),
        ("sums tail", 1 if rest else 0, rest, full * plan.channels),
    ):
        if not tiles:
            continue
        run = min(tiles, plan.run)
        around = (
            ("kh", 0, s.kh if by_row else 1, 1),
            ("panel", 0, plan.blocks, panel),
            ("run", 0, tiles, run),
            ("base", 0, n, plan.image_groups),
            ("rows", 0, s.oh, plan.row_block),
        )
        grid = (
            ("images", plan.image_groups),
            ("group", plan.groups),
            ("tap_row", 1 if by_row else s.kh),
            ("tap_column", 1 if plan.narrow else s.kw),
            ("pairs", run),
            ("block", panel),
        )
        with k.stage(name, *grid, repeat=around) as values:
            tap, blocks, tall, base, rows, images, group, kh, kw, pair, block = values
            kh, block, pair = kh + tap, block + blocks, pair + tall
            # Loops of one turn, or of none behind the last of an uneven number.
            with (
                k.loop("image", base + images, [n, base + images + 1]) as image,
                k.loop("pairs", [pair], [pair + 1, Affine(tiles)]) as pair,
            ):
                channel = first + pair * plan.channels
                start = images * plan.size + (((group * s.kh + kh) * s.kw + kw) * plan.tall + channel) * plan.padded
                if plan.at_once:
                    strides = weight_strides(plan.problem.w_layout, plan.ic, s.kh, s.kw)
                    start = (group * plan.oc + channel) * strides.n + kh * strides.h + kw * strides.w
                # Loops of one turn: for whole blocks, or for the narrower last one.
                first_narrow, every = Affine(plan.whole_blocks), (plan.lanes,) * plan.vectors
                for low, high, counts in (
                    ((block,), (block + 1, first_narrow), every if plan.whole_blocks else ()),
                    ((block, first_narrow), (block + 1, Affine(plan.blocks)), plan.tail),
                ):
                    if not counts:
                        continue
                    with k.loop("this", low, high) as b:
                        vector = b * plan.vectors
                        tile = Tile(plan, k, x, g, channels, counts)
                        tile.emit(to, start + vector * plan.lanes, image, rows, group, kh, kw, channel, vector)


def _total(plan: Sums, k: Builder, sums: Buffer, dw: Buffer) -> None:
    """Adds the image groups' sums in order, and writes them in the weights' layout."""
    if not plan.along_input:
        _total_turned(plan, k, sums, dw)
        return
    s = plan.shape
    strides = weight_strides(plan.problem.w_layout, plan.ic, s.kh, s.kw)
    grid = (("group", plan.groups), ("tap_row", s.kh), ("tap_column", s.kw), ("channel", plan.tall))
    with k.stage("total", *grid) as (group, kh, kw, channel):
        at = (((group * s.kh + kh) * s.kw + kw) * plan.tall + channel) * plan.padded
        to = (group * plan.oc + channel) * strides.n + kh * strides.h + kw * strides.w
        for low, high, count in _runs(plan.counts):
            with k.loop("vector", low, high) as v:
                k.store(_sum(plan, k, sums, at + v * plan.lanes), dw, to + v * plan.lanes, count)


def _total_turned(plan: Sums, k: Builder, sums: Buffer, dw: Buffer) -> None:
    """The same where vectors lie along the output channels: squares of them and of one's weights are turned."""
    s, lanes = plan.shape, plan.lanes
    strides = weight_strides(plan.problem.w_layout, plan.ic, s.kh, s.kw)
    taps, each = strides.c, plan.ic * s.kh * s.kw
    whole, rest = divmod(each, lanes)

    def row(weight: Affine) -> Affine:
        """Which row of the sums is that of a weight, by its place among those of an output channel."""
        channel = weight // taps
        return weight if taps == 1 else (weight - channel * taps) * plan.ic + channel

    def squares(group: Affine, first: Affine, length: int) -> None:
        at, to = group * (each * plan.padded), group * (plan.oc * strides.n) + first
        for low, high, count in _runs(plan.counts):
            with k.loop("vector", low, high) as v:
                rows = [_sum(plan, k, sums, at + row(first + i) * plan.padded + v * lanes) for i in range(length)]
                for o, column in enumerate(k.transpose(rows)[:count]):
                    k.store(column, dw, to + (v * lanes + o) * strides.n, length)

    if whole:
        with k.stage("total", ("group", plan.groups), ("square", whole)) as (group, square):
            squares(group, square * lanes, lanes)
    if rest:
        with k.stage("total rest", ("group", plan.groups)) as (group,):
            squares(group, Affine(whole * lanes), rest)


def _sum(plan: Sums, k: Builder, sums: Buffer, at: Affine) -> Register:
    """A vector of the image groups' sums, added in order."""
    total = k.load(sums, at)
    for i in range(1, plan.image_groups):
        total = k.add(total, k.load(sums, at + i * plan.size))
    return total


def _runs(counts: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(first, last + 1, lanes) of equal vectors: (16, 16, 8) is [(0, 2, 16), (2, 3, 8)]."""
    out: list[tuple[int, int, int]] = []
    for i, count in enumerate(counts):
        if out and out[-1][2] == count:
            out[-1] = (out[-1][0], i + 1, count)
        else:
            out.append((i, i + 1, count))
    return out
