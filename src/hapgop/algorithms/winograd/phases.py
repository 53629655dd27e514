"""The three phases of a fast convolution: tiles of the input transformed, products summed over channels, tiles of the
output transformed back, with what is fused to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hapgop.algorithms.epilogue import activated
from hapgop.algorithms.winograd.ahead import Ahead
from hapgop.algorithms.winograd.tiling import Side, Tiling
from hapgop.algorithms.winograd.transform import sandwich, sandwich_in_registers
from hapgop.algorithms.winograd.triple import Matrix
from hapgop.tile import Affine, Bound, Buffer, Builder, Register

_UNROLL = 4
_AHEAD = 2  # tiles; the hardware does not see the pattern by itself
_FILTERS_AHEAD = 1024  # elements
_ZERO = Affine(0)


class Tiled(Protocol):
    @property
    def across(self) -> tuple[int, int]:
        """Tiles down and across an image."""


def place(t: Tiled, tile: Affine) -> tuple[Affine, Affine, Affine]:
    """(image, tile row, tile column) of a tile's number."""
    down, across = t.across
    image = tile // (down * across)
    rest = tile - image * (down * across)
    row = rest // across
    return image, row, rest - row * across


def corner(tile: Affine, step: int, dilation: int) -> Affine:
    """The first row (or column) of a tile whose rows are `dilation` apart, of tiles `step` such rows apart."""
    if dilation == 1:
        return tile * step
    turn = tile // dilation
    return turn * (step * dilation) + (tile - turn * dilation)


def vectors(k: Builder, channels: int, body: Callable[[Affine, int], None]) -> None:
    """Calls body(vector, lanes) in a loop over whole vectors, and once for what is left."""
    whole, rest = divmod(channels, k.lanes)
    if whole:
        with k.loop("vector", 0, whole) as v:
            body(v, k.lanes)
    if rest:
        body(Affine(whole), rest)


@dataclass(slots=True)
class Gathering:
    """One side's tiles, transformed: out[i * products + j] = (M X M^T)[i][j] for each tile and vector of channels.

    wanted  rows of the result, if not all of them; out starts with the first
    """

    k: Builder
    side: Side
    matrix: Matrix
    in_step: int
    origin: tuple[int, int]
    patch: Buffer
    n: Affine
    dilation: tuple[int, int] = (1, 1)
    wanted: range | None = None

    def emit(
        self, x: Buffer, group: Affine, at_tile: tuple[Affine, Affine, Affine], to: Buffer, at: Affine, step: int,
        vector_step: int,
    ) -> None:  # fmt: skip
        """All vectors of a tile: the one of vector v goes to `at + v * vector_step`, its products `step` apart."""
        vectors(
            self.k, self.side.channels,
            lambda v, count: self.one(x, group, at_tile, v, count, to, at + v * vector_step, step),
        )  # fmt: skip

    def one(
        self, x: Buffer, group: Affine, at_tile: tuple[Affine, Affine, Affine], vector: Affine, count: int,
        to: Buffer, at: Affine, step: int,
    ) -> None:  # fmt: skip
        """One vector of a tile; what is outside of the image counts as zero."""
        k, size, products = self.k, len(self.matrix[0]), len(self.matrix)
        image, row, column = at_tile
        first = group * self.side.channels + vector * k.lanes
        (down, over), step_in = self.dilation, self.in_step
        top, left = corner(row, step_in, down) + self.origin[0], corner(column, step_in, over) + self.origin[1]
        line, pixel = self.side.width * self.side.total, self.side.total
        # Of residue classes the next tile is one pixel further, and lies in lines that were there before.
        ahead = image * (self.side.height * line) + top * line + (left + _AHEAD * self.in_step) * pixel + first
        if over == 1:
            with k.loop("ahead", 0, min(self.in_step, size)) as q:
                for r in range(size):
                    k.prefetch(x, ahead + q * pixel + r * (line * down))

        def load(r: Affine | int, q: Affine | int) -> Register:
            at_row, at_column = top + Affine.of(r) * down, left + Affine.of(q) * over
            return k.load(x, first, count, where=self.side.where(image, at_row, at_column, self.n))

        def store(value: Register, i: Affine | int, j: Affine | int) -> None:
            k.store(value, to, at + (Affine.of(i) * products + j) * step)

        sandwich(k, self.matrix, self.patch, load, store, self.wanted)


