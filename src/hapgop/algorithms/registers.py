"""Register tiles: how many pixels times how many vectors of channels one pass of the inner loop keeps in registers."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import ceil, gcd

from hapgop.machine import Machine

# One step of the reduction loads `vectors` weights, broadcasts `pixels` inputs and makes pixels * vectors FMAs. These
# are per cycle, on cores of today: two loads, two FMAs of full width, an FMA's result after four cycles.
LOADS, FMAS, LATENCY = 2, 2, 4
# Cycles for a vector of weights from the second cache, as most are when they are needed again. With few registers it
# decides: 2 pixels x 5 vectors would do ten FMAs in five cycles, and wait seven for their weights.
FAR = 1.5

# Lines a page apart share a place in the first cache, which has eight ways or more; one is left for the weights.
_PAGE, _WAYS = 4096, 7


def step_cycles(pixels: int, vectors: int) -> float:
    """Cycles of one reduction step of a tile, at best."""
    return max(pixels * vectors / FMAS, (pixels + vectors + 1) / LOADS, vectors * FAR, LATENCY)


def balanced(width: int, most: int) -> int:
    """The block size that cuts `width` into as few blocks as `most` allows, as equal as can be."""
    return ceil(width / ceil(width / most)) if width else 1


def together(step: int) -> int:
    """How many pixels, `step` bytes from one to the next, can be kept in the first cache side by side.

    Lines that lie a page apart share a place there, and no more of them can be kept than the cache has ways.
    """
    return _WAYS * (_PAGE // gcd(step, _PAGE))


def fitting(channels: int, dtype: str, machine: Machine) -> Machine:
    """The machine with vectors of half the size, where those leave a sixth or more of the lanes less empty.

    6 channels are 6 of 16 lanes or 6 of 8; 24 are 24 of 32 or of 24. Twice as many narrow vectors are multiplied in a
    cycle: AVX-512 has 32 registers of either size, and the same lanes a cycle.
    """
    lanes = machine.lanes(dtype)
    if machine.isa != "avx512" or lanes < 2:
        return machine
    wide, narrow = (ceil(channels / n) * n for n in (lanes, lanes // 2))
    return replace(machine, vector_bytes=machine.vector_bytes // 2) if 6 * narrow <= 5 * wide else machine


@lru_cache(4096)
def choose_tile(width: int, vectors: int, machine: Machine, most_pixels: int = 1000) -> tuple[int, int]:
    """(pixels, vectors) for rows of `width` outputs and `vectors` vectors of channels: the fewest cycles for a row."""
    best = None
    for v in range(1, min(vectors, 6) + 1):
        most = min((machine.registers - 1 - v) // v, most_pixels)
        if most < 1:
            break
        p = balanced(width, most)
        # An extra cycle a step for what the model leaves out (loop, addresses): it favours larger tiles.
        tiles = ((m * n, step_cycles(run, block) + 0.25) for m, block in runs(vectors, v) for n, run in runs(width, p))
        cycles = sum(count * each for count, each in tiles)
        if best is None or cycles < best[0]:
            best = cycles, p, v
    assert best is not None
    return best[1], best[2]


def runs(total: int, size: int) -> list[tuple[int, int]]:
    """A total cut into blocks, as (how many, of what size): 40 by 16 is [(2, 16), (1, 8)]."""
    full, rest = divmod(total, size)
    return [run for run in ((full, size), (1, rest)) if all(run)]
