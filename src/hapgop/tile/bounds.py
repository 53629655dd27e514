"""Proves how large and how small an affine expression can get: the checker's arithmetic.

Atoms are eliminated from the innermost outwards; each is replaced by one of its bounds (a loop has one for every
argument of its minimum or maximum, and a constant one), and the tightest result counts. This is Fourier-Motzkin
elimination for the triangular systems that loop nests are; it is conservative: what it cannot prove it does not claim.
"""

from fractions import Fraction
from math import ceil, floor, inf

from hapgop.tile.index import Affine, Atom, Quotient, Size, Var, depth

Number = Fraction | float


def _rank(atom: Atom) -> tuple[int, int]:
    """A quotient is eliminated before the atoms it is made of."""
    nesting = 0
    inner: tuple[Atom, ...] = (atom,)
    while any(isinstance(a, Quotient) for a in inner):
        nesting += 1
        inner = tuple(t for a in inner if isinstance(a, Quotient) for t in a.numerator.terms)
    return depth(atom), nesting


class Ranges:
    """Bounds of the loop variables in scope."""

    def __init__(self) -> None:
        self._lows: dict[Atom, tuple[Affine, ...]] = {}
        self._highs: dict[Atom, tuple[Affine, ...]] = {}
        self._known: dict[Affine, Number] = {}
        self._ranks: dict[Atom, tuple[int, int]] = {}

    def enter(self, var: Var, low: tuple[Affine, ...], high: tuple[Affine, ...], step: int = 1) -> None:
        """Declares max(low) <= var < min(high)."""
        lows, highs = low, tuple(h - 1 for h in high)
        least = max(self.lower(a) for a in lows)
        most = min(self.upper(a) for a in highs)
        if least != -inf:
            lows = (Affine(ceil(least)), *(a for a in lows if a.terms))
        if most != inf:
            last = floor(most)
            if step > 1 and all(not a.terms for a in low) and least != -inf:
                last = ceil(least) + (last - ceil(least)) // step * step
            highs = (Affine(last), *(a for a in highs if a.terms))
        self._lows[var], self._highs[var] = lows, highs

    def lower(self, e: Affine) -> Number:
        """A number that the expression is never below."""
        return -self.upper(-e)

    def upper(self, e: Affine) -> Number:
        """A number that the expression is never above."""
        if not e.terms:
            return Fraction(e.const)
        known = self._known.get(e)
        if known is None:
            known = self._known[e] = self._eliminate(e)
        return known

    def _eliminate(self, e: Affine) -> Number:
        atom = max(e.terms, key=self._order)
        c = e.terms[atom]
        rest = Affine(e.const, {a: k for a, k in e.terms.items() if a != atom})
        if isinstance(atom, Size):
            return self.upper(rest + c * (atom.high if c > 0 else atom.low))
        if isinstance(atom, Var):
            if atom not in self._lows:
                raise KeyError(f"{atom.name} is used outside its loop")
            bounds = self._highs[atom] if c > 0 else self._lows[atom]
            return min(self.upper(rest + bound * c) for bound in bounds)
        # numerator - (divisor - 1) <= divisor * quotient <= numerator, and the quotient is whole
        numerator, divisor = atom.numerator, atom.divisor
        if c < 0:
            whole = self.lower(numerator) / divisor
            slack = self.upper(rest * divisor + (numerator - (divisor - 1)) * c)
        else:
            whole = self.upper(numerator) / divisor
            slack = self.upper(rest * divisor + numerator * c)
        best = slack / divisor
        return best if abs(whole) == inf else min(best, self.upper(rest + floor(whole) * c))

    def _order(self, atom: Atom) -> tuple[int, int]:
        rank = self._ranks.get(atom)
        if rank is None:
            rank = self._ranks[atom] = _rank(atom)
        return rank
