"""Convolution, its two derivatives, and the error that arithmetic may make."""

from math import sqrt

import numpy as np
from numpy.typing import ArrayLike

from hapgop.oracle.windows import Array, scatter, wide, windows
from hapgop.shape import ConvShape


def conv(x: ArrayLike, w: ArrayLike, bias: ArrayLike | None = None, *, shape: ConvShape, flip: bool = False) -> Array:
    """y[n,o,h,w] = bias[o] + sum over c,i,j of x[n, c, h*sh + i*dh - top, w*sw + j*dw - left] * w[o,c,i,j].

    x (n, ic, ih, iw), w (oc, ic / groups, kh, kw), bias (oc); y (n, oc, oh, ow), int64 where all are
    integers, else float64. c runs over the channels of o's group. `flip` turns the filter in both spatial
    axes: convolution in the mathematician's sense. Raises InputError where an array has another shape.

    >>> conv([[[[1, 2, 3]]]], [[[[1, 10]]]], shape=ConvShape(1, 1, 1, 3, 1, 1, 2)).tolist()
    [[[[21, 32]]]]
    """
    x, w = wide("x", x, shape.x_shape), wide("w", w, shape.w_shape)
    if flip:
        w = w[:, :, ::-1, ::-1]
    pairs = zip(_groups(windows(x, shape), shape, 1), _groups(w, shape, 0), strict=True)
    y: Array = np.concatenate([np.einsum("nchwij,ocij->nohw", a, b, optimize=True) for a, b in pairs], axis=1)
    return y if bias is None else y + wide("bias", bias, (shape.oc,))[:, None, None]


def grad_x(g: ArrayLike, w: ArrayLike, *, shape: ConvShape) -> Array:
    """The x-derivative of <g, conv(x, w)>: g (n, oc, oh, ow), w as in `conv` -> (n, ic, ih, iw)."""
    g, w = wide("g", g, shape.y_shape), wide("w", w, shape.w_shape)
    pairs = [*zip(_groups(g, shape, 1), _groups(w, shape, 0), strict=True)]

    def tap(i: int, j: int) -> Array:
        parts = [np.einsum("nohw,oc->nchw", a, b[:, :, i, j], optimize=True) for a, b in pairs]
        return np.concatenate(parts, axis=1)

    return scatter(tap, shape)


def grad_w(x: ArrayLike, g: ArrayLike, *, shape: ConvShape) -> Array:
    """The w-derivative of <g, conv(x, w)>: x as in `conv`, g (n, oc, oh, ow) -> (oc, ic / groups, kh, kw)."""
    x, g = wide("x", x, shape.x_shape), wide("g", g, shape.y_shape)
    pairs = zip(_groups(windows(x, shape), shape, 1), _groups(g, shape, 1), strict=True)
    return np.concatenate([np.einsum("nchwij,nohw->ocij", a, b, optimize=True) for a, b in pairs])


def bound(x: ArrayLike, w: ArrayLike, shape: ConvShape, k: float | None = None) -> Array:
    """The error that each element of conv(x, w) may have in the precision of x and w: k u conv(|x|, |w|).

    u is half the spacing of the dtype at 1 (2^-24 for float32), 0 for integers; the default k is for plain
    sums of K terms, 16 + 2 sqrt(K). Why a root: Higham and Mary, "A new approach to probabilistic rounding
    error analysis", SIAM J. Sci. Comput. 41 (2019).

    >>> x, w = np.full((1, 1, 1, 1), -2, np.float32), np.full((1, 1, 1, 1), 3, np.float32)
    >>> bound(x, w, ConvShape(1, 1, 1, 1, 1, 1, 1), k=1).item() * 2**24
    6.0
    """
    x, w = np.asarray(x), np.asarray(w)
    dtype = np.result_type(x.dtype, w.dtype)
    unit = np.finfo(dtype).eps / 2 if dtype.kind == "f" else 0.0
    terms = shape.ic // shape.groups * shape.kh * shape.kw
    k = 16 + 2 * sqrt(terms) if k is None else k
    return k * float(unit) * conv(np.abs(x), np.abs(w), shape=shape)


def _groups(array: Array, shape: ConvShape, axis: int) -> list[Array]:
    return np.split(array, shape.groups, axis)
