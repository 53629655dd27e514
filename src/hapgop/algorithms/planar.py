"""Convolution where channels come first: vectors lie along the pixels of a row, and nothing is turned.

A tile is some vectors of neighbouring outputs times some output channels. For each tap and input channel it loads the
vectors of inputs, broadcasts each output channel's weight, and multiplies and adds. Weights are read as they lie. Where
there is padding or a stride, the input's rows are first copied with a margin, and by their residues mod stride, so that
every vector of inputs can be loaded whole; lanes whose tap falls into the padding keep their sum as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from math import ceil

import numpy as np

from hapgop.algorithms import costs, registers
from hapgop.algorithms.epilogue import unfused
from hapgop.algorithms.layout import Count, Strides, image_strides, is_pointwise, weight_strides
from hapgop.algorithms.margins import Margins
from hapgop.algorithms.planar_tile import Buffers, Plane, Tile
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Recipe
from hapgop.algorithms.segments import segments
from hapgop.algorithms.shares import Shares, Work, many
from hapgop.algorithms.track import Track, column_tracks, row_tracks
from hapgop.machine import Machine
from hapgop.shape import ConvShape
from hapgop.tile import Affine, Builder, Kernel

_ACROSS = 1.0  # cycles more for a load across two cache lines


@dataclass(frozen=True, slots=True)
class Planar(Algorithm):
    """`conv` of every shape and `grad_x` of horizontal stride 1, where channels come first."""

    name: str = "planar"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.op not in ("conv", "grad_x"):
            return f"computes conv and grad_x, not {problem.op}"
        s = problem.conv
        for name, layout, channels in (("input", problem.x_layout, s.ic), ("output", problem.y_layout, s.oc)):
            if layout != "nchw" and channels > 1:
                return f"wants channels first, but the {name}'s come last"
        if problem.op == "grad_x" and s.stride[1] > 1:
            return f"takes grad_x of horizontal stride 1, not {s.stride[1]}"
        if (reason := unfused(problem, "residual")) is not None:
            return reason
        plane = _Program.of(problem, machine).planes()[0]
        if any(segment.dynamic for segment in segments(plane.cols, plane.width)):
            return "unrolls the border of a row, and this one has too many tiles in it"
        return None

    def seconds(self, problem: Problem, machine: Machine) -> float:
        program = _Program.of(problem, machine)
        planes, s = program.planes(), program.shape
        cycles = program.batch * s.groups * sum(_cycles(plane, machine) for plane in planes)
        tensors = program.batch * (s.ic * s.ih * s.iw + s.oc * s.oh * s.ow) + s.oc * s.ic // s.groups * s.kh * s.kw
        total = max(cycles / costs.CLOCK, costs.traffic(tensors * problem.itemsize, machine))
        total += planes[0].margins.seconds(problem.itemsize * program.batch, planes[0].lanes, machine)
        return total + costs.CALL + (len(planes) - 1) * costs.STAGE

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        program = _Program.of(problem, machine)
        planes = program.planes()
        return Recipe(
            key=f"planar {program!r}",
            build=program.kernel,
            sizes=(program.batch,),
            tables=(np.arange(planes[0].lanes, dtype=problem.dtype),),
            scratch=tuple(size for _, size in program.scratch(program.batch)),
            items=max(program.batch * program.shares(plane).items for plane in planes),
            tiles=f"{planes[0].channels} channels x {planes[0].vectors} vectors of pixels",
        )


def _cycles(plane: Plane, machine: Machine) -> float:
    """Of a plane, for one image and group."""
    steps = plane.rows.hits / max(plane.rows.count, 1) * plane.cols.taps * plane.ic
    cycles = 0.0
    for m, strip in registers.runs(ceil(plane.cols.count / plane.lanes), plane.vectors):
        for n, channels in registers.runs(plane.oc, plane.channels):
            step = costs.step_cycles(channels, strip, machine.vector_bytes)
            # Taps but one load vectors that lie across two cache lines.
            step += _ACROSS * strip * (plane.cols.taps - 1) / max(plane.cols.taps, 1)
            cycles += m * n * (steps * step + channels * strip * costs.STORE + costs.TILE)
    return plane.rows.count * cycles


@dataclass(frozen=True, slots=True)
class _Program:
    """Everything that the kernel depends on (the batch size is passed at run time)."""

    problem: Problem
    machine: Machine
    batch: int
    images: int

    @classmethod
    def of(cls, problem: Problem, machine: Machine) -> _Program:
        s = problem.conv
        if is_pointwise(s):
            # A 1x1 filter sees no rows: an image is one of them.
            one = replace(s, n=1, ih=1, iw=s.ih * s.iw)
        else:
            one = s.with_batch(1)
        return cls(replace(problem, shape=one), machine, s.n, many(s.n, machine))

    @property
    def shape(self) -> ConvShape:
        return self.problem.conv

    def __repr__(self) -> str:
        m = self.machine
        return (
            f"{self.problem} {m.cpu} {m.isa} {m.vector_bytes} {m.registers} {m.l2} images={self.images} cores={m.cores}"
        )

    def planes(self) -> list[Plane]:
        """One for a convolution; one for each residue class of an input gradient's rows, and for what a cut leaves."""
        s, lanes, swap = self.shape, self.machine.lanes(self.problem.dtype), self.problem.op == "grad_x"
        ic, oc = s.ic // s.groups, s.oc // s.groups
        if swap:
            ic, oc = oc, ic
        cols = column_tracks(s, self.problem.op)[0]
        margins = self.margins(cols)
        target = image_strides("nchw", s.ic, s.ih, s.iw) if swap else image_strides("nchw", s.oc, s.oh, s.ow)
        weights = weight_strides(self.problem.w_layout, s.ic // s.groups, s.kh, s.kw)
        # Border tiles hold the number of each lane, a bound and a sum that some lanes take.
        free = replace(self.machine, registers=self.machine.registers - (3 if margins.copies else 0))
        step = (weights.c if swap else weights.n) * self.problem.itemsize
        most = registers.together(step)
        channels, vectors = registers.choose_tile(oc, ceil(cols.count / lanes), free, most)
        out = []
        for rows in row_tracks(s, self.problem.op):
            plane = Plane(rows, cols, margins, oc, ic, channels, vectors, lanes, target, weights, swap)
            out += _cut(plane) if is_pointwise(s) else [plane]
        return out

    def margins(self, cols: Track) -> Margins:
        s = self.shape
        channels, height = (s.oc, s.oh) if self.problem.op == "grad_x" else (s.ic, s.ih)
        return Margins.of(channels, height, cols)

    def shares(self, plane: Plane) -> Shares:
        blocks, tail = divmod(plane.oc, plane.channels)
        bytes_, rows, cols = self.problem.itemsize * plane.ic, plane.rows, plane.cols
        source = bytes_ * rows.count * rows.in_step * cols.count * cols.in_step
        weights, seconds = bytes_ * plane.oc * rows.taps * cols.taps, _cycles(plane, self.machine) / costs.CLOCK
        groups = self.shape.groups
        return Shares.of(
            Work(self.images, groups, rows.count, blocks, tail > 0, source, weights, seconds), self.machine
        )

    def scratch(self, n: Count) -> list[tuple[str, Count]]:
        margins = self.planes()[0].margins
        return [("margins", n * margins.size)] if margins.copies else []

    def kernel(self) -> Kernel:
        p, s = self.problem, self.shape
        k = Builder("planar", p.dtype, self.machine.lanes(p.dtype))
        n = k.size("n", low=0)
        x_size, y_size = n * (s.ic * s.ih * s.iw), n * (s.oc * s.oh * s.ow)
        source = k.buffer("x", x_size, "in") if p.op == "conv" else k.buffer("g", y_size, "in")
        w = k.buffer("w", s.oc * (s.ic // s.groups) * s.kh * s.kw, "in")
        bias = k.buffer("bias", p.biases, "in") if p.biases else None
        target = k.buffer("y", y_size, "out") if p.op == "conv" else k.buffer("dx", x_size, "out")
        residual = k.buffer("residual", y_size, "in") if p.residual else None
        numbers = k.buffer("lanes", k.lanes, "in")
        planes = self.planes()
        for name, size in self.scratch(n):
            copy = k.buffer(name, size, "scratch")
            planes[0].margins.emit(k, n, source, copy)
            source = copy
        buffers = Buffers(source, w, bias if p.bias else None, target, numbers, residual)
        for i, plane in enumerate(planes):
            body = partial(_row, k, plane, buffers, p.activation)
            self.shares(plane).emit(k, f"plane {i}", n, [(0, plane.rows.count, body)])
        return k.kernel()


def _row(
    k: Builder,
    plane: Plane,
    buffers: Buffers,
    activation: str | None,
    image: Affine,
    group: Affine,
    row: Affine,
    block: Affine,
    tail: bool,
) -> None:
    """A row of outputs of one block of channels."""
    channels = plane.oc % plane.channels if tail else plane.channels
    for segment in segments(plane.cols, plane.width):
        with k.loop("column", segment.start, segment.stop, segment.pixels) as column:
            Tile(k, plane, buffers, activation, image, group, row, column, segment, block, channels).emit()


def _cut(plane: Plane) -> list[Plane]:
    """One long row of pixels that see only themselves, as rows of one tile each, and what is left over."""
    full, rest = divmod(plane.cols.count, plane.width)
    out = []
    if full:
        rows = replace(plane.rows, count=full, in_size=full)
        cols = replace(plane.cols, count=plane.width, in_size=plane.width)
        margins = replace(plane.margins, row=plane.width)
        target = Strides(plane.target.n, plane.target.c, plane.width, 1)
        out.append(replace(plane, rows=rows, cols=cols, margins=margins, target=target))
    if rest:
        out.append(replace(plane, cols=replace(plane.cols, count=rest, in_size=rest), skipped=full * plane.width))
    return out
