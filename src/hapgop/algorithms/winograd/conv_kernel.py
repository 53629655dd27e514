"""The kernels of `conv` and `grad_x`: blocks of tiles, or of channels where filters are many and tiles few."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from hapgop.algorithms.turn import turn
from hapgop.algorithms.winograd.ahead import Blocks
from hapgop.algorithms.winograd.phases import Finishing, Gathering, Results, multiply, patch_size, place, vectors
from hapgop.algorithms.winograd.tiling import GAP, Side, Tiling
from hapgop.tile import Affine, Buffer, Builder, Kernel

CHUNK = 64  # channels whose filters are transformed at a time, where each block of channels does its own


def build(t: Tiling) -> Kernel:
    """The kernel of a tiling."""
    return _by_channels(t) if t.few else _by_tiles(t)


def scratch_sizes(t: Tiling) -> list[tuple[str, int]]:
    """(name, elements) of the scratch buffers; images are held there channels last where they come otherwise."""
    sizes = []
    if t.turns_source:
        sizes.append(("source", t.batch * _elements(t.source)))
    if t.turns_target:
        sizes.append(("target", t.batch * _elements(t.target)))
    if t.few and not t.own:
        sizes.append(("inputs", t.shape.groups * t.products * t.v_step))
    elif not t.problem.packed:
        sizes.append(("filters", t.filters.size))
    return sizes


def private_sizes(t: Tiling) -> list[tuple[str, int]]:
    """(name, elements) of the private buffers."""
    f, width, lanes = t.filters, t.tile[1], t.lanes
    sizes = [("patch", patch_size(t))]
    if not t.problem.packed:
        sizes.append(("squares", f.private[0]))
    if not t.few:
        return [*sizes, ("inputs", t.products * t.v_step + GAP), ("sums", t.products * t.m_step + GAP)]
    if t.own:
        sizes.append(("inputs", t.products * t.v_step + GAP))
    sizes.append(("sums", t.products * width * t.block * lanes + GAP))
    if not t.problem.packed:
        sizes.append(("filters", t.products * (CHUNK * width + 1) * lanes + GAP))
    return sizes


def _elements(side: Side) -> int:
    """Of one image."""
    return side.total * side.height * side.width


@dataclass(slots=True)
class _Making:
    """A kernel in the making: its tensors, as they are computed with, and its buffers by name."""

    k: Builder
    t: Tiling
    n: Affine
    source: Buffer
    w: Buffer
    results: Results
    buffers: dict[str, Buffer]
    given: Buffer
    wanted: Buffer

    @property
    def gathering(self) -> Gathering:
        t = self.t
        return Gathering(
            self.k, t.source, t.triple.bt, t.triple.in_step, t.origin, self.buffers["patch"], self.n, t.dilation
        )  # fmt: skip

    def begin(self) -> None:
        """The stage that turns the source, where it lies channels first."""
        side = self.t.source
        if self.t.turns_source:
            turn(self.k, "channels last", self.n, self.given, self.source, side.total, side.height * side.width)

    def end(self) -> Kernel:
        """The stage that turns the result back, and the kernel."""
        side = self.t.target
        if self.t.turns_target:
            turn(self.k, "channels first", self.n, self.results.y, self.wanted, side.height * side.width, side.total)
        return self.k.kernel()


def _making(t: Tiling) -> _Making:
    k = Builder("winograd", t.problem.dtype, t.lanes)
    n = k.size("n", low=t.batch, high=t.batch) if t.few else k.size("n", low=0)
    s, p = t.shape, t.problem
    source = k.buffer("g" if t.backward else "x", n * _elements(t.source), "in")
    w_size = t.filters.size if p.packed else s.oc * (s.ic // s.groups) * s.kh * s.kw
    w = k.buffer("packed" if p.packed else "w", w_size, "in")
    bias = k.buffer("bias", p.biases, "in") if p.biases else None
    y = k.buffer("dx" if t.backward else "y", n * _elements(t.result), "out")
    residual = k.buffer("residual", n * _elements(t.target), "in") if p.residual else None
    winners = k.buffer("winners", n * _elements(t.result), "out") if p.pooled else None
    buffers = {}
    for name, size in scratch_sizes(t):
        # Sizes of images are those of the call's batch.
        side = {"source": t.source, "target": t.target}.get(name)
        buffers[name] = k.buffer(f"all_{name}", n * _elements(side) if side else size, "scratch")
    for name, size in private_sizes(t):
        buffers[name] = k.buffer(name, size, "private")
    results = Results(buffers.get("target", y), bias if p.bias else None, residual, winners)
    return _Making(k, t, n, buffers.get("source", source), w, results, buffers, source, y)


def _by_tiles(t: Tiling) -> Kernel:
    """Blocks of tiles, each through all phases by one thread."""
    making = _making(t)
    k, n, buffers, f = making.k, making.n, making.buffers, t.filters
    lanes, block, patch, v, m = t.lanes, t.block, buffers["patch"], buffers["inputs"], buffers["sums"]
    making.begin()
    u = making.w
    if not t.problem.packed:
        u = buffers["filters"]
        f.emit(k, making.w, u, buffers["squares"], patch)
    every = n * t.tiles
    with k.stage("blocks", ("group", t.shape.groups), ("block", (every + (block - 1)) // block)) as (group, b):
        tiles = [Affine(block), every - b * block]
        with k.loop("tile", 0, tiles) as i:
            gathering = making.gathering
            gathering.emit(making.source, group, place(t, b * block + i), v, i * lanes, t.v_step, block * lanes)
        units = t.products * len(f.blocks) * (block // t.tile[0])
        blocks = Blocks(t.tiles, block, units, t.shape.groups, t.problem.itemsize, t.machine)
        ahead = blocks.ahead(making.source, t.source, b + 1) + blocks.ahead(making.results.y, t.result, b)
        if making.results.residual:
            ahead += blocks.ahead(making.results.residual, t.target, b)
        with k.loop("product", 0, t.products) as xi:
            for first, width, runs in f.runs():
                with k.loop("out", 0, runs) as o:
                    vector = o * f.vectors + first
                    unit = (xi * len(f.blocks) + o + first // f.vectors) * (block // t.tile[0])
                    multiply(
                        k, t, v, xi * t.v_step, u, f.start(group, xi, vector, width), m,
                        xi * t.m_step + vector * (block * lanes), width, f.ic, tiles, False, unit, ahead,
                    )  # fmt: skip
        finishing = Finishing(k, t, n, making.results, patch, t.m_step)
        with k.loop("tile", 0, tiles) as i:
            at_tile = place(t, b * block + i)
            vectors(
                k, t.target.channels,
                lambda c, count: finishing.emit(group, at_tile, c, count, m, c * (block * lanes) + i * lanes),
            )  # fmt: skip
    return making.end()


def _by_channels(t: Tiling) -> Kernel:
    """All tiles first, then blocks of output channels, each by one thread."""
    making = _making(t)
    making.begin()
    k, v, lanes, groups = making.k, making.buffers["inputs"], t.lanes, ("group", t.shape.groups)
    if t.own:
        blocks = len(t.filters.blocks)
        per = ceil(blocks / t.parts)
        with k.stage("channels", groups, ("part", ceil(blocks / per))) as (group, part):
            with k.loop("tile", 0, t.batch * t.tiles) as i:
                making.gathering.emit(making.source, group, place(t, i), v, i * lanes, t.v_step, t.block * lanes)
            low, high = part * per, part * per + per
            for begin, width, runs in t.filters.runs():
                # A run of blocks that are alike, as far as it is this part's; the last one may have fewer channels.
                first = begin // t.filters.vectors
                with k.loop("block", [low, Affine(first)], [high, Affine(first + runs)]) as o:
                    _channels(making, group, o * t.filters.vectors, begin, width, Affine(0))
        return making.end()
    for first, count, runs in _cut(t.source.channels, lanes):
        with k.stage(f"inputs {first}", groups, ("tile", t.batch * t.tiles), ("vector", runs)) as (group, i, c):
            vector = c + first // lanes
            at = group * (t.products * t.v_step) + vector * (t.block * lanes) + i * lanes
            making.gathering.one(making.source, group, place(t, i), vector, count, v, at, t.v_step)
    for begin, width, blocks in t.filters.runs():
        with k.stage(f"channels {begin}", groups, ("block", blocks)) as (group, o):
            _channels(making, group, o * t.filters.vectors + begin, begin, width, group * (t.products * t.v_step))
    return making.end()


def _channels(making: _Making, group: Affine, vector: Affine, begin: int, width: int, inputs: Affine) -> None:
    """A block of output channels, of `width` vectors as the one that starts with vector `begin` has.

    inputs: where the group's transformed tiles start.
    """
    k, t, m = making.k, making.t, making.buffers["sums"]
    f, lanes, block = t.filters, t.lanes, t.block
    step = width * block * lanes  # from one product's sums to the next
    if t.problem.packed:
        with k.loop("product", 0, t.products) as xi:
            multiply(
                k, t, making.buffers["inputs"], inputs + xi * t.v_step, making.w, f.start(group, xi, vector, width), m,
                xi * step, width, f.ic, block, add=False,
            )  # fmt: skip
    else:
        with k.loop("sum", 0, t.products * width * block) as i:
            k.store(k.const(0.0), m, i * lanes)
        for low, depth, chunks in _cut(f.ic, CHUNK):
            with k.loop("chunk", 0, chunks) as c:
                _chunk(making, group, vector, f.counts[begin : begin + width], c * depth + low, depth, inputs)
    finishing = Finishing(k, t, making.n, making.results, making.buffers["patch"], step)
    with k.loop("tile", 0, t.batch * t.tiles) as i:
        for j in range(width):
            at = i * lanes + j * block * lanes
            finishing.emit(group, place(t, i), vector + j, f.counts[begin + j], m, at)


def _chunk(
    making: _Making, group: Affine, vector: Affine, counts: tuple[int, ...], channel: Affine, depth: int, inputs: Affine
) -> None:
    """`depth` input channels' share of a block of output channels: filters transformed, products added."""
    k, t, buffers = making.k, making.t, making.buffers
    f, lanes, width, u = t.filters, t.lanes, len(counts), buffers["filters"]
    step = width * lanes  # from one input channel's filters to the next
    product = depth * step + lanes
    for start, part, runs in _cut(depth, lanes):
        with k.loop("square", 0, runs) as q:
            for j, count in enumerate(counts):
                f.square(
                    k, making.w, buffers["squares"], group, vector + j, count, channel + start + q * lanes, part
                )  # fmt: skip
                to = (q * lanes + start) * step + j * lanes
                f.transform(k, buffers["squares"], buffers["patch"], part, u, to, product, step)
    with k.loop("product", 0, t.products) as xi:
        v_at = inputs + xi * t.v_step + channel * t.block
        multiply(
            k, t, buffers["inputs"], v_at, u, xi * product, buffers["sums"], xi * (step * t.block), width, depth,
            t.block, add=True,
        )  # fmt: skip


def _cut(total: int, size: int) -> list[tuple[int, int, int]]:
    """(first, length, times) of whole pieces, and of what is left."""
    whole, rest = divmod(total, size)
    return [*([(0, size, whole)] if whole else []), *([(whole * size, rest, 1)] if rest else [])]


def build_pack(t: Tiling) -> Kernel:
    """The kernel that transforms filters ahead of the calls."""
    k = Builder("winograd_filters", t.problem.dtype, t.lanes)
    s, f = t.shape, t.filters
    w = k.buffer("w", s.oc * (s.ic // s.groups) * s.kh * s.kw, "in")
    packed = k.buffer("packed", f.size, "out")
    squares, patch = k.buffer("squares", f.private[0], "private"), k.buffer("patch", f.private[1], "private")
    f.emit(k, w, packed, squares, patch)
    f.fill(k, packed)
    return k.kernel()
