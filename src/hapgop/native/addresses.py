"""Integers and addresses of a tile program as LLVM IR: each computed as far out as its variables allow.

So the innermost loop only adds constants.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hapgop.tile import Affine, Buffer, Coordinate, Kernel, Quotient, Size, Var, depth


@dataclass(slots=True)
class Scope:
    """A loop's body: what is computed once at its start, and where it ends."""

    header: list[str] = field(default_factory=list)
    known: dict[object, str] = field(default_factory=dict)


class Addresses:
    """What `Emitter` knows of numbers that are no vectors; `scopes`, outermost first, are those around a statement."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.scalar = "double" if kernel.dtype == "float64" else "float"
        self.lines: list[str] = []
        self.scopes: list[Scope] = []
        self.bases: dict[tuple[str, Affine], str] = {}
        self._names = 0

    def fresh(self) -> str:
        self._names += 1
        return f"%t{self._names}"

    def integer(self, e: Affine) -> str:
        """The SSA name (or literal) of an integer expression, computed as far out as its atoms allow."""
        if not e.terms:
            return str(e.const)
        base = self.sum(e)
        if not e.const:
            return base
        return self.once(self.deepest(e), ("int", e), f"add nsw i64 {base}, {e.const}")

    def sum(self, e: Affine) -> str:
        """The variable part of an expression."""
        here, outer = self.split(e)
        parts = [self.product(atom, c) for atom, c in here.terms.items()]
        if outer.terms:
            parts.insert(0, self.sum(outer))
        at = self.deepest(e)
        total = parts[0]
        for i, part in enumerate(parts[1:]):
            total = self.once(at, ("sum", Affine(0, e.terms), i), f"add nsw i64 {total}, {part}")
        return total

    def pointer(self, buffer: Buffer, index: Affine) -> str:
        """The address of an element: one addition for each loop that moves it, constants last."""
        base = self.base(buffer, Affine(0, index.terms))
        if not index.const:
            return base
        name = self.fresh()
        self.lines.append(f"{name} = getelementptr inbounds {self.element(buffer)}, ptr {base}, i64 {index.const}")
        return name

    def element(self, buffer: Buffer) -> str:
        if buffer.whole:
            return "i32"
        return "i8" if buffer.octets else "i16" if buffer.narrow else self.scalar

    def base(self, buffer: Buffer, variable: Affine) -> str:
        if not variable.terms:
            return f"%b_{buffer.name}"
        # Loop variables have names of their own, so what was found once in a stage stays right.
        key = (buffer.name, variable)
        name = self.bases.get(key)
        if name is None:
            here, outer = self.split(variable)
            start, offset = self.base(buffer, outer), self.sum(here)
            line = f"getelementptr inbounds {self.element(buffer)}, ptr {start}, i64 {offset}"
            name = self.bases[key] = self.once(self.deepest(variable), ("ptr", *key), line)
        return name

    def split(self, e: Affine) -> tuple[Affine, Affine]:
        """The terms that get their value in the deepest scope, and the rest."""
        deepest = self.deepest(e)
        here = {a: c for a, c in e.terms.items() if self.scopes[depth(a)] is deepest}
        rest = {a: c for a, c in e.terms.items() if a not in here}
        return Affine(0, here), Affine(0, rest)

    def deepest(self, e: Affine) -> Scope:
        return self.scopes[max(map(depth, e.terms), default=0)]

    def product(self, atom: Size | Var | Quotient, c: int) -> str:
        name = self.atom(atom)
        if c == 1:
            return name
        scope = self.scopes[depth(atom)]
        return self.once(scope, ("mul", atom, c), f"mul nsw i64 {name}, {c}")

    def atom(self, atom: Size | Var | Quotient) -> str:
        if isinstance(atom, Size):
            return f"%s_{atom.name}"
        if isinstance(atom, Var):
            return f"%i_{atom.name}"
        scope = self.scopes[depth(atom)]
        top = self.integer(atom.numerator)
        # Rounds down: a negative numerator is first lowered by divisor - 1.
        sign = self.once(scope, ("sign", atom), f"ashr i64 {top}, 63")
        fix = self.once(scope, ("fix", atom), f"and i64 {sign}, {atom.divisor - 1}")
        low = self.once(scope, ("low", atom), f"sub nsw i64 {top}, {fix}")
        return self.once(scope, ("div", atom), f"sdiv i64 {low}, {atom.divisor}")

    def once(self, scope: Scope, key: object, instruction: str) -> str:
        """The name of a value that a scope computes at its start, at most once."""
        name = scope.known.get(key)
        if name is None:
            name = scope.known[key] = self.fresh()
            scope.header.append(f"{name} = {instruction}")
        return name

    def inside(self, where: tuple[Coordinate, ...]) -> str:
        """Whether every coordinate is inside its extent."""
        total = ""
        for c in where:
            depths = max(map(depth, [*c.value.terms, *c.extent.terms]), default=0)
            scope = self.scopes[depths]
            one = self.once(
                scope, ("in", c.value, c.extent), f"icmp ult i64 {self.integer(c.value)}, {self.integer(c.extent)}"
            )
            total = one if not total else self.both(total, one)
        return total

    def both(self, a: str, b: str) -> str:
        name = self.fresh()
        self.lines.append(f"{name} = and i1 {a}, {b}")
        return name
