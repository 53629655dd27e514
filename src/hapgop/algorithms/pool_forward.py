"""Pools forward: each output goes through its window, clipped to the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from hapgop.algorithms.layout import Strides
from hapgop.algorithms.pool_windows import UNROLLED, Windows
from hapgop.tile import Affine, Buffer, Builder, Register


@dataclass(slots=True)
class Forward:
    """Writes the stage of a forward pool."""

    windows: Windows
    k: Builder
    source: Buffer
    x: Strides
    y: Strides

    def max(self, n: Affine, targets: list[Buffer]) -> None:
        k, windows = self.k, self.windows
        kw, remember = windows.shape.kw, windows.problem.winners

        def visit(
            image: Affine, oh: Affine, ow: Affine, inside: bool, channel: Affine, counts: tuple[int, ...]
        ) -> None:
            best = [k.const(-np.inf) for _ in counts]
            where = [k.const(0.0) for _ in counts]
            if remember and not (inside and windows.rows.always_inside):
                # Before any comparison the winner is the first tap inside: it keeps a window of nothing but -inf.
                self.first_tap(oh, ow, where)

            def tap(t: Affine, u: Affine) -> None:
                values = self.values(image, oh, ow, t, u, channel, counts)
                position = k.from_index(t * kw + u)
                for v, value in enumerate(values):
                    if remember:
                        k.select("above", value, best[v], position, where[v], into=where[v])
                    k.select("above", value, best[v], value, best[v], into=best[v])

            self.taps(oh, ow, inside, tap)
            for target, registers in zip(targets, (best, where) if remember else (best,), strict=True):
                self.store(target, image, oh, ow, channel, counts, registers)

        self.outputs(n, visit)

    def average(self, n: Affine, target: Buffer, divisors: Buffer) -> None:
        k, windows = self.k, self.windows

        def visit(
            image: Affine, oh: Affine, ow: Affine, inside: bool, channel: Affine, counts: tuple[int, ...]
        ) -> None:
            total = [k.const(0.0) for _ in counts]

            def tap(t: Affine, u: Affine) -> None:
                for v, value in enumerate(self.values(image, oh, ow, t, u, channel, counts)):
                    k.add(total[v], value, into=total[v])

            self.taps(oh, ow, inside, tap)
            divisor = windows.divisor(k, divisors, oh, ow)
            self.store(target, image, oh, ow, channel, counts, [k.div(t, divisor) for t in total])

        self.outputs(n, visit)

    def outputs(
        self, n: Affine, visit: Callable[[Affine, Affine, Affine, bool, Affine, tuple[int, ...]], None]
    ) -> None:
        """Every output: border columns with taps found at run time, the others with all of them."""
        k, windows = self.k, self.windows
        first, last = windows.cols.interior
        with k.stage("pool", ("image", n), ("row", windows.shape.oh)) as (image, oh):
            for low, high, inside in ((0, first, False), (first, last, True), (last, windows.shape.ow, False)):
                if low < high:
                    with k.loop("column", low, high) as ow:
                        windows.blocks(k, partial(visit, image, oh, ow, inside))

    def taps(self, oh: Affine, ow: Affine, inside: bool, visit: Callable[[Affine, Affine], None]) -> None:
        rows, cols = self.windows.rows, self.windows.cols
        if inside and rows.always_inside and rows.taps * cols.taps <= UNROLLED:
            for t, u in np.ndindex(rows.taps, cols.taps):
                visit(Affine(t), Affine(u))
            return
        with self.k.loop("tap", *rows.tap_range(oh)) as row:
            if inside and cols.taps <= UNROLLED:
                for u in range(cols.taps):
                    visit(row, Affine(u))
            else:
                with self.k.loop("tap_column", *cols.tap_range(ow)) as column:
                    visit(row, column)

    def first_tap(self, oh: Affine, ow: Affine, where: list[Register]) -> None:
        """where = the position of the first tap inside: loops of one turn, since their lower bound is a maximum."""
        rows, cols = self.windows.rows, self.windows.cols
        zero = self.k.const(0.0)
        with self.k.loop("first", *rows.tap_range(oh), step=rows.taps) as t:
            with self.k.loop("first_column", *cols.tap_range(ow), step=cols.taps) as u:
                position = self.k.from_index(t * cols.taps + u)
                for register in where:
                    self.k.add(position, zero, into=register)

    def values(
        self, image: Affine, oh: Affine, ow: Affine, t: Affine, u: Affine, channel: Affine, counts: tuple[int, ...]
    ) -> list[Register]:
        rows, cols, x = self.windows.rows, self.windows.cols, self.x
        at = image * x.n + rows.source(oh, t) * x.h + cols.source(ow, u) * x.w + channel * x.c
        return [self.k.load(self.source, at + o, c, x.c) for o, c in self.windows.lane_offsets(counts, x.c)]

    def store(
        self,
        target: Buffer,
        image: Affine,
        oh: Affine,
        ow: Affine,
        channel: Affine,
        counts: tuple[int, ...],
        values: list[Register],
    ) -> None:
        y = self.y
        at = image * y.n + oh * y.h + ow * y.w + channel * y.c
        for (offset, count), value in zip(self.windows.lane_offsets(counts, y.c), values, strict=True):
            self.k.store(value, target, at + offset, count, y.c)
