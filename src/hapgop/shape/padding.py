"""The forms in which sizes and paddings are given, brought to one."""

from collections.abc import Sequence
from operator import index
from typing import Any, TypeAlias

from hapgop.shape.error import ShapeError

Padding: TypeAlias = int | str | Sequence[int] | Sequence[Sequence[int]]
"""An int; 'same' or 'valid'; (rows, columns); (top, bottom, left, right); ((top, bottom), (left, right))."""

Pair: TypeAlias = int | Sequence[int]
Two: TypeAlias = tuple[int, int]
Four: TypeAlias = tuple[int, int, int, int]

_PADDING_FORMS = (
    "a whole number, a pair (rows, columns), four sides (top, bottom, left, right), "
    "((top, bottom), (left, right)), 'same' or 'valid'"
)


def whole(name: str, value: Any, least: int) -> int:
    """`value` as an int of at least `least`."""
    try:
        number = index(value)
    except TypeError:
        raise ShapeError(f"{name}: got {value!r}, wanted a whole number of at least {least}.") from None
    if number < least:
        raise ShapeError(f"{name}: got {number}, wanted at least {least}; the nearest that works is {least}.")
    return number


def pair(name: str, value: Pair, least: int = 1) -> Two:
    """An int or a pair (rows, columns), each at least `least`."""
    both: Any = value
    if type(both) is tuple and len(both) == 2:
        rows, columns = both
    elif type(both) is int or hasattr(both, "__index__"):
        rows = columns = both
    elif isinstance(both, Sequence) and not isinstance(both, str) and len(both) == 2:
        rows, columns = both
    else:
        raise ShapeError(f"{name}: got {value!r}, wanted a whole number or a pair (rows, columns).")
    if type(rows) is int is type(columns) and rows >= least <= columns:
        return (rows, columns)
    return (whole(name, rows, least), whole(name, columns, least))


def four_sides(padding: Padding, size: Two, kernel: Two, stride: Two, dilation: Two) -> Four:
    """Any form of padding as (top, bottom, left, right)."""
    given: Any = padding
    if isinstance(given, str):
        return _named(given, size, kernel, stride, dilation)
    if type(given) is int or hasattr(given, "__index__"):
        top = bottom = left = right = given
    else:
        top, bottom, left, right = _flat(given)
    plain = type(top) is int is type(bottom) and type(left) is int is type(right)
    if plain and top >= 0 <= bottom and left >= 0 <= right:
        return (top, bottom, left, right)
    top, bottom, left, right = (whole("padding", side, 0) for side in (top, bottom, left, right))
    return (top, bottom, left, right)


def _flat(given: Any) -> tuple[Any, Any, Any, Any]:
    if type(given) is tuple or isinstance(given, Sequence):
        sides = tuple(given)
        if len(sides) == 2:
            axes = [side if isinstance(side, Sequence) else (side, side) for side in sides]
            sides = tuple(side for axis in axes for side in axis)
        if len(sides) == 4:
            return sides
    raise ShapeError(f"padding: got {given!r}, wanted {_PADDING_FORMS}.")


def _named(padding: str, size: Two, kernel: Two, stride: Two, dilation: Two) -> Four:
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding != "same":
        raise ShapeError(f"padding: got {padding!r}, wanted {_PADDING_FORMS}.")
    top, bottom = _same(size[0], kernel[0], stride[0], dilation[0])
    left, right = _same(size[1], kernel[1], stride[1], dilation[1])
    return (top, bottom, left, right)


def _same(size: int, kernel: int, stride: int, dilation: int) -> Two:
    """TensorFlow's rule: ceil(size / stride) windows, the smaller half of the padding before."""
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return (total // 2, total - total // 2)
