"""The operations that need no kernel: NumPy on arrays of logical shape (n, c, h, w) or (n, k)."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def relu(x: Array, attrs: Mapping[str, Any]) -> Array:
    return np.maximum(x, np.float32(0))


def relu6(x: Array, attrs: Mapping[str, Any]) -> Array:
    return np.minimum(np.maximum(x, np.float32(0)), np.float32(6))


def leaky_relu(x: Array, attrs: Mapping[str, Any]) -> Array:
    return np.where(x > 0, x, x * np.float32(attrs["negative_slope"]))


def elu(x: Array, attrs: Mapping[str, Any]) -> Array:
    return np.where(x > 0, x, np.float32(attrs["alpha"]) * np.expm1(np.minimum(x, np.float32(0))))


def sigmoid(x: Array, attrs: Mapping[str, Any]) -> Array:
    # exp of a negative number only: no overflow, no warning.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(np.float32, copy=False)


def silu(x: Array, attrs: Mapping[str, Any]) -> Array:
    return x * sigmoid(x, attrs)


def hardsigmoid(x: Array, attrs: Mapping[str, Any]) -> Array:
    return relu6(x + np.float32(3), attrs) / np.float32(6)


def hardswish(x: Array, attrs: Mapping[str, Any]) -> Array:
    return x * hardsigmoid(x, attrs)


def tanh(x: Array, attrs: Mapping[str, Any]) -> Array:
    return np.tanh(x)


def softmax(x: Array, attrs: Mapping[str, Any]) -> Array:
    e = np.exp(x - x.max(axis=attrs["dim"], keepdims=True))
    result: Array = e / e.sum(axis=attrs["dim"], keepdims=True)
    return result


def log_softmax(x: Array, attrs: Mapping[str, Any]) -> Array:
    shifted = x - x.max(axis=attrs["dim"], keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=attrs["dim"], keepdims=True))
    return result


def flatten(x: Array, attrs: Mapping[str, Any]) -> Array:
    start, end = attrs["start_dim"] % x.ndim, attrs["end_dim"] % x.ndim
    return x.reshape(*x.shape[:start], -1, *x.shape[end + 1 :])


def mean(x: Array, attrs: Mapping[str, Any]) -> Array:
    # float64: a sum over a large map in float32 would lose digits that PyTorch's pairwise sum keeps.
    axes = attrs["dim"] if isinstance(attrs["dim"], tuple) else (attrs["dim"],)
    result: Array = x.mean(axis=axes, keepdims=attrs["keepdim"], dtype=np.float64).astype(np.float32)
    return result


def same(x: Array, attrs: Mapping[str, Any]) -> Array:
    return x


def scale_and_shift(
    mean: NDArray[Any],
    var: NDArray[Any],
    weight: NDArray[Any] | None,
    bias: NDArray[Any] | None,
    eps: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Batch norm in eval mode as x * scale + shift, one of each for every channel, float64."""
    scale = 1 / np.sqrt(var.astype(np.float64) + eps)
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale
    return scale, shift if bias is None else shift + bias


UNARY: Final[Mapping[str, Callable[[Array, Mapping[str, Any]], Array]]] = {
    "relu": relu,
    "relu6": relu6,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "silu": silu,
    "hardswish": hardswish,
    "hardsigmoid": hardsigmoid,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "flatten": flatten,
    "mean": mean,
    "dropout": same,
    "identity": same,
}
