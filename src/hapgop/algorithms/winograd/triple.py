"""The bilinear algorithms (A, B, G), made from points by exact rational arithmetic.

A correlation of a filter g of r taps with a signal d gives m outputs as  A^T [(G g) * (B^T d)]  with m + r - 1 products
(Toom and Cook; Winograd, "Arithmetic Complexity of Computations", 1980; Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", 2016). It is a decomposition of a trilinear form, so that the same three matrices
give the gradients too.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

Row = tuple[Fraction, ...]
Matrix = tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Triple:
    """One axis of an algorithm.

    at         outputs x products
    bt         products x inputs
    g          products x taps
    in_step    inputs from one tile to the next; a tile reads as many as `bt` has columns
    """

    at: Matrix
    bt: Matrix
    g: Matrix
    in_step: int

    @property
    def outputs(self) -> int:
        return len(self.at)

    @property
    def products(self) -> int:
        return len(self.g)

    @property
    def inputs(self) -> int:
        return len(self.bt[0])

    @property
    def taps(self) -> int:
        return len(self.g[0])


def transposed(a: Matrix) -> Matrix:
    return tuple(zip(*a, strict=True))


@cache
def toom_cook(m: int, points: Row) -> Triple:
    """F(m, r) for the finite points given and infinity, where r = len(points) + 2 - m.

    >>> toom_cook(2, (Fraction(0), Fraction(1), Fraction(-1))).inputs
    4
    """
    n = len(points)  # and infinity
    r = n + 2 - m
    at = [[p**i for p in points] + [Fraction(i == m - 1)] for i in range(m)]
    g, bt = [], []
    for j, p in enumerate(points):
        others = points[:j] + points[j + 1 :]
        scale = Fraction(1)
        for q in others:
            scale *= p - q
        g.append(tuple(p**k / scale for k in range(r)))
        bt.append((*_product(others), Fraction(0)))
    g.append(tuple(Fraction(k == r - 1) for k in range(r)))
    bt.append(_product(points))
    return Triple(tuple(map(tuple, at)), tuple(bt), tuple(g), m)


def _product(roots: Row) -> Row:
    """Coefficients of the product of (x - root), lowest first."""
    poly = [Fraction(1)]
    for root in roots:
        poly = [a - root * b for a, b in zip([Fraction(0), *poly], [*poly, Fraction(0)], strict=True)]
    return tuple(poly)


def plain(m: int) -> Triple:
    """One tap: as many products as outputs."""
    one = tuple(tuple(Fraction(i == j) for j in range(m)) for i in range(m))
    return Triple(one, one, tuple((Fraction(1),) for _ in range(m)), m)


def strided(phases: tuple[Triple, ...]) -> Triple:
    """A stride of S = len(phases): taps p, p + S ... meet the inputs of residue p alone, by phases[p] = F(m, taps).

    >>> strided((toom_cook(2, (Fraction(1), Fraction(-1))), plain(2))).inputs
    5
    """
    step, m, taps = len(phases), phases[0].outputs, sum(phase.taps for phase in phases)
    size = max(step * (phase.inputs - 1) + p + 1 for p, phase in enumerate(phases))
    bt, g = [], []
    for p, phase in enumerate(phases):
        bt += [_placed(row, size, p, step) for row in phase.bt]
        g += [_placed(row, taps, p, step) for row in phase.g]
    at = tuple(sum((phase.at[o] for phase in phases), ()) for o in range(m))
    return Triple(at, tuple(bt), tuple(g), step * m)


def upsampled(phases: tuple[Triple, ...], padding: int) -> tuple[Triple, int]:
    """The input gradient of what `strided` computes, its filter turned, and the input that its first tile begins with.

    Outputs of residue p mod S = len(phases) meet the taps k of (p + padding - k) mod S = 0, by phases[k mod S].

    >>> t, first = upsampled((toom_cook(2, (Fraction(1), Fraction(-1))), plain(2)), padding=1)
    >>> t.outputs, t.inputs, first
    (4, 3, 0)
    """
    step, m, taps = len(phases), phases[0].outputs, sum(phase.taps for phase in phases)
    tracks = []
    for p in range(step):
        turn, residue = divmod(p + padding, step)
        tracks.append((phases[residue], residue, turn - phases[residue].taps + 1))
    first = min(low for _, _, low in tracks)
    size = max(low + phase.inputs for phase, _, low in tracks) - first
    width = sum(phase.products for phase, _, _ in tracks)
    at: list[Row] = [()] * (step * m)
    bt: list[Row] = []
    g: list[Row] = []
    for p, (phase, residue, low) in enumerate(tracks):
        for o, row in enumerate(phase.at):
            at[step * o + p] = _placed(row, width, len(bt), 1)
        bt += [_placed(row, size, low - first, 1) for row in phase.bt]
        # Tap number s of a phase, in the order of its inputs, is the one of residue + step * (its taps - 1 - s).
        g += [_placed(row, taps, taps - 1 - residue - step * (phase.taps - 1), step) for row in phase.g]
    return Triple(tuple(at), tuple(bt), tuple(g), m), first


def _placed(row: Row, size: int, first: int, step: int) -> Row:
    """A row among zeros: from `first` on, `step` apart."""
    out = [Fraction(0)] * size
    out[first : first + step * len(row) : step] = row
    return tuple(out)