def multiply(
    k: Builder, t: Tiling, v: Buffer, v_at: Affine, u: Buffer, u_at: Affine, m: Buffer, m_at: Affine,
    width: int, depth: int, tiles: Bound, add: bool, unit: Affine = _ZERO, ahead: Sequence[Ahead] = (),
) -> None:  # fmt: skip
    """m[vector][tile] = (or +=, with `add`) sum over `depth` channels of v[channel][tile] * u[channel][vector].

    unit: the number of the first register tile, for what is fetched `ahead`.
    """
    lanes, pixels = k.lanes, t.tile[0]
    row = t.block * lanes  # from one vector of channels to the next
    with k.loop("tiles", 0, tiles, pixels) as first:
        for more in ahead:
            more.fetch(k, unit + first // pixels)
        places = [[m_at + w * row + first * lanes + p * lanes for w in range(width)] for p in range(pixels)]
        acc = [[k.load(m, place) if add else k.const(0.0) for place in line] for line in places]

        def step(at: Affine, from_: Affine) -> None:
            filters = [k.load(u, from_ + w * lanes) for w in range(width)]
            for w in range(width):
                k.prefetch(u, from_ + w * lanes + _FILTERS_AHEAD)
            for p in range(pixels):
                value = k.broadcast(v, at + p * lanes)
                for w in range(width):
                    k.fma(value, filters[w], acc[p][w], into=acc[p][w])

        whole, rest = divmod(depth, lanes)
        unroll = min(_UNROLL, lanes)
        if whole:
            with k.loop("vector", 0, whole) as c, k.loop("lane", 0, lanes, unroll) as i:
                for j in range(unroll):
                    step(v_at + c * row + first * lanes + i + j, u_at + (c * lanes + i + j) * (width * lanes))
        if rest:
            with k.loop("rest", 0, rest) as i:
                step(v_at + whole * row + first * lanes + i, u_at + (whole * lanes + i) * (width * lanes))
        for line, sums in zip(places, acc, strict=True):
            for at, total in zip(line, sums, strict=True):
                k.store(total, m, at)


@dataclass(slots=True)
class Finishing:
    """Tiles of the output: transformed back, with everything that is fused to it.

    step  elements from one product's sums to the next
    """

    k: Builder
    t: Tiling
    n: Affine
    results: Results
    patch: Buffer
    step: int

    def emit(
        self, group: Affine, at_tile: tuple[Affine, Affine, Affine], vector: Affine, count: int, m: Buffer, at: Affine
    ) -> None:
        k, t = self.k, self.t
        triple, side, bias, residual = t.triple, t.target, self.results.bias, self.results.residual
        image, row, column = at_tile
        first = group * side.channels + vector * k.lanes
        down, over = t.dilation
        top, left = corner(row, t.outputs, down), corner(column, t.outputs, over)

        def load(i: Affine | int, j: Affine | int) -> Register:
            return k.load(m, at + (Affine.of(i) * triple.products + j) * self.step)

        def store(value: Register, i: int, j: int) -> None:
            where = side.where(image, top + i * down, left + j * over, self.n)
            if bias:
                value = k.add(value, k.load(bias, first, count))
            if residual:
                value = k.add(value, k.load(residual, first, count, where=where))
            value = activated(k, value, t.problem.activation)
            if t.problem.pooled:
                k.store(value, self.patch, (i * t.outputs + j) * k.lanes)
            else:
                k.store(value, self.results.y, first, count, where=where)

        sandwich_in_registers(k, triple.at, load, store, t.machine.registers)
        if t.problem.pooled:
            self.pool(first, at_tile, count)

    def pool(self, first: Affine, at_tile: tuple[Affine, Affine, Affine], count: int) -> None:
        """The largest of each 2 x 2 pixels of a tile in `patch`, the first of equal ones; NaN is above all."""
        k, t = self.k, self.t
        image, row, column = at_tile
        half = t.outputs // 2
        with k.loop("down", 0, half) as p, k.loop("over", 0, half) as q:
            corner = p * (2 * t.outputs * k.lanes) + q * (2 * k.lanes)
            best, winner = k.load(self.patch, corner), k.const(0.0)
            for number in (1, 2, 3):
                value = k.load(self.patch, corner + (number // 2 * t.outputs + number % 2) * k.lanes)
                if t.problem.winners:
                    winner = k.select("above", value, best, k.const(float(number)), winner)
                best = k.select("above", value, best, value, best)
            where = t.result.where(image, row * half + p, column * half + q, self.n)
            k.store(best, self.results.y, first, count, where=where)
            if t.problem.winners and self.results.winners:
                k.store(winner, self.results.winners, first, count, where=where)


@dataclass(frozen=True, slots=True)
class Results:
    """What is written, and what is added on the way."""

    y: Buffer
    bias: Buffer | None = None
    residual: Buffer | None = None
    winners: Buffer | None = None


def patch_size(t: Tiling) -> int:
    """Elements that a transform needs between its two halves, and a pool before it."""
    a = t.triple
    return max(a.products * a.inputs, a.outputs**2, a.products * a.taps) * t.lanes


__all__ = ["Finishing", "Gathering", "Results", "multiply", "patch_size", "place", "vectors"]
