"""What exporters compute of shapes, computed while the file is read: whole numbers, never the net's values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def shape_value(op: str, attrs: Mapping[str, Any], inputs: Sequence[Array | None]) -> Array:
    """The result of one of `SHAPE_OPS` on constants, None for an input that is left out."""
    return np.asarray(SHAPE_OPS[op](attrs, *inputs))


def _unsqueeze(attrs: Mapping[str, Any], x: Array, axes: Array) -> Array:
    return np.expand_dims(x, tuple(int(axis) for axis in axes))


def _reshape(attrs: Mapping[str, Any], x: Array, shape: Array) -> Array:
    kept = not attrs.get("allowzero", 0)
    return x.reshape([x.shape[axis] if side == 0 and kept else int(side) for axis, side in enumerate(shape)])


def _slice(
    attrs: Mapping[str, Any],
    x: Array,
    starts: Array,
    ends: Array,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Array:
    axes = np.arange(len(starts)) if axes is None else axes
    steps = np.ones_like(starts) if steps is None else steps
    place = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        place[int(axis)] = slice(int(start), int(end), int(step))
    return x[tuple(place)]


def _squeeze(attrs: Mapping[str, Any], x: Array, axes: Array | None = None) -> Array:
    return np.squeeze(x, None if axes is None else tuple(int(axis) for axis in axes))


SHAPE_OPS: Final[Mapping[str, Callable[..., Array]]] = {
    "Gather": lambda attrs, x, i: np.take(x, i, attrs.get("axis", 0)),
    "Unsqueeze": _unsqueeze,
    "Concat": lambda attrs, *xs: np.concatenate(xs, attrs["axis"]),
    "Slice": _slice,
    "Cast": lambda attrs, x: x,
    "Add": lambda attrs, a, b: a + b,
    "Mul": lambda attrs, a, b: a * b,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Identity": lambda attrs, x: x,
}
