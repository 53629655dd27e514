"""Small constant matrices times vectors, with as few operations as their structure allows.

The points come in pairs +-p, so that rows of a matrix come in pairs E + O, E - O: the even and the odd part are
computed once. Of A the columns do, and it is the inputs that are added and subtracted first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hapgop.algorithms.winograd.triple import Matrix, Row, transposed
from hapgop.tile import Affine, Buffer, Builder, Register

Load = Callable[[Affine | int, Affine | int], Register]
Store = Callable[[Register, Affine | int, Affine | int], None]


def sandwich(k: Builder, m: Matrix, patch: Buffer, load: Load, store: Store) -> None:
    """store(i, j) of m X m^T, where load(row, column) gives X: columns first, then rows, with `patch` between them.

    patch: a private buffer of len(m) * len(m[0]) vectors.
    """
    rows, columns, lanes = len(m), len(m[0]), k.lanes
    with k.loop("column", 0, columns) as q:
        for r, value in enumerate(apply(k, m, [load(r, q) for r in range(columns)])):
            k.store(value, patch, q * lanes + r * columns * lanes)
    with k.loop("row", 0, rows) as i:
        line = [k.load(patch, i * (columns * lanes) + q * lanes) for q in range(columns)]
        for j, value in enumerate(apply(k, m, line)):
            store(value, i, j)


def apply(k: Builder, m: Matrix, xs: Sequence[Register]) -> list[Register]:
    """m times the column of vectors xs."""
    if (paired := _paired_columns(m)) is not None:
        return _by_columns(k, m, xs, paired)
    out: list[Register | None] = [None] * len(m)
    for i, row in enumerate(m):
        if out[i] is not None:
            continue
        partner = next((j for j in range(i + 1, len(m)) if out[j] is None and _mirrored(row, m[j])), None)
        if partner is None:
            out[i] = _sum(k, row, xs)
            continue
        even = tuple((a + b) / 2 for a, b in zip(row, m[partner], strict=True))
        odd = tuple((a - b) / 2 for a, b in zip(row, m[partner], strict=True))
        e, o = _sum(k, even, xs), _sum(k, odd, xs)
        out[i], out[partner] = k.add(e, o), k.sub(e, o)
    return [r for r in out if r is not None]


def _mirrored(a: Row, b: Row) -> bool:
    """Whether two rows differ by some signs only, and neither part is empty."""
    same = any(x == y != 0 for x, y in zip(a, b, strict=True))
    opposite = any(x == -y != 0 for x, y in zip(a, b, strict=True))
    return same and opposite and all(abs(x) == abs(y) for x, y in zip(a, b, strict=True))


def _paired_columns(m: Matrix) -> list[tuple[int, int]] | None:
    columns = transposed(m)
    pairs, used = [], set[int]()
    for i, a in enumerate(columns):
        for j in range(i + 1, len(columns)):
            if not {i, j} & used and _mirrored(a, columns[j]):
                pairs.append((i, j))
                used |= {i, j}
    return pairs if pairs and len(m) < len(columns) else None


def _by_columns(k: Builder, m: Matrix, xs: Sequence[Register], pairs: list[tuple[int, int]]) -> list[Register]:
    columns = transposed(m)
    paired = {c for pair in pairs for c in pair}
    terms = [(columns[i], xs[i]) for i in range(len(columns)) if i not in paired]
    for i, j in pairs:
        half = [((a + b) / 2, (a - b) / 2) for a, b in zip(columns[i], columns[j], strict=True)]
        terms.append((tuple(e for e, _ in half), k.add(xs[i], xs[j])))
        terms.append((tuple(o for _, o in half), k.sub(xs[i], xs[j])))
    values = [x for _, x in terms]
    return [_sum(k, tuple(column[i] for column, _ in terms), values) for i in range(len(m))]


def _sum(k: Builder, row: Row, xs: Sequence[Register]) -> Register:
    """sum of row[i] * xs[i]; ones cost no product."""
    terms = sorted(((c, x) for c, x in zip(row, xs, strict=True) if c), key=lambda term: term[0] != 1)
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
