"""The forms in which a layer's numbers are given, brought to one; they may be symbols while tracing."""

from collections.abc import Sequence
from typing import Any

from hapgop.errors import InputError

Numbers = int | tuple[int, ...] | list[int]
Padding = str | Numbers
Ints = tuple[int, ...]


def several(name: str, value: Numbers, axes: int) -> Ints:
    """One number for each axis, from a number for all or one for each.

    >>> several("stride", 2, 2)
    (2, 2)
    """
    if type(value) is tuple and len(value) == axes:
        return value
    if isinstance(value, tuple | list):
        if len(value) in (1, axes):
            return tuple(value) * (axes // len(value))
    elif hasattr(value, "__index__"):
        return (value,) * axes
    raise InputError(f"{name}: got {value!r}, wanted a whole number or {axes} of them.")


def sides(padding: Padding, size: Sequence[int], kernel: Sequence[int], stride: Ints, dilation: Ints) -> Ints:
    """(before, after) of each axis in a row, from 'same', 'valid', a number, one for each axis or for each side.

    'same' gives ceil(size / stride) pixels, the smaller half before: TensorFlow's rule, PyTorch's at stride 1.

    >>> sides((1, 2), (8, 8), (3, 3), (1, 1), (1, 1))
    (1, 1, 2, 2)
    >>> sides("same", (8, 8), (3, 3), (2, 2), (1, 1))
    (0, 1, 0, 1)
    """
    axes = len(stride)
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0) * axes
        if padding == "same":
            return tuple(side for axis in zip(size, kernel, stride, dilation, strict=True) for side in _same(*axis))
        raise InputError(f"padding: got {padding!r}, wanted 'same', 'valid' or whole numbers.")
    if isinstance(padding, tuple | list) and len(padding) == 2 * axes:
        return tuple(padding)
    return tuple(side for one in several("padding", padding, axes) for side in (one, one))


def checked_activation(activation: Any) -> str | None:
    """Raises InputError unless it is None or "relu"."""
    if activation is not None and activation != "relu":
        raise InputError(f"activation: got {activation!r}, wanted None or 'relu'.")
    return None if activation is None else "relu"


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    total = max(((size + stride - 1) // stride - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2
