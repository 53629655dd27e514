"""Which points: chosen for accuracy, with the error that was measured.

Error: largest difference from float64 over the largest value, of normal data, 64 channels at 28 x 28 (and 512
channels). Plain sums have 8e-7 (2e-6).

    F(2x2, 3x3)  0, 1, -1                 3e-7           exact on small integers
    F(3x3, 3x3)  +-1/2, +-5/4             7e-7
                 0, +-3/4, 3/2            1.3e-6             dropped, as (0, +-1, 2): 2.2e-6
    F(4x4, 3x3)  0, +-2/3, +-4/3          1.2e-6 (3.3e-6)
                 0, +-5/8, +-3/2          1.2e-6
                 0, +-1, +-2 (the usual)  5.5e-6 (1.7e-5)    dropped
    F(5x5, 3x3)  +-3/8, +-6/7, +-8/5      3.1e-6 (1.3e-5)
                 +-2/5, +-4/5, +-5/3      4.0e-6 (1.2e-5)
    F(6x6, 3x3)  0, +-1, +-2, +-1/2       8e-6 (2e-5)        dropped: at most 5 % faster than F(4x4)
    F(2x2, 5x5)  0, +-2/3, +-3/2          1e-6
    F(4x4, 5x5)  0, +-3/5, +-1, +-7/4     6e-6
    F(2, 2)      1, -1                    5e-7           inside of stride 2
"""

from dataclasses import replace
from fractions import Fraction as Q
from functools import cache

from hapgop.algorithms.winograd.triple import Row, Triple, plain, strided, toom_cook, upsampled


def _around_zero(*sizes: Q) -> Row:
    return (Q(0), *(sign * size for size in sizes for sign in (1, -1)))


_POINTS: dict[tuple[int, int], Row] = {
    (2, 3): _around_zero(Q(1)),
    (4, 3): _around_zero(Q(2, 3), Q(4, 3)),
    (5, 3): _around_zero(Q(3, 8), Q(6, 7), Q(8, 5))[1:],
    (2, 5): _around_zero(Q(2, 3), Q(3, 2)),
    (4, 5): _around_zero(Q(3, 5), Q(1), Q(7, 4)),
    (3, 3): (Q(1, 2), Q(-1, 2), Q(5, 4), Q(-5, 4)),
    (2, 2): (Q(1), Q(-1)),
    (4, 2): (Q(1, 2), Q(-1, 2), Q(5, 4), Q(-5, 4)),
}

# How many times the bound of plain sums, 16 + 2 sqrt(terms) roundings, an algorithm may need: measured, with room.
GROWTH = {(1, 1): 1, (2, 3): 2, (3, 3): 6, (4, 3): 8, (5, 3): 20, (2, 5): 6, (4, 5): 32}


@cache
def triple(m: int, r: int, stride: int = 1) -> Triple:
    """F(m, r) on the points above; with a stride, one F for the taps of each residue class."""
    if r == 1:
        return replace(plain(m), in_step=m * stride)
    return toom_cook(m, _POINTS[m, r]) if stride == 1 else strided(_phases(m, r, stride))


@cache
def gradient(m: int, r: int, stride: int, padding: int) -> tuple[Triple, int]:
    """The same for the input gradient, with m outputs of each residue class, and the input that the first tile begins
    with.

    Paddings of one residue have the same triple.
    """
    if stride == 1:
        return triple(m, r), padding - r + 1
    return upsampled(_phases(m, r, stride), padding)


def _phases(m: int, r: int, stride: int) -> tuple[Triple, ...]:
    taps = [len(range(p, r, stride)) for p in range(stride)]
    return tuple(plain(m) if t == 1 else toom_cook(m, _POINTS[m, t]) for t in taps)
