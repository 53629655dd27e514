"""Small constant matrices times vectors, with as few operations as their structure allows.

The points come in pairs +-p, so that rows of a matrix come in pairs E + O, E - O: the even and the odd part are
computed once. Of A the columns do, and it is the inputs that are added and subtracted first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from hapgop.algorithms.winograd.triple import Matrix, Row, transposed
from hapgop.tile import Affine, Buffer, Builder, Register

Load = Callable[[Affine | int, Affine | int], Register]
Store = Callable[[Register, Affine | int, Affine | int], None]
StoreAt = Callable[[Register, int, int], None]

_OTHERS = 4  # registers that a transform needs beside the rows that it makes


def sandwich(
    k: Builder, m: Matrix, patch: Buffer, load: Load, store: Store, wanted: range | None = None
) -> None:  # fmt: skip
    """store(i, j) of m X m^T, where load(row, column) gives X: columns first, then rows, with `patch` between them.

    Two short loops, and so little code. patch: a private buffer of len(m) * len(m[0]) vectors. wanted: only these rows,
    of which the first is row 0 of the result.
    """
    some = tuple(m[i] for i in wanted) if wanted else m
    rows, columns, lanes = len(some), len(m[0]), k.lanes
    with k.loop("column", 0, columns) as q:
        for r, value in apply(k, some, lambda r: load(r, q)):
            k.store(value, patch, q * lanes + r * columns * lanes)
    with k.loop("row", 0, rows) as i:
        line = [k.load(patch, i * (columns * lanes) + q * lanes) for q in range(columns)]
        for j, value in apply(k, m, line.__getitem__):
            store(value, i, j)


def sandwich_in_registers(k: Builder, m: Matrix, load: Load, store: StoreAt, registers: int) -> None:
    """The same without loops and without memory between: one or two rows of the result at a time.

    Rows that share what they compute are made together, where there are registers; that a value is loaded once for each
    of them costs less than to store it and to load it again.
    """
    columns = len(m[0])
    for together in groups(m, 2 if 2 * columns + _OTHERS <= registers else 1):
        part = tuple(m[i] for i in together)
        lines: list[list[Register]] = [[] for _ in together]
        for q in range(columns):
            for r, value in apply(k, part, lambda r, q=q: load(r, q)):  # type: ignore[misc]
                lines[r].append(value)
        for i, line in zip(together, lines, strict=True):
            for j, value in apply(k, m, line.__getitem__):
                store(value, i, j)


def groups(m: Matrix, most: int) -> list[tuple[int, ...]]:
    """Rows of a matrix that share much of what they compute, at most so many together.

    >>> groups(((1, 1, 1, 0), (0, 1, -1, 1)), 2)
    [(0,), (1,)]
    """
    alike: dict[object, list[int]] = {}
    pairs = _paired_columns(m)
    for i, row in enumerate(m):
        # Of paired columns a row uses sums or differences; where it is rows that are paired, they have equal sizes.
        kind = tuple(row[a] == row[b] for a, b in pairs) if pairs else tuple(map(abs, row))
        alike.setdefault(kind, []).append(i)
    return [tuple(rows[at : at + most]) for rows in alike.values() for at in range(0, len(rows), most)]


def apply(k: Builder, m: Matrix, x: Callable[[int], Register]) -> Iterator[tuple[int, Register]]:
    """(i, value i) of m times the column of vectors x(0), x(1) ...; what no row needs is not asked for."""
    needed = [c for c, column in enumerate(transposed(m)) if any(column)]
    if (pairs := _paired_columns(m)) is not None:
        yield from _by_columns(k, m, x, pairs)
        return
    xs = {c: x(c) for c in needed}
    done: set[int] = set()
    for i, row in enumerate(m):
        if i in done:
            continue
        partner = next((j for j in range(i + 1, len(m)) if j not in done and _mirrored(row, m[j])), None)
        if partner is None:
            yield i, _sum(k, row, xs)
            continue
        done.add(partner)
        even = tuple((a + b) / 2 for a, b in zip(row, m[partner], strict=True))
        odd = tuple((a - b) / 2 for a, b in zip(row, m[partner], strict=True))
        e, o = _sum(k, even, xs), _sum(k, odd, xs)
        yield i, k.add(e, o)
        yield partner, k.sub(e, o)


def _mirrored(a: Row, b: Row) -> bool:
    """Whether two rows differ by some signs only, and neither part is empty."""
    same = any(x == y != 0 for x, y in zip(a, b, strict=True))
    opposite = any(x == -y != 0 for x, y in zip(a, b, strict=True))
    return same and opposite and _alike(a, b)


def _alike(a: Row, b: Row) -> bool:
    """Whether two rows differ by signs at most."""
    return any(a) and all(abs(x) == abs(y) for x, y in zip(a, b, strict=True))


def _paired_columns(m: Matrix) -> list[tuple[int, int]] | None:
    """Pairs of columns of a wide matrix that differ by signs at most: their inputs are added and subtracted first."""
    columns = transposed(m)
    pairs, used = [], set[int]()
    for i, a in enumerate(columns):
        for j in range(i + 1, len(columns)):
            if not {i, j} & used and _alike(a, columns[j]):
                pairs.append((i, j))
                used |= {i, j}
    return pairs if pairs and len(m) < len(columns) else None


def _by_columns(
    k: Builder, m: Matrix, x: Callable[[int], Register], pairs: list[tuple[int, int]]
) -> Iterator[tuple[int, Register]]:
    columns = transposed(m)
    paired = {c for pair in pairs for c in pair}
    terms = [(columns[i], x(i)) for i in range(len(columns)) if i not in paired and any(columns[i])]
    for i, j in pairs:
        a, b = x(i), x(j)
        half = [((p + q) / 2, (p - q) / 2) for p, q in zip(columns[i], columns[j], strict=True)]
        if any(e for e, _ in half):
            terms.append((tuple(e for e, _ in half), k.add(a, b)))
        if any(o for _, o in half):
            terms.append((tuple(o for _, o in half), k.sub(a, b)))
    values = dict(enumerate(value for _, value in terms))
    for i in range(len(m)):
        yield i, _sum(k, tuple(column[i] for column, _ in terms), values)


def _sum(k: Builder, row: Row, xs: Mapping[int, Register]) -> Register:
    """sum of row[i] * xs[i]; ones cost no product."""
    terms = sorted(((c, xs[i]) for i, c in enumerate(row) if c), key=lambda term: term[0] != 1)
    if not terms:
        return k.const(0.0)
    (first, x), *rest = terms
    total = x if first == 1 else k.mul(k.const(float(first)), x)
    for c, x in rest:
        if c == 1:
            total = k.add(total, x)
        elif c == -1:
            total = k.sub(total, x)
        else:
            total = k.fma(k.const(float(c)), x, total)
    return total
