"""Cutting an image into windows, and putting windows back."""

from collections.abc import Callable
from itertools import product
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from hapgop.errors import InputError
from hapgop.shape import ConvShape, PoolShape

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = ConvShape | PoolShape


def wide(name: str, array: ArrayLike, wanted: tuple[int, ...]) -> Array:
    """`array` as float64 or int64, of exactly the shape `wanted`."""
    given = np.asarray(array)
    if given.shape != wanted:
        raise InputError(f"{name}: got shape {given.shape}, wanted {wanted}.")
    return given.astype(np.float64 if given.dtype.kind == "f" else np.int64)


def windows(x: Array, shape: Shape, fill: Any = 0) -> Array:
    """x (n, c, ih, iw), padded with `fill`, as windows (n, c, oh, ow, kh, kw)."""
    height, width = _canvas(shape)
    top, left = shape.padding[0], shape.padding[2]
    canvas = np.full((*x.shape[:2], height, width), fill, x.dtype)
    canvas[:, :, top : top + shape.ih, left : left + shape.iw] = x
    (rh, rw), (sh, sw), (dh, dw) = _reach(shape), shape.stride, shape.dilation
    every = sliding_window_view(canvas, (rh, rw), axis=(2, 3))
    return every[:, :, ::sh, ::sw, ::dh, ::dw][:, :, : shape.oh, : shape.ow]


def scatter(tap: Callable[[int, int], Array], shape: Shape) -> Array:
    """The adjoint of `windows`: `tap(i, j)`, (n, c, oh, ow), is added where tap (i, j) of each window lay."""
    height, width = _canvas(shape)
    (sh, sw), (dh, dw) = shape.stride, shape.dilation
    first = tap(0, 0)
    canvas = np.zeros((*first.shape[:2], height, width), first.dtype)
    for i, j in product(range(shape.kh), range(shape.kw)):
        rows = slice(i * dh, i * dh + (shape.oh - 1) * sh + 1, sh)
        columns = slice(j * dw, j * dw + (shape.ow - 1) * sw + 1, sw)
        canvas[:, :, rows, columns] += tap(i, j)
    top, left = shape.padding[0], shape.padding[2]
    return canvas[:, :, top : top + shape.ih, left : left + shape.iw]


def _reach(shape: Shape) -> tuple[int, int]:
    return ((shape.kh - 1) * shape.dilation[0] + 1, (shape.kw - 1) * shape.dilation[1] + 1)


def _canvas(shape: Shape) -> tuple[int, int]:
    """The padded input, enlarged where ceil_mode lets the last window hang over."""
    (rh, rw), (top, bottom, left, right) = _reach(shape), shape.padding
    return (
        max(top + shape.ih + bottom, (shape.oh - 1) * shape.stride[0] + rh),
        max(left + shape.iw + right, (shape.ow - 1) * shape.stride[1] + rw),
    )
