"""Batch norm in training, and its derivatives."""

import numpy as np
from numpy.typing import ArrayLike

from hapgop.oracle.windows import Array

_AXES = (0, 2, 3)


def batch_norm(x: ArrayLike, weight: ArrayLike, bias: ArrayLike, eps: float) -> tuple[Array, Array]:
    """(x - mean) / sqrt(var + eps) * weight + bias of x (n, c, h, w), in float64, and the statistics (3, c).

    Mean and variance (of all, not of a sample) are those of each channel; the third row is 1 / sqrt(var + eps).

    >>> y, stats = batch_norm([[[[1, 3]]]], [2], [5], 0.0)
    >>> y.ravel().tolist(), stats.ravel().tolist()
    ([3.0, 7.0], [2.0, 1.0, 1.0])
    """
    x = np.asarray(x, np.float64)
    mean, var = x.mean(_AXES), x.var(_AXES)
    inverse = 1 / np.sqrt(var + eps)
    y = (x - _wide(mean)) * _wide(inverse * np.asarray(weight, np.float64)) + _wide(bias)
    return y, np.stack((mean, var, inverse))


def batch_norm_grad(g: ArrayLike, x: ArrayLike, weight: ArrayLike, stats: ArrayLike) -> tuple[Array, Array]:
    """The derivatives of <g, batch_norm(x)> by x, and by weight and bias (2, c), in float64, of given statistics."""
    g, x = np.asarray(g, np.float64), np.asarray(x, np.float64)
    mean, _, inverse = np.asarray(stats, np.float64)
    hat = (x - _wide(mean)) * _wide(inverse)
    count = x.size // x.shape[1]
    db, dw = g.sum(_AXES), (g * hat).sum(_AXES)
    dx = _wide(inverse * np.asarray(weight, np.float64)) * (g - _wide(db / count) - hat * _wide(dw / count))
    return dx, np.stack((dw, db))


def _wide(vector: ArrayLike) -> Array:
    wide: Array = np.asarray(vector, np.float64)[:, None, None]
    return wide
