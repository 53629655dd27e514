"""The register tile of depthwise convolution: some outputs of a row, for one vector of channels.

One row of taps after the other: its weights are loaded, then each input of the row once, and multiplied into every
output that it reaches. The columns of an input gradient's residue classes lie side by side in one tile, so that a
stride costs no load.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hapgop.algorithms.registers import balanced
from hapgop.algorithms.track import Track
from hapgop.tile import Affine, Builder, Register

# More outputs a tile than 14 save few loads and make long borders. A wait for memory is hidden by the work of the next
# tile, which the CPU begins early only where tiles are small.
_MOST_PIXELS, _MOST_FAR = 14, 7
_MOST_BORDERS = 16  # border tiles are unrolled, each with the taps that are inside for it


@dataclass(frozen=True, slots=True)
class Columns:
    """The tiles of a row: columns start..stop-1 of every track, `pixels` at a time.

    interior: all outputs are there and all their taps inside; the others' are known when the program is built.
    """

    start: int
    stop: int
    pixels: int
    interior: bool


@dataclass(frozen=True, slots=True)
class Reach:
    """What a tile's columns meet: (track, pixel) of each output, and for each input column (output, tap) pairs."""

    outputs: tuple[tuple[int, int], ...]
    inputs: dict[int, tuple[tuple[int, int], ...]]


def row_tiles(tracks: Sequence[Track], pixels: int) -> list[Columns] | None:
    """A row cut into tiles, or None where its borders are too long to be unrolled."""
    width = max(t.count for t in tracks)
    met = [t for t in tracks if t.taps]
    first = max((t.interior[0] for t in met), default=0)
    last = min([t.interior[1] for t in met] + [t.count for t in tracks])
    out: list[Columns] = []
    for start in range(0, width, pixels):
        stop = min(start + pixels, width)
        inside = first <= start and stop <= last
        if inside and out and out[-1].interior and out[-1].pixels == stop - start:
            out[-1] = Columns(out[-1].start, stop, stop - start, True)
        else:
            out.append(Columns(start, stop, stop - start, inside))
    return out if sum(not c.interior for c in out) <= _MOST_BORDERS else None


def reach(tracks: Sequence[Track], columns: Columns) -> Reach:
    """Input columns are counted from the input of output column `start` without its offset."""
    outputs = [
        (i, p)
        for i, track in enumerate(tracks)
        for p in range(columns.pixels)
        if columns.interior or columns.start + p < track.count
    ]
    inputs: dict[int, list[tuple[int, int]]] = {}
    for number, (i, p) in enumerate(outputs):
        track = tracks[i]
        for tap in range(track.taps):
            if columns.interior or track.valid(columns.start + p, tap):
                column = p * track.in_step + track.in_first + tap * track.in_tap
                inputs.setdefault(column, []).append((number, track.tap_first + tap * track.tap_step))
    return Reach(tuple(outputs), {column: tuple(pairs) for column, pairs in sorted(inputs.items())})


def most_taps(kw: int, registers: int) -> int:
    """Weights of a filter row that are held at a time."""
    return balanced(kw, registers // 2 - 1)


def tile_pixels(tracks: Sequence[Track], kw: int, registers: int, far: bool) -> int:
    """Outputs of each track in a tile; 0 where even one is too many. far: inputs and results lie in memory."""
    # One register is the input's, and one LLVM's: with none to spare it spills.
    room = (registers - 2 - most_taps(kw, registers)) // len(tracks)
    return balanced(max(t.count for t in tracks), min(room, _MOST_FAR if far else _MOST_PIXELS)) if room else 0


def each_tile(k: Builder, tiles: Sequence[Columns], visit: Callable[[Affine, Columns], None]) -> None:
    """Visits the tiles of a row, equal neighbours in a loop."""
    for c in tiles:
        if c.stop - c.start > c.pixels:
            with k.loop("column", c.start, c.stop, c.pixels) as column:
                visit(column, Columns(c.start, c.start + c.pixels, c.pixels, True))
        else:
            visit(Affine(c.start), c)


def tap_row(
    k: Builder,
    met: Reach,
    held: int,
    weight: Callable[[int], Register],
    source: Callable[[int], Register],
    acc: Sequence[Register],
) -> None:
    """acc += one row of taps: `weight` loads a tap's, `source` an input column's vector."""
    taps = sorted({tap for pairs in met.inputs.values() for _, tap in pairs})
    for first in range(0, len(taps), held):
        weights = {tap: weight(tap) for tap in taps[first : first + held]}
        for column, pairs in met.inputs.items():
            used = [(number, weights[tap]) for number, tap in pairs if tap in weights]
            if used:
                value = source(column)
                for number, w in used:
                    k.fma(value, w, acc[number], into=acc[number])
