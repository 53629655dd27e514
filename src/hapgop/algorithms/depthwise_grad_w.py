"""The weight gradient of depthwise convolution: a filter of sums for each channel, vectors along the channels.

The outputs' gradient of some pixels of a row is held in registers while the row of inputs streams by: each input is
loaded once and multiplied with every gradient that it meets, into the sum of the tap between them. Small filters are
summed whole, large ones one row of taps after the other.
Sums begin at zero with every strip of rows and are then added to those in memory, so that no chain is long. Images and
strips are dealt to a number of groups that depends on the shape alone, and the groups' sums are added in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from hapgop.algorithms.depthwise_sums import Add, Sums
from hapgop.algorithms.depthwise_work import refusal, seconds
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Recipe
from hapgop.algorithms.turn import turn
from hapgop.machine import Machine
from hapgop.tile import Affine, Buffer, Builder, Kernel


@dataclass(frozen=True, slots=True)
class DepthwiseGradW(Algorithm):
    """`grad_w` with one channel a group."""

    name: str = "depthwise grad_w"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.op != "grad_w":
            return f"computes grad_w, not {problem.op}"
        reason = refusal(problem)
        if reason is None and not Sums.of(problem, machine).tiles:
            reason = "unrolls borders, and this one is too wide"
        return reason

    def seconds(self, problem: Problem, machine: Machine) -> float:
        return seconds(problem, machine)

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        s = problem.conv
        sums = Sums.of(problem, machine)
        sizes = [size for turns, size in zip(sums.turned, sums.images, strict=True) if turns]
        return Recipe(
            key=f"depthwise grad_w {sums} {machine.cpu} {machine.isa}",
            build=partial(_kernel, sums),
            sizes=(s.n,),
            scratch=(sums.groups * sums.work.packed, *[s.n * size for size in sizes]),
            items=sums.groups * sums.work.channel_groups,
            tiles=f"{sums.pixels} pixels x {sums.rows_at_once} x {sums.held} taps",
        )


def _kernel(sums: Sums) -> Kernel:
    work, c = sums.work, sums.work.shape.ic
    k = Builder("depthwise_grad_w", sums.problem.dtype, work.lanes)
    n = k.size("n", low=0)
    given = [k.buffer(name, n * size, "in") for name, size in zip("xg", sums.images, strict=True)]
    dw = k.buffer("dw", c * work.taps, "out")
    memory = k.buffer("sums", sums.groups * work.packed, "scratch")
    sources = []
    for buffer, size, turns in zip(given, sums.images, sums.turned, strict=True):
        if turns:
            last = k.buffer(f"{buffer.name}_last", n * size, "scratch")
            turn(k, f"{buffer.name} channels last", n, buffer, last, c, size // c)
            buffer = last
        sources.append(buffer)
    Add(sums, k, sources[0], sources[1], memory).emit(n)
    _total(sums, k, memory, dw)
    return k.kernel()


def _total(sums: Sums, k: Builder, memory: Buffer, dw: Buffer) -> None:
    """Adds the groups' sums in order, and turns them from [vector of channels][tap][lane] to [channel][tap]."""
    work = sums.work
    taps, lanes, (full, rest) = work.taps, work.lanes, divmod(work.shape.ic, work.lanes)

    def square(vector: Affine, tap: Affine, count: int, used: int) -> None:
        at = (vector * taps + tap) * lanes
        rows = [k.load(memory, at + i * lanes) for i in range(count)]
        with k.loop("group", 1, sums.groups) as group:
            for i, row in enumerate(rows):
                k.add(row, k.load(memory, at + group * work.packed + i * lanes), into=row)
        for i, channel in enumerate(k.transpose(rows)[:used]):
            k.store(channel, dw, (vector * lanes + i) * taps + tap, count)

    with k.stage("total", ("vector", len(work.counts))) as (vector,):
        for low, high, used in ((0, full, lanes), (full, full + 1, rest)):
            if low == high or not used:
                continue
            with k.loop("this", [vector, Affine(low)], [vector + 1, Affine(high)]) as v:
                done = taps - taps % lanes
                with k.loop("tap", 0, done, lanes) as tap:
                    square(v, tap, lanes, used)
                if done < taps:
                    square(v, Affine(done), taps - done, used)
