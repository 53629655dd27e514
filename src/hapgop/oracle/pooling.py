"""The largest and the mean of each window, and their derivatives."""

import numpy as np
from numpy.typing import ArrayLike

from hapgop.oracle.windows import Array, scatter, wide, windows
from hapgop.shape import PoolShape


def max_pool(x: ArrayLike, shape: PoolShape) -> tuple[Array, Array]:
    """The largest of each window of x (n, c, ih, iw), and its place in the window, kh_index * kw + kw_index.

    PyTorch's rule: the first of equals wins, padding never does, and a NaN beats every number, the last NaN
    the others. y (n, c, oh, ow) in float64 or int64, winners in int64.

    >>> y, winners = max_pool([[[[1, 5], [5, 2]]]], PoolShape(1, 1, 2, 2, 2, 2))
    >>> y.item(), winners.item()
    (5, 1)
    """
    x = wide("x", x, shape.x_shape)
    inside = _flat(windows(np.ones_like(x, np.bool_), shape, False))
    values = _flat(windows(x, shape))
    nan = np.isnan(values)
    last_nan = values.shape[-1] - 1 - np.argmax(nan[..., ::-1], -1)
    lowest = np.iinfo(np.int64).min if x.dtype.kind == "i" else -np.inf
    largest = np.max(np.where(inside & ~nan, values, lowest), -1, keepdims=True)
    first_largest = np.argmax(inside & (values == largest), -1)
    winners = np.where(nan.any(-1), last_nan, first_largest)
    return np.take_along_axis(np.where(inside, values, lowest), winners[..., None], -1)[..., 0], winners


def max_pool_grad(g: ArrayLike, winners: ArrayLike, shape: PoolShape) -> Array:
    """The x-derivative of <g, max_pool(x)>: each g (n, c, oh, ow) goes to its winner -> (n, c, ih, iw)."""
    g = wide("g", g, shape.y_shape)
    winners = wide("winners", winners, shape.y_shape)
    return scatter(lambda i, j: np.where(winners == i * shape.kw + j, g, 0), shape)


def avg_pool(x: ArrayLike, shape: PoolShape, count_include_pad: bool = True) -> Array:
    """The mean of each window of x (n, c, ih, iw), in float64 -> (n, c, oh, ow).

    Padding counts as zeros or not at all; what ceil_mode adds beyond the padding never counts.
    """
    x = wide("x", x, shape.x_shape)
    means: Array = windows(x, shape).sum((-2, -1)) / counted(shape, count_include_pad)
    return means


def avg_pool_grad(g: ArrayLike, shape: PoolShape, count_include_pad: bool = True) -> Array:
    """The x-derivative of <g, avg_pool(x)>, in float64: g (n, c, oh, ow) -> (n, c, ih, iw)."""
    share = wide("g", g, shape.y_shape) / counted(shape, count_include_pad)
    return scatter(lambda i, j: share, shape)


def counted(shape: PoolShape, count_include_pad: bool) -> Array:
    """How many taps of each window count in its mean, (oh, ow)."""
    top, bottom, left, right = shape.padding if count_include_pad else (0, 0, 0, 0)
    rows = np.arange(shape.oh)[:, None] * shape.stride[0] - shape.padding[0] + np.arange(shape.kh) * shape.dilation[0]
    columns = (
        np.arange(shape.ow)[:, None] * shape.stride[1] - shape.padding[2] + np.arange(shape.kw) * shape.dilation[1]
    )
    counted_rows = ((rows >= -top) & (rows < shape.ih + bottom)).sum(-1)
    counted_columns = ((columns >= -left) & (columns < shape.iw + right)).sum(-1)
    counts: Array = np.maximum(np.outer(counted_rows, counted_columns), 1)
    return counts


def _flat(array: Array) -> Array:
    return array.reshape(*array.shape[:-2], -1)
