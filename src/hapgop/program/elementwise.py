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


def gelu(x: Array, attrs: Mapping[str, Any]) -> Array:
    half = x * np.float32(0.5)
    if attrs["approximate"] == "tanh":
        inner = x * x * x * np.float32(0.044715) + x
        result: Array = half * (1 + np.tanh(inner * np.float32(np.sqrt(2 / np.pi))))
        return result
    return half * (1 + erf(x * np.float32(np.sqrt(0.5))))


# Numerator in x, x^3, ...; denominator in 1, x^2, ...; highest power first.
_ERF_OVER: Final = (-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
                    -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02)  # fmt: skip
_ERF_UNDER: Final = (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
                     -1.42647390514189e-02)  # fmt: skip


def erf(x: Array) -> Array:
    """The error function, within 5e-7.

    Source: the rational approximation of the Eigen library, which clamps to where float32 knows nothing but one.
    """
    x = np.clip(x, np.float32(-4), np.float32(4))
    square = x * x
    over, under = (np.full_like(x, of[0]) for of in (_ERF_OVER, _ERF_UNDER))
    for result, of in ((over, _ERF_OVER), (under, _ERF_UNDER)):
        for factor in of[1:]:
            result *= square
            result += np.float32(factor)
    return x * over / under


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


def layer_norm(
    x: Array, attrs: Mapping[str, Any], weight: NDArray[Any] | None = None, bias: NDArray[Any] | None = None
) -> Array:
    """Over the channels, each pixel by itself."""
    one_each = (-1, *(1,) * (x.ndim - 2))
    centred = x - x.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    variance = np.mean(centred * centred, axis=1, keepdims=True, dtype=np.float64)
    y: Array = centred * (1 / np.sqrt(variance + attrs["eps"])).astype(np.float32)
    if weight is not None:
        y *= weight.reshape(one_each)
    if bias is not None:
        y += bias.reshape(one_each)
    return y


def flatten(x: Array, attrs: Mapping[str, Any]) -> Array:
    start, end = attrs["start_dim"] % x.ndim, attrs["end_dim"] % x.ndim
    return x.reshape(*x.shape[:start], -1, *x.shape[end + 1 :])


def mean(x: Array, attrs: Mapping[str, Any]) -> Array:
    # float64: a sum over a large map in float32 would lose digits that PyTorch's pairwise sum keeps.
    axes = attrs["dim"] if isinstance(attrs["dim"], tuple) else (attrs["dim"],)
    result: Array = x.mean(axis=axes, keepdims=attrs["keepdim"], dtype=np.float64).astype(np.float32)
    return result


def number(x: Array, attrs: Mapping[str, Any]) -> Array:
    return x * np.float32(attrs["factor"]) + np.float32(attrs["term"])


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
    "gelu": gelu,
    "hardswish": hardswish,
    "hardsigmoid": hardsigmoid,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "flatten": flatten,
    "mean": mean,
    "number": number,
    "dropout": same,
    "identity": same,
}
