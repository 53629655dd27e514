"""How a row of outputs is cut into register tiles."""

from __future__ import annotations

from dataclasses import dataclass

from hapgop.algorithms.track import Track

# Border tiles are unrolled, each with the taps that are inside for it. More of them than this (a wide padding, a large
# dilation) would only be much code: then single pixels are done in a loop, with run-time bounds on the taps.
_MOST_BORDER_TILES = 8


@dataclass(frozen=True, slots=True)
class Segment:
    """Outputs start..stop-1 of a row, in tiles of `pixels`.

    interior: every tap of every pixel is inside. dynamic: single pixels whose taps are found at run time. Otherwise
    one border tile, whose taps are known when the program is built.
    """

    start: int
    stop: int
    pixels: int
    interior: bool
    dynamic: bool = False


def segments(track: Track, pixels: int) -> list[Segment]:
    """The segments of a row of `track.count` outputs, left to right."""
    first, last = track.interior
    tiles = [(q, min(q + pixels, track.count)) for q in range(0, track.count, pixels)]
    border = [t for t in tiles if not (first <= t[0] and t[1] <= last)]
    if len(border) > _MOST_BORDER_TILES:
        return _with_dynamic_borders(track, pixels)
    out: list[Segment] = []
    for start, stop in tiles:
        inside = first <= start and stop <= last
        if inside and out and out[-1].interior and out[-1].pixels == stop - start:
            out[-1] = Segment(out[-1].start, stop, out[-1].pixels, True)
        else:
            out.append(Segment(start, stop, stop - start, inside))
    return out


def _with_dynamic_borders(track: Track, pixels: int) -> list[Segment]:
    first, last = track.interior
    if first >= last:
        return [Segment(0, track.count, 1, False, dynamic=True)]
    whole = first + (last - first) // pixels * pixels
    parts = (
        Segment(0, first, 1, False, dynamic=True),
        Segment(first, whole, pixels, True),
        Segment(whole, last, last - whole, True),
        Segment(last, track.count, 1, False, dynamic=True),
    )
    return [s for s in parts if s.start < s.stop]
