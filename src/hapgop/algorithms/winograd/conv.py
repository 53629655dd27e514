"""Fast convolution: `conv` and `grad_x` by (A, B, G), a quarter of the products at F(4x4, 3x3).

Many tiles: each thread takes blocks of them through all three phases, in buffers of its own that stay in its cache; the
filters are transformed before. Few tiles: all of them are transformed first, then each thread takes blocks of output
channels, whose filters it transforms as it goes, so that they never leave its cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from hapgop.algorithms import costs
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Pack, Recipe
from hapgop.algorithms.winograd import price
from hapgop.algorithms.winograd.phases import Ahead, Finishing, Gathering, Results, multiply, patch_size, place, vectors
from hapgop.algorithms.winograd.points import GROWTH
from hapgop.algorithms.winograd.refusal import refusal
from hapgop.algorithms.winograd.tiling import Tiling
from hapgop.machine import Machine
from hapgop.shape import ConvShape
from hapgop.tile import Affine, Buffer, Builder, Kernel

_CHUNK = 64  # channels whose filters are transformed at a time, where each block of channels does its own


@dataclass(frozen=True, slots=True)
class Winograd(Algorithm):
    """`conv` and `grad_x` with tiles of m x m outputs, for filters of r x r."""

    m: int
    r: int
    stride: int = 1

    @property
    def name(self) -> str:  # type: ignore[override]
        step = f" stride {self.stride}" if self.stride > 1 else ""
        return f"winograd F({self.m}x{self.m}, {self.r}x{self.r}){step}"

    def growth(self, problem: Problem) -> float:
        return GROWTH[self.m, self.r] if self.stride == 1 else 2

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.op not in ("conv", "grad_x"):
            return f"computes conv and grad_x, not {problem.op}"
        if problem.op == "grad_x" and self.stride > 1:
            return "has no input gradient at stride 2"
        return refusal(problem, machine, self.m, self.r, self.stride)

    def seconds(self, problem: Problem, machine: Machine) -> float:
        return _seconds(_tiling(problem, machine, self.m))

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        t = _tiling(problem, machine, self.m)
        f, lanes = t.filters, t.lanes
        block_v, block_m = t.products * t.v_step, t.products * t.m_step
        scratch: tuple[int, ...] = ()
        private = [patch_size(t)]
        if t.few:
            scratch = (t.shape.groups * block_v,)
            private.append(t.products * t.tile[1] * t.block * lanes)
            if not problem.packed:
                private += [f.private[0], t.products * (_CHUNK * t.tile[1] + 1) * lanes]
            items = t.shape.groups * len(f.blocks)
        else:
            private += [block_v, block_m]
            if not problem.packed:
                scratch = (f.size,)
                private.append(f.private[0])
            items = t.shape.groups * -(-t.batch * t.tiles // t.block)
        key = f"{self.name} {t.problem} {machine} block={t.block} tile={t.tile} few={t.few and t.batch}"
        pack = Pack(
            f"{self.name} {problem.dtype} {machine} {f}",
            lambda: _pack_kernel(t),
            f.size,
            private=f.private,
            items=len(f.blocks) * 4,
        )
        return Recipe(
            key=key,
            build=lambda: _few_kernel(t) if t.few else _kernel(t),
            sizes=(t.batch,),
            scratch=scratch,
            private=tuple(private),
            items=items,
            tiles=f"{t.tile[0]} tiles x {t.tile[1]} vectors, blocks of {t.block}",
            pack=pack if problem.packed else None,
        )


def _tiling(problem: Problem, machine: Machine, m: int) -> Tiling:
    assert isinstance(problem.shape, ConvShape)
    return Tiling(replace(problem, shape=problem.shape.with_batch(1)), machine, m, problem.shape.n)


def _seconds(t: Tiling) -> float:
    s, wide, itemsize = t.shape, t.machine.vector_bytes, t.problem.itemsize
    pixels, width = t.tile
    every = t.batch * t.tiles * s.groups
    steps = ceil(t.batch * t.tiles / pixels) * s.groups * t.products * t.source.channels * t.out_vectors / width
    total = steps * costs.step_cycles(pixels, width, wide) / costs.CLOCK
    total += price.seconds(every * t.in_vectors, t.triple.bt, wide)
    total += price.seconds(every * t.out_vectors, t.triple.at, wide)
    size = t.filters.size * itemsize
    if not t.problem.packed:
        turned = s.groups * t.source.channels * t.out_vectors
        total += price.seconds(turned, t.triple.g, wide) + turned * t.filters.taps * costs.SQUARE / costs.CLOCK
        total += (0 if t.few else costs.traffic(size, t.machine)) + costs.STAGE
    passes = 1 if t.few else max(1, t.batch * t.tiles / t.block)
    if not t.few or t.problem.packed:
        total += passes * costs.traffic(max(0, size - t.machine.l2 // 2), t.machine)
    read, written = t.source.total * t.source.height * t.source.width, t.result.total * t.result.height * t.result.width
    more = s.oc * s.oh * s.ow * t.problem.residual + written * (t.problem.pooled and t.problem.winners)
    total += costs.traffic(itemsize * t.batch * (read + written + more), t.machine)
    return total + costs.CALL + (costs.STAGE if t.few else 0)


def _buffers(k: Builder, t: Tiling, n: Affine) -> tuple[Buffer, Buffer, Results]:
    """(source, filters, what is written and added) of the op."""
    s, p = t.shape, t.problem
    x_size, y_size = n * (s.ic * s.ih * s.iw), n * (s.oc * s.oh * s.ow)
    w_size = t.filters.size if p.packed else s.oc * (s.ic // s.groups) * s.kh * s.kw
    w_name = "packed" if p.packed else "w"
    if t.backward:
        g, w = k.buffer("g", y_size, "in"), k.buffer(w_name, w_size, "in")
        return g, w, Results(k.buffer("dx", x_size, "out"))
    x, w = k.buffer("x", x_size, "in"), k.buffer(w_name, w_size, "in")
    bias = k.buffer("bias", s.oc, "in")
    result = n * (s.oc * t.result.height * t.result.width)
    y = k.buffer("y", result, "out")
    residual = k.buffer("residual", y_size, "in") if p.residual else None
    winners = k.buffer("winners", result, "out") if p.pooled else None
    return x, w, Results(y, bias if p.bias else None, residual, winners)


def _gathering(k: Builder, t: Tiling, patch: Buffer, n: Affine) -> Gathering:
    return Gathering(k, t.source, t.triple.bt, t.triple.in_step, t.origin, patch, n)


def _kernel(t: Tiling) -> Kernel:
    """Blocks of tiles, each through all phases by one thread."""
    k = Builder("winograd", t.problem.dtype, t.lanes)
    n = k.size("n", low=0)
    x, w, results = _buffers(k, t, n)
    f, lanes, block = t.filters, t.lanes, t.block
    u = w if t.problem.packed else k.buffer("filters", f.size, "scratch")
    patch = k.buffer("patch", patch_size(t), "private")
    v = k.buffer("inputs", t.products * t.v_step, "private")
    m = k.buffer("sums", t.products * t.m_step, "private")
    if not t.problem.packed:
        f.emit(k, w, u, k.buffer("squares", f.private[0], "private"), patch)
    every = n * t.tiles
    with k.stage("blocks", ("group", t.shape.groups), ("block", (every + (block - 1)) // block)) as (group, b):
        gathering, finishing = _gathering(k, t, patch, n), Finishing(k, t, n, results, patch, t.m_step)
        with k.loop("tile", 0, [Affine(block), every - b * block]) as i:
            gathering.emit(x, group, place(t, b * block + i), v, i * lanes, t.v_step, block * lanes)
        ahead = [*Ahead.of(t, x, t.source, b + 1), *Ahead.of(t, results.y, t.result, b)]
        if results.residual:
            ahead += Ahead.of(t, results.residual, t.target, b)
        with k.loop("product", 0, t.products) as xi:
            for first, width, blocks in f.runs():
                with k.loop("out", 0, blocks) as o:
                    vector = o * f.vectors + first
                    unit = (xi * len(f.blocks) + o + first // f.vectors) * (block // t.tile[0])
                    multiply(
                        k, t, v, xi * t.v_step, u, f.start(group, xi, vector), m,
                        xi * t.m_step + vector * (block * lanes), width, f.ic,
                        [Affine(block), every - b * block], add=False, unit=unit, ahead=ahead,
                    )  # fmt: skip
        with k.loop("tile", 0, [Affine(block), every - b * block]) as i:
            at_tile = place(t, b * block + i)
            vectors(
                k, t.target.channels,
                lambda c, count: finishing.emit(group, at_tile, c, count, m, c * (block * lanes) + i * lanes),
            )  # fmt: skip
    return k.kernel()


def _few_kernel(t: Tiling) -> Kernel:
    """All tiles first, then blocks of output channels, each by one thread."""
    k = Builder("winograd", t.problem.dtype, t.lanes)
    n = k.size("n", low=t.batch, high=t.batch)
    x, w, results = _buffers(k, t, n)
    f, lanes, block, packed = t.filters, t.lanes, t.block, t.problem.packed
    v = k.buffer("inputs", t.shape.groups * t.products * t.v_step, "scratch")
    patch = k.buffer("patch", patch_size(t), "private")
    width = t.tile[1]
    m = k.buffer("sums", t.products * width * block * lanes, "private")
    if not packed:
        squares = k.buffer("squares", f.private[0], "private")
        u = k.buffer("filters", t.products * (_CHUNK * width + 1) * lanes, "private")
    tiles = t.batch * t.tiles
    for first, count, runs in _vector_runs(t.source.channels, lanes):
        grid = (("group", t.shape.groups), ("tile", tiles), ("vector", runs))
        with k.stage(f"inputs {first}", *grid) as (group, i, c):
            vector = c + first
            at = group * (t.products * t.v_step) + vector * (block * lanes) + i * lanes
            _gathering(k, t, patch, n).one(x, group, place(t, i), vector, count, v, at, t.v_step)
    for begin, size, blocks in f.runs():
        step = size * lanes  # from one input channel's filters to the next
        with k.stage(f"channels {begin}", ("group", t.shape.groups), ("block", blocks)) as (group, o):
            vector = o * f.vectors + begin
            inputs = group * (t.products * t.v_step)
            if packed:
                with k.loop("product", 0, t.products) as xi:
                    multiply(
                        k, t, v, inputs + xi * t.v_step, w, f.start(group, xi, vector), m,
                        xi * (size * block * lanes), size, f.ic, block, add=False,
                    )  # fmt: skip
            else:
                with k.loop("sum", 0, t.products * size * block) as i:
                    k.store(k.const(0.0), m, i * lanes)
                for low, depth, chunks in _chunks(f.ic):
                    with k.loop("chunk", 0, chunks) as c:
                        channel = c * depth + low
                        for start, part, runs in _parts(depth, lanes):
                            with k.loop("square", 0, runs) as q:
                                for j in range(size):
                                    count = f.counts[begin + j]
                                    f.square(k, w, squares, group, vector + j, count, channel + start + q * lanes, part)
                                    to = (q * lanes + start) * step + j * lanes
                                    f.transform(k, squares, patch, part, u, to, depth * step + lanes, step)
                        with k.loop("product", 0, t.products) as xi:
                            multiply(
                                k, t, v, inputs + xi * t.v_step + channel * block, u, xi * (depth * step + lanes), m,
                                xi * (size * block * lanes), size, depth, block, add=True,
                            )  # fmt: skip
            finishing = Finishing(k, t, n, results, patch, size * block * lanes)
            with k.loop("tile", 0, tiles) as i:
                for j in range(size):
                    finishing.emit(
                        group, place(t, i), vector + j, f.counts[begin + j], m, i * lanes + j * block * lanes
                    )
    return k.kernel()


def _chunks(channels: int) -> list[tuple[int, int, int]]:
    """(first channel, channels, times)."""
    whole, rest = divmod(channels, _CHUNK)
    return [*([(0, _CHUNK, whole)] if whole else []), *([(whole * _CHUNK, rest, 1)] if rest else [])]


def _parts(channels: int, lanes: int) -> list[tuple[int, int, int]]:
    """(first channel, channels of a square, squares)."""
    whole, rest = divmod(channels, lanes)
    return [*([(0, lanes, whole)] if whole else []), *([(whole * lanes, rest, 1)] if rest else [])]


def _vector_runs(channels: int, lanes: int) -> list[tuple[int, int, int]]:
    whole, rest = divmod(channels, lanes)
    return [*([(0, lanes, whole)] if whole else []), *([(whole, rest, 1)] if rest else [])]


def _pack_kernel(t: Tiling) -> Kernel:
    k = Builder("winograd_filters", t.problem.dtype, t.lanes)
    s, f = t.shape, t.filters
    w = k.buffer("w", s.oc * (s.ic // s.groups) * s.kh * s.kw, "in")
    packed = k.buffer("packed", f.size, "out")
    squares, patch = k.buffer("squares", f.private[0], "private"), k.buffer("patch", f.private[1], "private")
    f.emit(k, w, packed, squares, patch)
    f.fill(k, packed)
    return k.kernel()
