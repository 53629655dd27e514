"""Convolution to few channels: vectors along the channels that are summed, whose lanes are added in the end.

The input gradient of a first layer has three channels, or one: vectors along those would be all but empty. A tile is
all channels of some neighbouring outputs of a row, a register for each; for each tap and vector of input channels it
loads the weights of every output channel and each pixel's inputs, and multiplies and adds lane by lane. In the end
squares of sums are turned and added, which makes whole vectors of neighbouring results. The residue classes of an input
gradient's columns share a tile, so that its results are neighbours at any stride.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from hapgop.algorithms import costs
from hapgop.algorithms.depthwise_tile import Columns, Reach, each_tile, reach, row_tiles
from hapgop.algorithms.epilogue import activated, unfused
from hapgop.algorithms.layout import Count, Strides, image_strides, vector_counts, weight_strides
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Pack, Recipe
from hapgop.algorithms.registers import balanced
from hapgop.algorithms.track import Track, backward, forward
from hapgop.algorithms.turn import turn
from hapgop.machine import Machine
from hapgop.shape import ConvShape
from hapgop.tile import Affine, Buffer, Builder, Kernel, Register

_MOST_CHANNELS = 8
_ITEMS = 32  # enough for any usual number of cores to share out evenly
_ADDED = 6.0  # cycles to turn a sum with others of its square, and to add its lanes


@dataclass(frozen=True, slots=True)
class Narrow(Algorithm):
    """`conv` and `grad_x` that write few channels and read many."""

    name: str = "narrow"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.op not in ("conv", "grad_x"):
            return f"computes conv and grad_x, not {problem.op}"
        s = problem.shape
        assert isinstance(s, ConvShape)
        if s.groups > 1:
            return "takes one group"
        if (reason := unfused(problem, "residual")) is not None:
            return reason
        program = _Program.of(problem, machine)
        most = min(_MOST_CHANNELS, program.lanes)  # a vector holds the biases
        if program.oc > most:
            return f"writes {most} channels or fewer, not {program.oc}"
        if not program.pixels:
            return f"has no registers for {program.oc} channels of the {len(program.cols)} classes of columns"
        return None if row_tiles(program.cols, program.pixels) else "unrolls borders, and this one is too wide"

    def seconds(self, problem: Problem, machine: Machine) -> float:
        program = _Program.of(problem, machine)
        s, classes = program.shape, len(program.cols)
        sums = program.oc * program.pixels * classes
        tiles = sum(t.count for t in program.rows) * ceil(max(t.count for t in program.cols) / program.pixels)
        hits = sum(r.hits * c.hits for r in program.rows for c in program.cols) * program.vectors
        # A step is one tap's: its weights, the inputs of one class's pixels, and their products.
        step = costs.step_cycles(program.pixels, program.oc, machine.vector_bytes)
        cycles = hits / program.pixels * step + tiles * (sums * _ADDED + costs.TILE)
        pixels = s.oh * s.ow if program.forward else s.ih * s.iw
        read, written = (program.batch * size * problem.itemsize for size in (program.source_size, pixels * program.oc))
        total = max(program.batch * cycles / costs.CLOCK, costs.traffic(read + written, machine))
        return total + costs.CALL + costs.STAGE + (costs.turned(read, machine) if program.turns else 0.0)

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        program = _Program.of(problem, machine)
        return Recipe(
            key=f"narrow {program!r}",
            build=program.kernel,
            sizes=(program.batch,),
            scratch=tuple(size for _, size in program.scratch(program.batch)),
            items=program.batch * program.strips,
            tiles=f"{program.pixels * len(program.cols)} pixels x {program.oc} channels",
            pack=program.pack() if problem.packed else None,
        )


@dataclass(frozen=True, slots=True)
class _Program:
    """Everything that the kernel depends on (the batch size is passed at run time).

    strip: rows of each residue class that a work item goes through.
    """

    problem: Problem
    machine: Machine
    batch: int
    strip: int

    @classmethod
    def of(cls, problem: Problem, machine: Machine) -> _Program:
        assert isinstance(problem.shape, ConvShape)
        n = problem.shape.n
        one = cls(replace(problem, shape=problem.shape.with_batch(1)), machine, n, 1)
        wanted = ceil(_ITEMS / max(1, min(n, _ITEMS)))
        # Every residue class reads the strip's rows: they stay in half of the second cache.
        most = max(1, machine.l2 // 2 // (problem.itemsize * max(one.source.h, 1)))
        return replace(one, strip=balanced(one.height, min(most, ceil(one.height / wanted))))

    def __repr__(self) -> str:
        m = self.machine
        return f"{self.strip} {self.problem} {m.cpu} {m.isa} {m.vector_bytes} {m.registers}"

    @property
    def shape(self) -> ConvShape:
        assert isinstance(self.problem.shape, ConvShape)
        return self.problem.shape

    @property
    def forward(self) -> bool:
        return self.problem.op == "conv"

    @property
    def oc(self) -> int:
        """Channels that are written."""
        return self.shape.oc if self.forward else self.shape.ic

    @property
    def ic(self) -> int:
        """Channels that are read and summed."""
        return self.shape.ic if self.forward else self.shape.oc

    @property
    def lanes(self) -> int:
        return self.machine.lanes(self.problem.dtype)

    @property
    def vectors(self) -> int:
        return len(vector_counts(self.ic, self.lanes))

    @property
    def rows(self) -> list[Track]:
        s = self.shape
        axis = (s.ih, s.kh, s.stride[0], s.padding[0], s.dilation[0], s.oh)
        return [forward(*axis)] if self.forward else backward(*axis)

    @property
    def cols(self) -> list[Track]:
        s = self.shape
        axis = (s.iw, s.kw, s.stride[1], s.padding[2], s.dilation[1], s.ow)
        return [forward(*axis)] if self.forward else backward(*axis)

    @property
    def height(self) -> int:
        """Rows of the longest residue class."""
        return max(t.count for t in self.rows)

    @property
    def strips(self) -> int:
        return ceil(self.height / self.strip)

    @property
    def pixels(self) -> int:
        """Outputs of each residue class in a tile; 0 where even one is too many."""
        # One register holds an input, another is LLVM's, the others weights and sums.
        room = (self.machine.registers - 2 - self.held * self.oc) // self.oc // len(self.cols)
        if self.target.c > 1:
            # One channel's sums are turned, in a square of registers, while the others' wait.
            waiting = (self.oc - 1) * len(self.cols)
            room = min(room, (self.machine.registers - 2 - self.lanes) // waiting)
        return balanced(max(t.count for t in self.cols), min(room, self.lanes)) if room else 0

    @property
    def held(self) -> int:
        """Tap columns whose weights are held while the inputs of a tile stream by: all of them, or one after the other.

        In a stride's residue classes few taps share an input, and one after the other leaves more room for sums.
        """
        few = self.shape.kw * self.oc <= self.machine.registers // 2
        return self.shape.kw if few and len(self.cols) == 1 else 1

    @property
    def source(self) -> Strides:
        """Of what is read, its channels last."""
        s = self.shape
        height, width = (s.ih, s.iw) if self.forward else (s.oh, s.ow)
        return image_strides("nhwc", self.ic, height, width)

    @property
    def target(self) -> Strides:
        s, p = self.shape, self.problem
        if self.forward:
            return image_strides(p.y_layout, s.oc, s.oh, s.ow)
        return image_strides(p.x_layout, s.ic, s.ih, s.iw)

    @property
    def source_size(self) -> int:
        """Elements of an image that is read."""
        return self.source.n

    @property
    def turns(self) -> bool:
        """Whether what is read has to be laid out with its channels last."""
        layout = self.problem.x_layout if self.forward else self.problem.y_layout
        return layout == "nchw" and self.ic > 1 and self.source_size > self.ic

    @property
    def packed_size(self) -> int:
        return self.shape.kh * self.shape.kw * self.vectors * self.lanes * self.oc

    def scratch(self, n: Count) -> list[tuple[str, Count]]:
        sizes: list[tuple[str, Count]] = [] if self.problem.packed else [("packed", n * 0 + self.packed_size)]
        return sizes + ([("turned", n * self.source_size)] if self.turns else [])

    def pack(self) -> Pack:
        m, dtype = self.machine, self.problem.dtype
        s = self.shape

        def build() -> Kernel:
            k = Builder("narrow_pack", dtype, self.lanes)
            w = k.buffer("w", s.oc * s.ic * s.kh * s.kw, "in")
            self.emit_packing(k, w, k.buffer("packed", self.packed_size, "out"))
            return k.kernel()

        return Pack(
            key=f"narrow_pack {self.problem.op} {s.w_shape} {self.problem.w_layout} {dtype} {m.cpu} {m.vector_bytes}",
            build=build,
            size=self.packed_size,
            items=s.kh * self.vectors,
        )

    def emit_packing(self, k: Builder, w: Buffer, packed: Buffer) -> None:
        """Weights as [tap row][vector of input channels][tap column][output channel][lane]."""
        s = self.shape
        strides = weight_strides(self.problem.w_layout, s.ic, s.kh, s.kw)
        across, along = (strides.c, strides.n) if self.forward else (strides.n, strides.c)
        full = self.ic // self.lanes
        with k.stage("pack", ("tap", s.kh), ("vector", self.vectors)) as (t, vector):
            # Loops of one turn: for a whole vector, or for the narrower last one.
            for low, high, count in ((0, full, self.lanes), (full, self.vectors, self.ic % self.lanes)):
                if low == high:
                    continue
                with (
                    k.loop("this", [vector, low], [vector + 1, high]) as v,
                    k.loop("column", 0, s.kw) as u,
                    k.loop("channel", 0, self.oc) as c,
                ):
                    at = v * (self.lanes * across) + c * along + t * strides.h + u * strides.w
                    to = (((t * self.vectors + v) * s.kw + u) * self.oc + c) * self.lanes
                    k.store(k.load(w, at, count, across), packed, to)

    def kernel(self) -> Kernel:
        p, s = self.problem, self.shape
        k = Builder("narrow", p.dtype, self.lanes)
        n = k.size("n", low=0)
        x_size, y_size = n * (s.ic * s.ih * s.iw), n * (s.oc * s.oh * s.ow)
        source = k.buffer("x", x_size, "in") if self.forward else k.buffer("g", y_size, "in")
        if p.packed:
            w = packed = k.buffer("packed", self.packed_size, "in")
        else:
            w = k.buffer("w", s.oc * s.ic * s.kh * s.kw, "in")
        bias = k.buffer("bias", s.oc, "in") if self.forward else None
        target = k.buffer("y", y_size, "out") if self.forward else k.buffer("dx", x_size, "out")
        residual = k.buffer("residual", y_size, "in") if p.residual else None
        scratch = {name: k.buffer(name, size, "scratch") for name, size in self.scratch(n)}
        if not p.packed:
            packed = scratch["packed"]
            self.emit_packing(k, w, packed)
        if self.turns:
            turn(k, "channels last", n, source, scratch["turned"], self.ic, self.source_size // self.ic)
            source = scratch["turned"]
        _Gather(self, k, source, packed, bias if p.bias else None, target, residual).emit(n)
        return k.kernel()


@dataclass(slots=True)
class _Gather:
    """Writes the stage that computes."""

    program: _Program
    k: Builder
    source: Buffer
    weights: Buffer
    bias: Buffer | None
    target: Buffer
    residual: Buffer | None

    def emit(self, n: Affine) -> None:
        k, program = self.k, self.program
        tiles = row_tiles(program.cols, program.pixels)
        assert tiles is not None
        with k.stage("gather", ("image", n), ("strip", program.strips)) as (image, strip):
            first, size = strip * program.strip, program.strip
            # One residue class's rows after the other: their weights stay in the first cache.
            for track in program.rows:
                with k.loop("row", first, [first + size, track.count]) as row:

                    def visit(column: Affine, columns: Columns, track: Track = track, row: Affine = row) -> None:
                        self.tile(image, track, row, column, columns)

                    each_tile(k, tiles, visit)

    def tile(self, image: Affine, track: Track, row: Affine, column: Affine, columns: Columns) -> None:
        k, program = self.k, self.program
        met = reach(program.cols, columns)
        acc = [[k.const(0.0) for _ in range(program.oc)] for _ in met.outputs]
        s, source, lanes = program.shape, program.source, program.lanes
        full, rest = divmod(program.ic, lanes)
        if track.taps:
            with k.loop("tap", *track.tap_range(row)) as t:
                line = image * source.n + track.source(row, t) * source.h
                line += column * (program.cols[0].in_step * source.w)
                weights = (track.tap_first + t * track.tap_step) * (program.vectors * s.kw * program.oc * lanes)
                for taps in self.tap_blocks():
                    if full:
                        with k.loop("vector", 0, full) as v:
                            self.step(met, acc, line, weights, v, lanes, taps)
                            self.prefetch(image, track, row, t, column, columns.pixels, taps, v)
                    if rest:
                        self.step(met, acc, line, weights, Affine(full), rest, taps)
        self.finish(image, track, row, column, met, acc)

    def tap_blocks(self) -> list[list[int]]:
        """The tap columns that one loop over the input channels takes."""
        kw = self.program.shape.kw
        if len(self.program.cols) > 1 or self.program.held == kw:
            return [list(range(kw))]
        # Taps that share inputs, in one block: LLVM would keep those and spill.
        return [[tap] for tap in range(kw)]

    def prefetch(
        self,
        image: Affine,
        track: Track,
        row: Affine,
        t: Affine,
        column: Affine,
        pixels: int,
        taps: list[int],
        vector: Affine,
    ) -> None:
        """This tap row's share of what the tile below will read for the first time."""
        k, source, step = self.k, self.program.source, self.program.cols[0].in_step
        if taps[0] > 0:
            return
        share = ceil(pixels * step / track.taps)
        line = image * source.n + track.source(row + 1, track.taps - 1) * source.h
        for i in range(share):
            at = line + (column * step + t * share + i) * source.w + vector * k.lanes
            k.prefetch(self.source, at)

    def step(
        self,
        met: Reach,
        acc: list[list[Register]],
        line: Affine,
        weights: Affine,
        vector: Affine,
        count: int,
        taps: list[int],
    ) -> None:
        """Some columns of a row of taps, of one vector of input channels."""
        k, program = self.k, self.program
        lanes, oc, held = program.lanes, program.oc, program.held
        at = weights + vector * (program.shape.kw * oc * lanes)
        for first in range(0, len(taps), held):
            used = taps[first : first + held]
            w = {tap: [k.load(self.weights, at + (tap * oc + c) * lanes) for c in range(oc)] for tap in used}
            for place, pairs in met.inputs.items():
                reached = [(number, w[tap]) for number, tap in pairs if tap in w]
                if reached:
                    x = k.load(self.source, line + place * program.source.w + vector * lanes, count)
                    for number, weight in reached:
                        for c in range(oc):
                            k.fma(x, weight[c], acc[number][c], into=acc[number][c])

    def finish(
        self, image: Affine, track: Track, row: Affine, column: Affine, met: Reach, acc: list[list[Register]]
    ) -> None:
        """The lanes' sums, bias, residual, activation, store."""
        k, program, to = self.k, self.program, self.program.target
        cols = program.cols
        # Tiles begin with the first residue class, and all classes' outputs of a tile are neighbours.
        places = [p * cols[i].out_step + cols[i].out_first for i, p in met.outputs]
        order = sorted(range(len(places)), key=places.__getitem__)
        first = image * to.n + (row * track.out_step + track.out_first) * to.h + column * (cols[0].out_step * to.w)

        def put(sums: list[Register], biases: list[int], at: Affine) -> None:
            for i in range(0, len(sums), k.lanes):
                part, channels = sums[i : i + k.lanes], biases[i : i + k.lanes]
                total = self.added(part)
                if self.bias is not None:
                    total = k.add(total, self.biases(channels))
                if self.residual is not None:
                    total = k.add(total, k.load(self.residual, at + i, len(part)))
                total = activated(k, total, program.problem.activation)
                k.store(total, self.target, at + i, len(part))

        if to.c == 1:
            sums = [acc[number][c] for number in order for c in range(program.oc)]
            put(sums, [c for _ in order for c in range(program.oc)], first)
        else:
            for c in range(program.oc):
                put([acc[number][c] for number in order], [c] * len(order), first + c * to.c)

    def added(self, sums: list[Register]) -> Register:
        """Lane i is the sum of the lanes of the i-th register."""
        rows = self.k.transpose(sums)
        while len(rows) > 1:
            half = len(rows) // 2
            rows = [self.k.add(a, b) for a, b in zip(rows[:half], rows[half:], strict=True)]
        return rows[0]

    def biases(self, channels: list[int]) -> Register:
        """Lane i is the bias of the i-th of these channels."""
        assert self.bias is not None
        values = self.k.load(self.bias, 0, self.program.oc)
        return self.k.permute(values, channels + [0] * (self.k.lanes - len(channels)))
