"""The register tile of narrow convolution: all channels of some neighbouring outputs of a row."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from hapgop.algorithms.depthwise_tile import Columns, Reach, each_tile, reach, row_tiles
from hapgop.algorithms.epilogue import activated
from hapgop.algorithms.narrow_work import Work
from hapgop.algorithms.track import Track
from hapgop.tile import Affine, Buffer, Builder, Register


@dataclass(slots=True)
class Gather:
    """Writes the stage that computes."""

    work: Work
    k: Builder
    source: Buffer
    weights: Buffer
    bias: Buffer | None
    target: Buffer
    residual: Buffer | None

    def emit(self, n: Affine) -> None:
        k, work = self.k, self.work
        tiles = row_tiles(work.cols, work.pixels)
        assert tiles is not None
        with k.stage("gather", ("image", n), ("strip", work.strips)) as (image, strip):
            first, size = strip * work.strip, work.strip
            # One residue class's rows after the other: their weights stay in the first cache.
            for track in work.rows:
                with k.loop("row", first, [first + size, track.count]) as row:

                    def visit(column: Affine, columns: Columns, track: Track = track, row: Affine = row) -> None:
                        self.tile(image, track, row, column, columns)

                    each_tile(k, tiles, visit)

    def tile(self, image: Affine, track: Track, row: Affine, column: Affine, columns: Columns) -> None:
        k, work = self.k, self.work
        met = reach(work.cols, columns)
        acc = [[k.const(0.0) for _ in range(work.oc)] for _ in met.outputs]
        s, source, lanes = work.shape, work.source, work.lanes
        full, rest = divmod(work.ic, lanes)
        if track.taps:
            with k.loop("tap", *track.tap_range(row)) as t:
                line = image * source.n + track.source(row, t) * source.h
                line += column * (work.cols[0].in_step * source.w)
                weights = (track.tap_first + t * track.tap_step) * (work.vectors * s.kw * work.oc * lanes)
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
        kw = self.work.shape.kw
        if len(self.work.cols) > 1 or self.work.held == kw:
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
        k, source, step = self.k, self.work.source, self.work.cols[0].in_step
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
        k, work = self.k, self.work
        lanes, oc, held = work.lanes, work.oc, work.held
        at = weights + vector * (work.shape.kw * oc * lanes)
        for first in range(0, len(taps), held):
            used = taps[first : first + held]
            w = {tap: [k.load(self.weights, at + (tap * oc + c) * lanes) for c in range(oc)] for tap in used}
            for place, pairs in met.inputs.items():
                reached = [(number, w[tap]) for number, tap in pairs if tap in w]
                if reached:
                    x = k.load(self.source, line + place * work.source.w + vector * lanes, count)
                    for number, weight in reached:
                        for c in range(oc):
                            k.fma(x, weight[c], acc[number][c], into=acc[number][c])

    def finish(
        self, image: Affine, track: Track, row: Affine, column: Affine, met: Reach, acc: list[list[Register]]
    ) -> None:
        """The lanes' sums, bias, residual, activation, store."""
        k, work, to = self.k, self.work, self.work.target
        cols = work.cols
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
                total = activated(k, total, work.problem.activation)
                k.store(total, self.target, at + i, len(part))

        if to.c == 1:
            sums = [acc[number][c] for number in order for c in range(work.oc)]
            put(sums, [c for _ in order for c in range(work.oc)], first)
        else:
            for c in range(work.oc):
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
        values = self.k.load(self.bias, 0, self.work.oc)
        return self.k.permute(values, channels + [0] * (self.k.lanes - len(channels)))
