"""The tile programs of maps: rows of channels, a work item some vectors or some rows of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import ceil

from hapgop.algorithms import costs
from hapgop.algorithms.maps.functions import FUNCTIONS, exp_of_negative
from hapgop.algorithms.maps.problem import TENSORS, MapProblem
from hapgop.algorithms.recipe import Recipe
from hapgop.algorithms.row import Row
from hapgop.algorithms.turn import turn
from hapgop.machine import Machine
from hapgop.tile import Affine, Buffer, Builder, Kernel, Register

_WHOLE_ROWS = ("softmax", "layer_norm")  # every number of a result needs all of its pixel
_CHUNK = 64  # vectors of a work item, about: 4 KB at a time in each tensor
# Cycles of a vector's function, beside loading and storing it.
_CYCLES = {"elu": 40, "sigmoid": 40, "silu": 42, "tanh": 44, "gelu": 24, "gelu_tanh": 44, "softmax": 50}


def seconds(problem: MapProblem, machine: Machine) -> float:
    """The predicted time on one core."""
    vectors = problem.elements / machine.lanes("float32")
    cycles = vectors * (TENSORS[problem.op] + _CYCLES.get(problem.function or problem.op, 4))
    bytes_ = 4 * TENSORS[problem.op] * problem.elements
    return max(cycles / costs.CLOCK, costs.traffic(bytes_, machine)) + costs.CALL


def recipe(problem: MapProblem, machine: Machine) -> Recipe:
    """How to do it."""
    p, lanes = problem, machine.lanes("float32")
    isa = f"{machine.cpu} {machine.isa} {machine.vector_bytes} {machine.registers}"
    how = f"{p.op} {p.function} {p.alpha if p.function in ('leaky_relu', 'elu') else 0}"
    if p.op == "first":
        return Recipe(
            key=f"map first {p.pixels} {p.channels} {isa}",
            build=partial(_first, p, lanes),
            sizes=(p.images,),
            items=p.images * ceil(p.channels / (8 * lanes)),
            tiles="squares of channels and pixels",
        )
    if p.op == "blend":
        how = f"{how} {p.alpha} {p.beta}"
    if p.op in ("apply", "blend") or (p.op in ("add", "mul") and p.over == "all"):
        return Recipe(
            key=f"map flat {how} {isa}",
            build=partial(_flat, p, lanes),
            sizes=(p.elements,),
            items=max(1, ceil(p.elements / (_CHUNK * lanes))),
            tiles=f"{_CHUNK} vectors",
        )
    rows = _Rows(p, lanes, max(1, _CHUNK * lanes // p.channels))
    by_image = p.pixels if rows.by_image else 0
    return Recipe(
        key=f"map rows {how} {p.channels} {p.over} {by_image} {p.pitch} {p.eps} {isa}",
        build=rows.kernel,
        sizes=(p.images if rows.by_image else p.images * p.pixels,),
        private=(rows.row.private,) if p.op in _WHOLE_ROWS else (),
        items=max(1, ceil(p.pixels / rows.each) * p.images if by_image else ceil(p.images * p.pixels / rows.each)),
        tiles=f"{rows.each} pixels",
    )


def _first(p: MapProblem, lanes: int) -> Kernel:
    k = Builder("map_first", "float32", lanes)
    n = k.size("n", low=0)
    x, y = k.buffer("x", n * (p.pixels * p.channels), "in"), k.buffer("y", n * (p.pixels * p.channels), "out")
    # From channels last to channels first is the way back, with pixels for channels.
    turn(k, "channels first", n, x, y, p.pixels, p.channels)
    return k.kernel()


def _after(k: Builder, p: MapProblem, value: Register) -> Register:
    return value if p.function is None else FUNCTIONS[p.function](k, value, p.alpha)


def _flat(p: MapProblem, lanes: int) -> Kernel:
    """Numbers that stand each for itself: whole vectors, and one by one what fills none."""
    k = Builder(f"map_{p.op}", "float32", lanes)
    n = k.size("n", low=0)
    names = ("x",) if p.op == "apply" else ("a", "b")
    sources, y = [k.buffer(name, n, "in") for name in names], k.buffer("y", n, "out")

    def visit(at: Affine, count: int) -> None:
        value, *rest = [k.load(source, at, count) for source in sources]
        if p.op == "blend":
            value = k.mul(value, k.const(p.alpha))
            if p.beta:  # infinity times zero would be NaN
                value = k.fma(rest[0], k.const(p.beta), value)
        elif rest:
            value = (k.add if p.op == "add" else k.mul)(value, rest[0])
        k.store(_after(k, p, value), y, at, count)

    vectors, chunk_size = n // lanes, _CHUNK * lanes
    with k.stage("numbers", ("chunk", (n + (chunk_size - 1)) // chunk_size)) as (chunk,):
        with k.loop("vector", chunk * _CHUNK, [chunk * _CHUNK + _CHUNK, vectors]) as v:
            visit(v * lanes, lanes)
        with k.loop("one", [chunk * chunk_size, vectors * lanes], [chunk * chunk_size + chunk_size, n]) as i:
            visit(i, 1)
    return k.kernel()


@dataclass(frozen=True, slots=True)
class _Rows:
    """Pixels with their channels, `each` of them a work item."""

    p: MapProblem
    lanes: int
    each: int

    @property
    def by_image(self) -> bool:
        return self.p.op in ("add", "mul") and self.p.over == "image"

    @property
    def row(self) -> Row:
        """A pixel's channels."""
        return Row(self.p.channels, self.lanes)

    def kernel(self) -> Kernel:
        p, c = self.p, self.p.channels
        k = Builder(f"map_{p.op}", "float32", self.lanes)
        n = k.size("n", low=0)
        pixels = n * p.pixels if self.by_image else n
        x = k.buffer("x", pixels * c, "in")
        others = []
        if p.op in ("norm", "layer_norm"):
            others = [k.buffer("scale", c, "in"), k.buffer("shift", c, "in")]
        elif p.op in ("add", "mul"):
            others = [k.buffer("b", n * c if self.by_image else pixels, "in")]
        y = k.buffer("y", pixels * (p.pitch or c), "out")
        own = k.buffer("row", self.row.private, "private") if p.op in _WHOLE_ROWS else None
        if self.by_image:
            with k.stage("pixels", ("image", n), ("chunk", ceil(p.pixels / self.each))) as (image, chunk):
                with k.loop("pixel", chunk * self.each, [chunk * self.each + self.each, p.pixels]) as pixel:
                    self.simple(k, x, others, y, image * p.pixels + pixel, image)
            return k.kernel()
        with k.stage("pixels", ("chunk", (n + (self.each - 1)) // self.each)) as (chunk,):
            with k.loop("pixel", chunk * self.each, [chunk * self.each + self.each, n]) as pixel:
                if own is not None and p.op == "layer_norm":
                    self.layer_norm(k, x, own, others, y, pixel)
                elif own is not None:
                    self.softmax(k, x, own, y, pixel)
                else:
                    self.simple(k, x, others, y, pixel, pixel)
        return k.kernel()

    def simple(self, k: Builder, x: Buffer, others: list[Buffer], y: Buffer, pixel: Affine, image: Affine) -> None:
        """One pixel of everything but softmax."""
        p, at, to = self.p, pixel * self.p.channels, pixel * (self.p.pitch or self.p.channels)
        combine = k.add if p.op == "add" else k.mul
        one = k.broadcast(others[0], pixel) if p.over == "pixel" else None

        def visit(i: Affine, count: int) -> None:
            value = k.load(x, at + i, count)
            if p.op == "norm":
                value = k.fma(value, k.load(others[0], i, count), k.load(others[1], i, count))
            elif p.op != "copy":
                second = k.load(others[0], image * p.channels + i, count) if one is None else one
                value = combine(value, second)
            k.store(_after(k, p, value), y, to + i, count)

        self.row.visit(k, visit)

    def softmax(self, k: Builder, x: Buffer, own: Buffer, y: Buffer, pixel: Affine) -> None:
        """One pixel: the largest channel, exponentials of what lies below it, their sum, and each one's share."""
        row, at = self.row, pixel * self.p.channels
        row.mark(k, own)
        most = row.largest(k, lambda i, count: k.load(x, at + i, count))
        total = k.const(0.0)

        def exponential(i: Affine, count: int) -> None:
            e = exp_of_negative(k, k.sub(k.load(x, at + i, count), most))
            e = row.marked(k, own, e, count)
            k.add(total, e, into=total)
            k.store(e, own, i)

        row.visit(k, exponential)
        every = row.across(k, total, k.add)
        row.visit(k, lambda i, count: k.store(k.div(k.load(own, i), every), y, at + i, count))

    def layer_norm(self, k: Builder, x: Buffer, own: Buffer, others: list[Buffer], y: Buffer, pixel: Affine) -> None:
        """One pixel: its mean, what differs from it, the squares of that."""
        p, row, at = self.p, self.row, pixel * self.p.channels
        row.mark(k, own)
        channels, total, squares = k.const(float(p.channels)), k.const(0.0), k.const(0.0)

        def add(i: Affine, count: int) -> None:
            k.add(total, row.marked(k, own, k.load(x, at + i, count), count), into=total)

        row.visit(k, add)
        mean = k.div(row.across(k, total, k.add), channels)

        def square(i: Affine, count: int) -> None:
            off = row.marked(k, own, k.sub(k.load(x, at + i, count), mean), count)
            k.fma(off, off, squares, into=squares)
            k.store(off, own, i)

        row.visit(k, square)
        variance = k.div(row.across(k, squares, k.add), channels)
        inverse = k.div(k.const(1.0), k.sqrt(k.add(variance, k.const(p.eps))))

        def finish(i: Affine, count: int) -> None:
            value = k.mul(k.load(own, i), inverse)
            value = k.fma(value, k.load(others[0], i, count), k.load(others[1], i, count))
            k.store(_after(k, p, value), y, at + i, count)

        row.visit(k, finish)
