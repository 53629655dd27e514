"""Pixels as a net reads them: whole numbers from 0 to 255, times a scale, less a shift, one of each a channel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import ceil, gcd

from hapgop.algorithms import costs
from hapgop.algorithms.recipe import Recipe
from hapgop.machine import Machine
from hapgop.tile import Affine, Buffer, Builder, Kernel

_CHUNK = 4096  # elements of a work item, about
_UNROLLED = 8  # periods of a row up to which they are written out
TENSORS = 4


@dataclass(frozen=True, slots=True)
class Octets:
    """So many images, in memory rows of so many numbers, the channels of a pixel side by side.

    Tensors, in the order in which a kernel takes their addresses: x, uint8, whose rows and images begin so many octets
    after each other; scale and shift, float32, the channels' numbers again and again, `repeated` of them; y, float32,
    dense: x * scale - shift, each rounded, as NumPy has it.
    """

    images: int
    rows: int
    row: int
    row_pitch: int
    image_pitch: int
    channels: int

    @property
    def elements(self) -> int:
        """Numbers in all."""
        return self.images * self.rows * self.row

    @property
    def dense(self) -> bool:
        """Whether x, too, has nothing between rows and images."""
        return self.row_pitch == self.row and self.image_pitch == self.rows * self.row

    def repeated(self, machine: Machine) -> int:
        """Elements of scale and shift: a whole number of pixels, and of vectors."""
        return _period(self.channels, machine)


def seconds(octets: Octets, machine: Machine) -> float:
    """The predicted time on one core."""
    return costs.traffic(9 * octets.elements, machine) + costs.CALL


def recipe(octets: Octets, machine: Machine) -> Recipe:
    """How to do it."""
    period, lanes = _period(octets.channels, machine), machine.lanes("float32")
    isa = f"{machine.cpu} {machine.isa} {machine.vector_bytes}"
    if octets.dense:
        each = ceil(_CHUNK / period)
        return Recipe(
            key=f"octets dense {period} {isa}",
            build=partial(_dense, period, each, lanes),
            sizes=(octets.elements,),
            items=ceil(octets.elements / (each * period)),
            tiles=f"{period // lanes} vectors",
        )
    o, each = octets, ceil(_CHUNK / (octets.rows * octets.row))
    return Recipe(
        key=f"octets {o.rows} {o.row} {o.row_pitch} {o.image_pitch} {period} {isa}",
        build=partial(_rows, o, period, each, lanes),
        sizes=(o.images,),
        items=ceil(o.images / each),
        tiles=f"{period // lanes} vectors",
    )


def _period(channels: int, machine: Machine) -> int:
    lanes = machine.lanes("float32")
    return channels * lanes // gcd(channels, lanes)


@dataclass(frozen=True, slots=True)
class _Buffers:
    """A kernel's tensors, and what is done with some numbers that lie side by side."""

    k: Builder
    x: Buffer
    scale: Buffer
    shift: Buffer
    y: Buffer

    def visit(self, source: Affine, to: Affine, within: Affine, count: int) -> None:
        """`count` numbers, the first of which is at the place `within` of a period."""
        k = self.k
        scaled = k.mul(k.load(self.x, source, count), k.load(self.scale, within, count))
        k.store(k.sub(scaled, k.load(self.shift, within, count)), self.y, to, count)


def _buffers(k: Builder, given: Affine, period: int, found: Affine) -> _Buffers:
    x = k.buffer("x", given, "in", octets=True)
    return _Buffers(k, x, k.buffer("scale", period, "in"), k.buffer("shift", period, "in"), k.buffer("y", found, "out"))


def _dense(period: int, each: int, lanes: int) -> Kernel:
    k = Builder("octets", "float32", lanes)
    n = k.size("elements", low=0)
    b, whole = _buffers(k, n, period, n), n // period
    with k.stage("periods", ("chunk", (n + (each * period - 1)) // (each * period))) as (chunk,):
        with k.loop("period", chunk * each, [chunk * each + each, whole]) as i:
            for start in range(0, period, lanes):
                at = i * period + start
                b.visit(at, at, Affine(start), lanes)
        # What is left of the last period, one by one; only the last item has any.
        first = chunk * (each * period)
        with k.loop("left", [first, whole * period], [first + each * period, n]) as at:
            b.visit(at, at, at - whole * period, 1)
    return k.kernel()


def _rows(o: Octets, period: int, each: int, lanes: int) -> Kernel:
    k = Builder("octets_in_rows", "float32", lanes)
    n = k.size("images", low=0)
    b = _buffers(k, n * o.image_pitch, period, n * (o.rows * o.row))
    whole = o.row // period
    with (
        k.stage("images", ("chunk", (n + (each - 1)) // each)) as (chunk,),
        k.loop("image", chunk * each, [chunk * each + each, n]) as image,
        k.loop("row", 0, o.rows) as row,
    ):
        source = image * o.image_pitch + row * o.row_pitch
        to = image * (o.rows * o.row) + row * o.row
        if whole > _UNROLLED:
            with k.loop("period", 0, whole) as i:
                for start in range(0, period, lanes):
                    b.visit(source + i * period + start, to + i * period + start, Affine(start), lanes)
        for at in range(whole * period if whole > _UNROLLED else 0, o.row, lanes):
            b.visit(source + at, to + at, Affine(at % period), min(lanes, o.row - at))
    return k.kernel()
