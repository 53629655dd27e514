"""What the phases of a fast convolution cost on one core, in cycles; measured as `algorithms.costs` is."""

from __future__ import annotations

from hapgop.algorithms import costs
from hapgop.algorithms.winograd.triple import Matrix

_LOAD = 0.75
_RESULT = 3.5  # the operations of one result, and its store


def sandwiched(m: Matrix) -> float:
    """Cycles of m X m^T on one vector of 64 bytes."""
    rows, columns = len(m), len(m[0])
    return _LOAD * (columns + rows) * columns + _RESULT * (columns + rows) * rows


def seconds(vectors: float, m: Matrix, vector_bytes: int) -> float:
    """For so many vectors."""
    return vectors * sandwiched(m) * max(1.0, vector_bytes / 64) / costs.CLOCK
