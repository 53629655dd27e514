"""The bias gradient: the sum of the output's gradient over images and pixels, for each channel.

Channels last, the gradient is one long run of pixels, dealt to chunks; a step adds as many as make whole vectors.
Channels first, every plane is a run of its own, its vectors are added, and in the end their lanes. Either way the order
of the sums depends on the shape alone, and sums of sums keep the rounding error small.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import ceil, lcm

from hapgop.algorithms.layout import vector_counts
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Recipe
from hapgop.machine import Machine
from hapgop.tile import Affine, Buffer, Builder, Kernel, Register

_CHUNKS = 32  # enough for any usual number of cores; fixed, so that the bits are
_CHAIN = 64  # steps added to one sum before it is added to the sum of such sums
_PLANE_SUMS = 4  # vectors of a plane that are added side by side, so that no addition waits for the one before


@dataclass(frozen=True, slots=True)
class Bias(Algorithm):
    """`grad_b` of every shape."""

    name: str = "bias"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        return None if problem.op == "grad_b" else f"computes grad_b, not {problem.op}"

    def seconds(self, problem: Problem, machine: Machine) -> float:
        n, c, h, w = problem.conv.y_shape
        return n * c * h * w * problem.itemsize / 20e9 + 1e-6

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        n, c, h, w = problem.conv.y_shape
        lanes = machine.lanes(problem.dtype)
        if problem.y_layout == "nhwc" or c == 1 or h * w == 1:
            last = _Last.of(n * h * w, c, lanes, machine.registers // 4)
            return Recipe(
                key=f"bias last {last} {problem.dtype} {machine}",
                build=partial(last.kernel, problem.dtype),
                sizes=(n * h * w,),
                scratch=(last.chunks * last.row,),
                items=last.chunks * max(last.whole, 1),
                tiles=f"{last.pixels} pixels x {last.vectors} vectors",
            )
        first = _First(c, h * w, lanes, min(max(n, 1), _CHUNKS))
        return Recipe(
            key=f"bias first {first} {problem.dtype} {machine}",
            build=partial(first.kernel, problem.dtype),
            sizes=(n,),
            scratch=(first.groups * first.padded * lanes,),
            items=first.groups * max(1, c // lanes),
            tiles=f"{_PLANE_SUMS} vectors of a plane",
        )


@dataclass(frozen=True, slots=True)
class _Last:
    """Channels last.

    pixels    that a step adds
    vectors   of a block, for each pixel; or, in a flat step, of all its pixels together, which fill them without a gap
    """

    c: int
    lanes: int
    chunks: int
    pixels: int
    vectors: int
    flat: bool

    @classmethod
    def of(cls, pixels: int, c: int, lanes: int, most: int) -> _Last:
        period = lcm(c, lanes)
        if period <= most * lanes:
            vectors = most * lanes // period * period // lanes
            step, flat = vectors * lanes // c, True
        else:
            vectors = min(most, ceil(c / lanes))
            step, flat = most // vectors, False
        # A power of two: a last, smaller batch has as many, and so the same kernel.
        chunks = 1 << (ceil(pixels / step / _CHAIN) - 1).bit_length() if pixels else 1
        return cls(c, lanes, min(_CHUNKS, chunks), step, vectors, flat)

    @property
    def row(self) -> int:
        """Elements of a chunk's sums."""
        return self.vectors * self.lanes if self.flat else self.pixels * self.padded

    @property
    def padded(self) -> int:
        return ceil(self.c / self.lanes) * self.lanes

    @property
    def whole(self) -> int:
        """Whole blocks of channels."""
        return 1 if self.flat else self.c // (self.vectors * self.lanes)

    def kernel(self, dtype: str) -> Kernel:
        k = Builder("bias", dtype, self.lanes)
        n = k.size("pixels", low=0)
        g, db = k.buffer("g", n * self.c, "in"), k.buffer("db", self.c, "out")
        sums = k.buffer("sums", self.chunks * self.row, "scratch")
        rest = () if self.flat else vector_counts(self.c - self.whole * self.vectors * self.lanes, self.lanes)
        for name, blocks, counts, channel in (
            ("sums", self.whole, (self.lanes,) * self.vectors, 0),
            ("sums tail", 1 if rest else 0, rest, self.whole * self.vectors * self.lanes),
        ):
            if blocks:
                with k.stage(name, ("chunk", self.chunks), ("block", blocks)) as (chunk, block):
                    self.chunk(k, n, g, sums, chunk, block * (self.vectors * self.lanes) + channel, counts)
        full, left = divmod(self.c, self.lanes)
        for name, vectors, first, count in (("total", full, 0, self.lanes), ("total tail", 1, full * self.lanes, left)):
            if vectors and count:
                with k.stage(name, ("vector", vectors)) as (vector,):
                    self.total(k, n, g, sums, db, vector * self.lanes + first, count)
        return k.kernel()

    def chunk(
        self, k: Builder, n: Affine, g: Buffer, sums: Buffer, chunk: Affine, channel: Affine, counts: tuple[int, ...]
    ) -> None:
        """The sums of one chunk of the steps."""
        # (where in a step, where in the sums, lanes) of each vector
        if self.flat:
            places = [(v * self.lanes, v * self.lanes, self.lanes) for v in range(self.vectors)]
        else:
            places = [
                (u * self.c + v * self.lanes, u * self.padded + v * self.lanes, count)
                for u in range(self.pixels)
                for v, count in enumerate(counts)
            ]
        totals = [k.const(0.0) for _ in places]
        steps = n // self.pixels
        with k.loop("chain", chunk * _CHAIN, steps, self.chunks * _CHAIN) as chain:
            parts = [k.const(0.0) for _ in places]
            with k.loop("step", chain, [chain + _CHAIN, steps]) as step:
                for part, (at, _, count) in zip(parts, places, strict=True):
                    k.add(part, k.load(g, step * (self.pixels * self.c) + channel + at, count), into=part)
            for total, part in zip(totals, parts, strict=True):
                k.add(total, part, into=total)
        for total, (_, to, _) in zip(totals, places, strict=True):
            k.store(total, sums, chunk * self.row + channel + to)

    def total(self, k: Builder, n: Affine, g: Buffer, sums: Buffer, db: Buffer, channel: Affine, count: int) -> None:
        """A vector of channels: the chunks' sums, and the pixels that fill no step."""
        total = k.const(0.0)
        stride = self.c if self.flat else self.padded
        with k.loop("chunk", 0, self.chunks) as chunk:
            for u in range(self.pixels):
                k.add(total, k.load(sums, chunk * self.row + u * stride + channel, count), into=total)
        with k.loop("pixel", n // self.pixels * self.pixels, n) as pixel:
            k.add(total, k.load(g, pixel * self.c + channel, count), into=total)
        k.store(total, db, channel, count)


@dataclass(frozen=True, slots=True)
class _First:
    """Channels first: planes of `size` pixels. Images are dealt to `groups`."""

    c: int
    size: int
    lanes: int
    groups: int

    @property
    def blocks(self) -> list[tuple[int, int, int]]:
        """(blocks, channels in each, first channel): vectors of channels, and what is left over."""
        full, rest = divmod(self.c, self.lanes)
        return [b for b in ((full, self.lanes, 0), (int(rest > 0), rest, full * self.lanes)) if b[0]]

    @property
    def padded(self) -> int:
        return ceil(self.c / self.lanes) * self.lanes

    def kernel(self, dtype: str) -> Kernel:
        k = Builder("bias", dtype, self.lanes)
        n = k.size("n", low=0)
        g, db = k.buffer("g", n * (self.c * self.size), "in"), k.buffer("db", self.c, "out")
        # For each group and channel a vector; the first of a block of channels then takes the sums of their lanes.
        sums = k.buffer("sums", self.groups * self.padded * self.lanes, "scratch")
        for blocks, count, first in self.blocks:
            with k.stage(f"sums {count}", ("group", self.groups), ("block", blocks)) as (group, block):
                at = block * self.lanes + first
                to = (group * self.padded + at) * self.lanes
                with k.loop("channel", 0, count) as channel:
                    total = k.const(0.0)
                    with k.loop("image", group, n, self.groups) as image:
                        place = image * (self.c * self.size) + (at + channel) * self.size
                        k.add(total, self.plane(k, g, place), into=total)
                    k.store(total, sums, to + channel * self.lanes)
                rows = k.transpose([k.load(sums, to + i * self.lanes) for i in range(count)])
                while len(rows) > 1:
                    rows = [k.add(a, b) for a, b in zip(rows[::2], rows[1::2], strict=True)]
                k.store(rows[0], sums, to)
        for blocks, count, first in self.blocks:
            with k.stage(f"total {count}", ("block", blocks)) as (block,):
                total, at = k.const(0.0), block * self.lanes + first
                with k.loop("group", 0, self.groups) as group:
                    k.add(total, k.load(sums, (group * self.padded + at) * self.lanes), into=total)
                k.store(total, db, at, count)
        return k.kernel()

    def plane(self, k: Builder, g: Buffer, at: Affine) -> Register:
        """A vector whose lanes add up to a plane's sum."""
        step = _PLANE_SUMS * self.lanes
        parts = [k.const(0.0) for _ in range(_PLANE_SUMS)]
        with k.loop("pixel", 0, self.size - self.size % step, step) as pixel:
            for i, part in enumerate(parts):
                k.add(part, k.load(g, at + pixel + i * self.lanes), into=part)
        done = self.size - self.size % step
        for i, count in enumerate(vector_counts(self.size - done, self.lanes)):
            k.add(parts[i], k.load(g, at + done + i * self.lanes, count), into=parts[i])
        return k.add(k.add(parts[0], parts[1]), k.add(parts[2], parts[3]))
