"""The kernels of the fast weight gradient, one for each way of going through the tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from hapgop.algorithms.layout import block_runs, weight_strides
from hapgop.algorithms.turn import turn
from hapgop.algorithms.winograd.ahead import Ahead, Blocks
from hapgop.algorithms.winograd.grad_w_work import Work
from hapgop.algorithms.winograd.phases import Gathering, place
from hapgop.algorithms.winograd.transform import sandwich
from hapgop.algorithms.winograd.triple import transposed
from hapgop.tile import Affine, Buffer, Builder, Kernel, Register

_ZERO = Affine(0)


def build(w: Work) -> Kernel:
    """The kernel of the way that the work goes."""
    return {"once": _once, "parts": _parts, "rounds": _rounds}[w.way](w)


@dataclass(slots=True)
class _Emitting:
    """A kernel in the making: its tensors and the buffers of transformed tiles, which are of the given role."""

    k: Builder
    w: Work
    n: Affine
    x: Buffer
    g: Buffer
    dw: Buffer
    inputs: Buffer
    gradients: Buffer
    patch: Buffer

    @property
    def blocks(self) -> Blocks:
        w = self.w
        units = w.kept * len(w.ci_blocks) * w.chains * len(w.co) * (w.lanes // w.rows)
        return Blocks(w.tiles, w.block, units, w.groups, w.problem.itemsize, w.machine)

    def transforms(self, group: Affine, tile: Affine, slot: Affine, start: Affine, wanted: range | None = None) -> None:
        """Both sides of a tile, to a slot of a block; a tile behind the last one is of no image, and becomes zeros.

        wanted: the rows of products that are computed.
        """
        w, a = self.w, self.w.triple
        at_tile = place(w, tile)
        for side, matrix, step, origin, source, to, product in (
            (w.x, a.bt, a.in_step, (-w.shape.padding[0], -w.shape.padding[2]), self.x, self.inputs, w.x_step),
            (w.g, transposed(a.at), w.m, (0, 0), self.g, self.gradients, w.g_step),
        ):
            gathering = Gathering(self.k, side, matrix, step, origin, self.patch, self.n, w.shape.dilation, wanted)
            at = start * (w.products * product) + slot * w.lanes
            gathering.emit(source, group, at_tile, to, at, product, w.block * w.lanes)

    def multiply(
        self, start: Affine, xi: Affine, chain: Affine, c: Affine, part: Affine, first: Affine, width: int, to: Buffer,
        at: Affine, row: int, add: bool, ahead: bool = False,
    ) -> None:  # fmt: skip
        """A register tile's sums over a chain of tiles of a block; stored, or added to what is there with `add`.

        ahead: the same chain of the next product comes next, and is fetched.
        """
        k, w, lanes = self.k, self.w, self.w.lanes
        places = [[at + i * row + j * lanes for j in range(width)] for i in range(w.rows)]
        from_x = (start * w.products + xi) * w.x_step + first * (w.block * lanes)
        from_g = (start * w.products + xi) * w.g_step + c * (w.block * lanes) + part * w.rows
        acc = [[k.const(0.0) for _ in line] for line in places]
        with k.loop("pair", chain, [chain + w.chain, Affine(w.block)], 2) as pair:
            for t in (pair, pair + 1):
                columns = [from_x + t * lanes + j * (w.block * lanes) for j in range(width)]
                values = [k.load(self.inputs, column) for column in columns]
                if ahead:
                    for column in columns:
                        k.prefetch(self.inputs, column + w.x_step)
                    k.prefetch(self.gradients, from_g + t * lanes + w.g_step)
                for i in range(w.rows):
                    one = k.broadcast(self.gradients, from_g + t * lanes + i)
                    for j in range(width):
                        k.fma(one, values[j], acc[i][j], into=acc[i][j])
        for line, totals in zip(places, acc, strict=True):
            for p, total in zip(line, totals, strict=True):
                k.store(k.add(total, k.load(to, p)) if add else total, to, p)

    def add_block(
        self, start: Affine, xi: Affine, b: Affine, first: int, width: int, sums: Buffer, at: Affine,
        ahead: Sequence[Ahead],
    ) -> None:  # fmt: skip
        """A block's products of a block of input channels and all output channels, added to memory.

        Chain after chain, so that the inputs of one stay in the first cache for all output channels.
        """
        k, w, row = self.k, self.w, self.w.sums_row
        parts, vector = w.lanes // w.rows, b * w.width + first
        with (
            k.loop("chain", 0, w.block, w.chain) as chain,
            k.loop("co", 0, len(w.co)) as c,
            k.loop("rows", 0, parts) as part,
        ):
            unit = (xi * len(w.ci_blocks) + b + first // w.width) * w.chains + chain // w.chain
            for more in ahead:
                more.fetch(k, (unit * len(w.co) + c) * parts + part)
            to = at + w.sums_at(vector) + (c * w.lanes + part * w.rows) * row
            self.multiply(start, xi, chain, c, part, vector, width, sums, to, row, True)

    def filters(
        self, sums: Buffer, at: Affine, step: int, parts: int, group: Affine, o: Affine, vector: Affine, count: int
    ) -> None:
        """The filter of one output channel and a vector of input channels, from the sums of so many parts."""
        k, w, a = self.k, self.w, self.w.triple
        strides = weight_strides(w.problem.w_layout, w.x.channels, w.shape.kh, w.shape.kw)
        to = (group * w.g.channels + o) * strides.n + vector * (w.lanes * strides.c)

        def load(i: Affine | int, j: Affine | int) -> Register:
            here = at + (Affine.of(i) * a.products + j) * step
            total = k.load(sums, here)
            if parts > 1:
                with k.loop("part", 1, parts) as p:
                    k.add(total, k.load(sums, here + p * w.sums_size), into=total)
            return total

        def slot(i: Affine | int, j: Affine | int) -> Affine:
            return (Affine.of(i) * a.products + j) * w.lanes

        def store(value: Register, i: Affine | int, j: Affine | int) -> None:
            if strides.c > 1:
                # Where row i of the patch lay, which has been read.
                k.store(value, self.patch, slot(i, j))
            else:
                k.store(value, self.dw, to + Affine.of(i) * strides.h + Affine.of(j) * strides.w, count)

        sandwich(k, transposed(a.g), self.patch, load, store)
        if strides.c > 1:
            # A pair of channels has its taps side by side: squares of taps and input channels are turned.
            taps = [slot(i, j) for i in range(a.taps) for j in range(a.taps)]
            for first in range(0, len(taps), w.lanes):
                some = [k.load(self.patch, at) for at in taps[first : first + w.lanes]]
                for c, channel in enumerate(k.transpose(some)[:count]):
                    k.store(channel, self.dw, to + c * strides.c + first, len(some))

    def every_filter(self, sums: Buffer, parts: int) -> None:
        """The stages that make filters of sums in memory."""
        k, w = self.k, self.w
        whole = len(w.ci) - (w.ci[-1] < w.lanes)
        for first, count, runs in ((0, w.lanes, whole), (whole, w.ci[-1], len(w.ci) - whole)):
            if not runs:
                continue
            with k.stage(f"filters {first}", ("group", w.groups), ("co", w.g.channels), ("ci", runs)) as (group, o, v):
                at = group * (w.products * w.sums_step) + o * w.sums_row + w.sums_at(v + first)
                self.filters(sums, at, w.sums_step, parts, group, o, v + first, count)


def _emitting(w: Work) -> tuple[_Emitting, Buffer | None]:
    """The buffers that all kernels have, the stages that turn images to channels last, and the sums in memory."""
    k = Builder("winograd_grad_w", w.problem.dtype, w.lanes)
    s = w.shape
    n = k.size("n", w.batch, w.batch) if w.way == "once" else k.size("n", 0)
    x, g = k.buffer("x", n * (s.ic * s.ih * s.iw), "in"), k.buffer("g", n * (s.oc * s.oh * s.ow), "in")
    dw = k.buffer("dw", s.oc * (s.ic // s.groups) * s.kh * s.kw, "out")
    buffers: dict[str, Buffer] = {}
    for name, size in w.scratch_sizes:
        side = {"x_last": w.x, "g_last": w.g}.get(name)
        elements = n * (side.total * side.height * side.width) if side else Affine(size)
        buffers[name] = k.buffer(name, elements, "scratch")
    for name, size in w.private_sizes:
        buffers[name] = k.buffer(name, size, "private")
    if "x_last" in buffers:
        turn(k, "x channels last", n, x, buffers["x_last"], s.ic, s.ih * s.iw)
    if "g_last" in buffers:
        turn(k, "g channels last", n, g, buffers["g_last"], s.oc, s.oh * s.ow)
    x, g = buffers.get("x_last", x), buffers.get("g_last", g)
    e = _Emitting(k, w, n, x, g, dw, buffers["inputs"], buffers["gradients"], buffers["patch"])
    return e, buffers.get("sums")


def _once(w: Work) -> Kernel:
    """All tiles are transformed, then each thread takes register tiles from the sums to the filters."""
    e, local = _emitting(w)
    assert local is not None
    k, lanes = e.k, w.lanes
    with k.stage("tiles", ("group", w.groups), ("tile", w.block)) as (group, i):
        e.transforms(group, i, i, group)
    for first, width, blocks in block_runs(w.ci, w.width, w.lanes):
        grid = (("group", w.groups), ("ci", blocks), ("co", len(w.co)), ("part", lanes // w.rows))
        with k.stage(f"channels {first}", *grid) as (group, b, c, part):
            vector, row = b * w.width + first, width * lanes
            if w.chains > 1:
                with k.loop("sum", 0, w.products * w.rows * width) as i:
                    k.store(k.const(0.0), local, i * lanes)
            with k.loop("product", 0, w.products) as xi, k.loop("chain", 0, w.block, w.chain) as chain:
                at = xi * (w.rows * row)
                e.multiply(group, xi, chain, c, part, vector, width, local, at, row, w.chains > 1, ahead=True)
            for j in range(width):
                with _valid(k, w, c, part) as i:
                    at = i * row + j * lanes
                    o = c * lanes + part * w.rows + i
                    e.filters(local, at, w.rows * row, 1, group, o, vector + j, w.ci[first + j])
    return k.kernel()


def _parts(w: Work) -> Kernel:
    """The tiles in parts that do not depend on the threads, each with sums of its own; these are added at the end.

    Where sums are many, all tiles pass several times, each time for some of the products.
    """
    e, sums = _emitting(w)
    assert sums is not None
    k, lanes = e.k, w.lanes
    blocks = (e.n * w.tiles + (w.block - 1)) // w.block
    for rows in w.passes:
        first_product, products = rows.start * w.triple.products, len(rows) * w.triple.products
        with k.stage(f"parts {rows.start}", ("group", w.groups), ("part", w.parts)) as (group, p):
            own = p * w.sums_size + (group * w.products + first_product) * w.sums_step
            with k.loop("zero", 0, products * w.sums_step // lanes) as i:
                k.store(k.const(0.0), sums, own + i * lanes)
            with k.loop("block", p, blocks, w.parts) as block:
                with k.loop("tile", 0, w.block) as i:
                    e.transforms(group, block * w.block + i, i, Affine(0), rows)
                ahead = e.blocks.ahead(e.x, w.x, block + w.parts) + e.blocks.ahead(e.g, w.g, block + w.parts)
                for first, width, runs in block_runs(w.ci, w.width, w.lanes):
                    with k.loop("product", 0, products) as xi, k.loop("ci", 0, runs) as b:
                        e.add_block(Affine(0), xi, b, first, width, sums, own + xi * w.sums_step, ahead)
    e.every_filter(sums, w.parts)
    return k.kernel()


def _rounds(w: Work) -> Kernel:
    """Block after block, each shared out by tile and then by product and channel; the sums are added to memory."""
    e, sums = _emitting(w)
    assert sums is not None
    k, lanes = e.k, w.lanes
    with k.stage("zero", ("vector", w.sums_size // lanes)) as (i,):
        k.store(k.const(0.0), sums, i * lanes)
    with k.rounds("block", 0, (e.n * w.tiles + (w.block - 1)) // w.block) as block:
        with k.stage("tiles", ("group", w.groups), ("tile", w.block)) as (group, i):
            e.transforms(group, block * w.block + i, i, group)
        # A thread's share of the products is that of the tiles that it will transform.
        ahead = e.blocks.ahead(e.x, w.x, block + 1) + e.blocks.ahead(e.g, w.g, block + 1)
        for first, width, blocks in block_runs(w.ci, w.width, w.lanes):
            with k.stage(f"sums {first}", ("group", w.groups), ("product", w.products), ("ci", blocks)) as (
                group,
                xi,
                b,
            ):
                at = (group * w.products + xi) * w.sums_step
                e.add_block(group, xi, b, first, width, sums, at, ahead)
    e.every_filter(sums, 1)
    return k.kernel()


@contextmanager
def _valid(k: Builder, w: Work, c: Affine, part: Affine) -> Iterator[Affine]:
    """A loop over those rows of a register tile that are output channels."""
    left = w.g.channels - c * w.lanes - part * w.rows
    with k.loop("row", 0, [Affine(w.rows), left]) as i:
        yield i
