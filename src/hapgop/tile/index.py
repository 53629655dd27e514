"""Integer expressions of a tile program: always affine, so that every access can be proved to lie inside its buffer.

An `Affine` is `const + sum(coefficient * atom)`. An atom is a run-time `Size`, a loop's `Var`, or a `Quotient` (floor
division of an affine expression by a positive constant). Minimum and maximum appear only as loop bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """An integer that is known when the kernel is called; `low <= value <= high`."""

    name: str
    low: int = 1
    high: int = 2**31

    def __hash__(self) -> int:
        return hash(self.name)


@dataclass(frozen=True, slots=True)
class Var:
    """A loop variable. Names are unique within a kernel; `depth` counts the loops around it."""

    name: str
    depth: int

    def __hash__(self) -> int:
        return hash(self.name)


@dataclass(frozen=True, slots=True)
class Quotient:
    """floor(numerator / divisor), divisor > 0."""

    numerator: Affine
    divisor: int

    @property
    def name(self) -> str:
        return f"({self.numerator} // {self.divisor})"


Atom = Size | Var | Quotient


def depth(atom: Atom) -> int:
    """How many loops have to be entered before the atom has a value."""
    if isinstance(atom, Var):
        return atom.depth
    return max(map(depth, atom.numerator.terms), default=0) if isinstance(atom, Quotient) else 0


class Affine:
    """const + sum of coefficient * atom; immutable, compared by value.

    >>> i = Affine.of(Var("i", 1))
    >>> str(i * 4 + 2 - i)
    '3 i + 2'
    >>> str((i + 5) // 2), str(Affine.of(7) // 2)
    ('(i + 5 // 2)', '3')
    """

    __slots__ = ("const", "terms")

    def __init__(self, const: int = 0, terms: Mapping[Atom, int] | None = None) -> None:
        self.const = const
        self.terms: Mapping[Atom, int] = terms or {}

    @staticmethod
    def of(value: Index) -> Affine:
        """An int or an atom as an expression."""
        if isinstance(value, Affine):
            return value
        return Affine(value) if isinstance(value, int) else Affine(0, {value: 1})

    def __add__(self, other: Index) -> Affine:
        if isinstance(other, int):
            return Affine(self.const + other, self.terms)
        right = Affine.of(other)
        terms = dict(self.terms)
        for atom, coefficient in right.terms.items():
            total = terms.get(atom, 0) + coefficient
            if total:
                terms[atom] = total
            else:
                del terms[atom]
        return Affine(self.const + right.const, terms)

    __radd__ = __add__

    def __neg__(self) -> Affine:
        return self * -1

    def __sub__(self, other: Index) -> Affine:
        return self + (-other if isinstance(other, int) else Affine.of(other) * -1)

    def __rsub__(self, other: Index) -> Affine:
        return self * -1 + other

    def __mul__(self, factor: int) -> Affine:
        if factor == 0:
            return Affine()
        return Affine(self.const * factor, {a: c * factor for a, c in self.terms.items()})

    __rmul__ = __mul__

    def __floordiv__(self, divisor: int) -> Affine:
        if divisor == 1:
            return self
        if not self.terms:
            return Affine(self.const // divisor)
        return Affine(0, {Quotient(self, divisor): 1})

    def __mod__(self, divisor: int) -> Affine:
        return self - self // divisor * divisor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Affine) and self.const == other.const and self.terms == other.terms

    def __hash__(self) -> int:
        return hash((self.const, frozenset(self.terms.items())))

    def __repr__(self) -> str:
        parts = [atom.name if c == 1 else f"{c} {atom.name}" for atom, c in self.terms.items()]
        if self.const or not parts:
            parts.append(str(self.const))
        return " + ".join(parts).replace("+ -", "- ")

    def value(self, values: Mapping[Atom, int]) -> int:
        """The number, given the values of sizes and loop variables."""
        total = self.const
        for atom, c in self.terms.items():
            if isinstance(atom, Quotient):
                total += c * (atom.numerator.value(values) // atom.divisor)
            else:
                total += c * values[atom]
        return total


Index = Affine | Size | Var | int
