"""Pools backward: each input goes through the windows that hold it and gathers its share.

Nothing is ever added from two sides, so threads need not wait for one another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hapgop.algorithms.layout import Strides
from hapgop.algorithms.pool_windows import UNROLLED, Windows
from hapgop.algorithms.track import Track
from hapgop.tile import Affine, Buffer, Builder, Register


@dataclass(slots=True)
class Backward:
    """dx: of a max pool where `winners` is given, of an average pool where `divisors` is."""

    windows: Windows
    k: Builder
    g: Buffer
    winners: Buffer | None
    divisors: Buffer | None
    target: Buffer
    x: Strides
    y: Strides

    def emit(self, n: Affine) -> None:
        if self.windows.tiled:
            self.by_window(n)
        else:
            self.by_input(n)

    def by_window(self, n: Affine) -> None:
        """Windows that tile the image: each hands its gradient to its own inputs."""
        k, s, windows = self.k, self.windows.shape, self.windows
        with k.stage("windows", ("image", n), ("row", s.oh)) as (image, oh):
            with k.loop("column", 0, s.ow) as ow:

                def visit(channel: Affine, counts: tuple[int, ...]) -> None:
                    share = self.share(image, oh, ow, channel, counts)

                    def tap(t: Affine, u: Affine) -> None:
                        zeros = [k.const(0.0) for _ in counts]
                        self.gather(share, t * s.kw + u, zeros)
                        self.put(image, oh * s.kh + t, ow * s.kw + u, channel, counts, zeros)

                    if s.kh * s.kw <= UNROLLED:
                        for t, u in np.ndindex(s.kh, s.kw):
                            tap(Affine(t), Affine(u))
                    else:
                        with k.loop("tap", 0, s.kh) as row, k.loop("tap_column", 0, s.kw) as column:
                            tap(row, column)

                windows.blocks(k, visit)
            self.clear(image, oh * s.kh, oh * s.kh + s.kh, s.ow * s.kw)
        below = s.oh * s.kh
        if below < s.ih:
            with k.stage("below", ("image", n), ("row", s.ih - below)) as (image, row):
                self.clear(image, row + below, row + below + 1, 0)

    def clear(self, image: Affine, low: Affine, high: Affine, column: int) -> None:
        """Inputs that no window reads have gradient zero."""
        k, s = self.k, self.windows.shape
        if column < s.iw:
            with k.loop("unread_row", low, high) as ih, k.loop("unread", column, s.iw) as iw:
                self.windows.blocks(
                    k, lambda c, counts: self.put(image, ih, iw, c, counts, [k.const(0.0) for _ in counts])
                )

    def by_input(self, n: Affine) -> None:
        """Windows that overlap: each input gathers from all that hold it."""
        k, s, windows = self.k, self.windows.shape, self.windows
        rows, cols = windows.rows, windows.cols
        with k.stage("inputs", ("image", n), ("row", s.ih)) as (image, ih), k.loop("column", 0, s.iw) as iw:

            def visit(channel: Affine, counts: tuple[int, ...]) -> None:
                total = [k.const(0.0) for _ in counts]

                def window(oh: Affine, t: Affine, ow: Affine, u: Affine) -> None:
                    self.gather(self.share(image, oh, ow, channel, counts), t * s.kw + u, total)

                self.holders(rows, ih, lambda oh, t: self.holders(cols, iw, lambda ow, u: window(oh, t, ow, u)))
                self.put(image, ih, iw, channel, counts, total)

            windows.blocks(k, visit)

    def holders(self, track: Track, i: Affine, visit: Callable[[Affine, Affine], None]) -> None:
        """Visits (output, tap) of every window that holds input i, outputs ascending (taps, where dilated)."""
        k = self.k
        offset = i - track.in_first
        if track.in_tap == 1:
            low = -((-offset + (track.taps - 1)) // track.in_step)
            high = offset // track.in_step + 1
            with k.loop("window", [Affine(0), low], [Affine(track.count), high]) as q:
                visit(q, offset - q * track.in_step)
            return
        with k.loop("tap", 0, track.taps) as t:
            # Runs once where the stride divides what is left, else not at all.
            rest = offset - t * track.in_tap
            low, high = -(-rest // track.in_step), rest // track.in_step + 1
            with k.loop("window", [Affine(0), low], [Affine(track.count), high]) as q:
                visit(q, t)

    def share(
        self, image: Affine, oh: Affine, ow: Affine, channel: Affine, counts: tuple[int, ...]
    ) -> list[tuple[Register, Register | None]]:
        """A window's gradient (of an average: divided), and its winner's position."""
        k, y = self.k, self.y
        at = image * y.n + oh * y.h + ow * y.w + channel * y.c
        places = [(at + o, c) for o, c in self.windows.lane_offsets(counts, y.c)]
        g = [k.load(self.g, place, count, y.c) for place, count in places]
        if self.divisors is not None:
            divisor = self.windows.divisor(k, self.divisors, oh, ow)
            return [(k.div(value, divisor), None) for value in g]
        assert self.winners is not None
        return [(v, k.load(self.winners, place, c, y.c)) for v, (place, c) in zip(g, places, strict=True)]

    def gather(self, share: list[tuple[Register, Register | None]], position: Affine, total: list[Register]) -> None:
        """total += the share, where this position is the winner's."""
        k = self.k
        here = k.from_index(position) if self.winners is not None else None
        zero = k.const(0.0)
        for v, (g, winner) in enumerate(share):
            if here is not None and winner is not None:
                g = k.select("equal", winner, here, g, zero)
            k.add(total[v], g, into=total[v])

    def put(
        self, image: Affine, ih: Affine, iw: Affine, channel: Affine, counts: tuple[int, ...], values: list[Register]
    ) -> None:
        x = self.x
        at = image * x.n + ih * x.h + iw * x.w + channel * x.c
        for (offset, count), value in zip(self.windows.lane_offsets(counts, x.c), values, strict=True):
            self.k.store(value, self.target, at + offset, count, x.c)
