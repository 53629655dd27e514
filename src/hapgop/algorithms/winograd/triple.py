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


def strided(inner: Triple) -> Triple:
    """Stride 2 and three taps: the outer taps meet the even inputs, by `inner` = F(m, 2), the middle one the odd ones.

    >>> strided(toom_cook(2, (Fraction(1), Fraction(-1)))).inputs
    5
    """
    m, n = inner.outputs, inner.products
    size = 2 * m + 1
    zero = Fraction(0)
    bt, g, at = [], [], [list(row) for row in inner.at]
    for row, taps in zip(inner.bt, inner.g, strict=True):
        spread = [zero] * size
        spread[::2] = row
        bt.append(tuple(spread))
        g.append((taps[0], zero, taps[1]))
    for i in range(m):
        bt.append(tuple(Fraction(c == 2 * i + 1) for c in range(size)))
        g.append((zero, Fraction(1), zero))
        for o in range(m):
            at[o].append(Fraction(o == i))
    assert len(g) == n + m
    return Triple(tuple(map(tuple, at)), tuple(bt), tuple(g), 2 * m)
