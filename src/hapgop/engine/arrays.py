"""The engine on NumPy arrays: what `hapgop.conv2d` and its kin are."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from hapgop.algorithms import Problem
from hapgop.engine.address import address
from hapgop.engine.changes import on_change
from hapgop.engine.kept import Kept
from hapgop.engine.memory import empty
from hapgop.engine.prepared import Prepared
from hapgop.engine.ready import prepare
from hapgop.errors import InputError
from hapgop.shape import ConvShape, Padding, PoolShape, warn_if_unread

if TYPE_CHECKING:  # numpy.typing takes a third as long to import as all of NumPy
    from numpy.typing import NDArray

    Array = NDArray[Any]

IntPair = int | tuple[int, int]


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: IntPair = 1,
    padding: Padding = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    activation: str | None = None,
) -> Array:
    """Convolution as neural networks mean it (cross-correlation), with bias and activation.

    y[n, o, i, j] = activation(bias[o] + sum over c, k, l of weight[o, c, k, l] *
    x[n, first(o) + c, i stride - top + k dilation, j stride - left + l dilation])

    first(o) is the first channel of o's group; outside of x there are zeros.

    x (n, ic, ih, iw) and weight (oc, ic / groups, kh, kw), both float32 or both float64; bias (oc,). Any memory order
    is taken, channels last without a copy; the result is laid out as x is. padding: an int, a pair, "same", "valid" or
    (top, bottom, left, right). activation: None, "relu", "relu6" or "hardswish". Raises InputError.

    >>> x = np.ones((1, 3, 32, 32), np.float32)
    >>> conv2d(x, np.ones((6, 3, 5, 5), np.float32)).shape
    (1, 6, 28, 28)
    """
    setting = (stride, padding, dilation, groups, activation)
    if type(x) is type(weight) is np.ndarray and (bias is None or type(bias) is np.ndarray):
        bias_key = None if bias is None else (bias.shape, bias.strides, bias.dtype)
        key = (x.shape, x.strides, x.dtype, weight.shape, weight.strides, weight.dtype, bias_key, setting)
        try:
            known = _known.get(key)
        except TypeError:  # a list among the settings
            return _conv2d(x, weight, bias, *setting)[0]
        if known is not None:
            return known(x, weight, bias)
        since = _known.clears
        y, call = _conv2d(x, weight, bias, *setting)
        if call is not None:
            _known.put(key, call, _ENTRY + call.prepared.bytes, since)
        return y
    return _conv2d(x, weight, bias, *setting)[0]


class _Call:
    """A convolution whose arguments were checked: of arrays of one kind, dense as they are."""

    __slots__ = ("_dtype", "_last", "_shape", "prepared")

    def __init__(self, prepared: Prepared, shape: tuple[int, int, int, int], dtype: np.dtype[Any], layout: str) -> None:
        n, c, h, w = shape
        self.prepared, self._dtype, self._last = prepared, dtype, layout == "nhwc"
        self._shape = (n, h, w, c) if self._last else shape

    def __call__(self, x: Array, weight: Array, bias: Array | None) -> Array:
        y = empty(self._shape, self._dtype)
        self.prepared(address(x), address(weight), 0 if bias is None else address(bias), address(y))
        return y.transpose(0, 3, 1, 2) if self._last else y


def _conv2d(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: IntPair,
    padding: Padding,
    dilation: IntPair,
    groups: int,
    activation: str | None,
) -> tuple[Array, _Call | None]:
    """The convolution, and how to do the same again; None where an array has to be copied first."""
    _check("x", x, 4)
    _check("weight", weight, 4, x.dtype)
    shape = ConvShape.of(x.shape, weight.shape, stride=stride, padding=padding, dilation=dilation, groups=groups)
    warn_if_unread(shape, "conv2d")
    if bias is not None:
        _check("bias", bias, 1, x.dtype)
        if bias.shape != (shape.oc,):
            raise InputError(f"bias has shape {bias.shape}; weight {weight.shape} wants ({shape.oc},)")
    dense, x_layout = _dense(x)
    dense_weight, w_layout = _dense(weight)
    dense_bias = None if bias is None else np.ascontiguousarray(bias)
    problem = Problem(
        "conv",
        shape,
        x.dtype.name,
        x_layout,
        x_layout,
        "ohwi" if w_layout == "nhwc" else "oihw",
        bias is not None,
        activation,
    )
    call = _Call(prepare(problem), shape.y_shape, x.dtype, x_layout)
    copied = dense is not x or dense_weight is not weight or dense_bias is not bias
    return call(dense, dense_weight, dense_bias), None if copied else call


def linear(x: Array, weight: Array, bias: Array | None = None, *, activation: str | None = None) -> Array:
    """x @ weight.T + bias: a 1x1 convolution over a row of pixels, one a sample.

    x (..., features) and weight (out, features), both float32 or both float64; bias (out,). activation: as of `conv2d`.
    Raises InputError.

    >>> linear(np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)).shape
    (2, 4)
    """
    _check("x", x, None)
    _check("weight", weight, 2, x.dtype)
    if x.ndim == 0 or x.shape[-1] != weight.shape[1] or not x.shape[-1]:
        wanted = weight.shape[1] or "1 or more"
        raise InputError(f"x has shape {x.shape}; weight {weight.shape} wants (..., {wanted})")
    if x.size == 0:
        return np.empty((*x.shape[:-1], weight.shape[0]), x.dtype)
    rows = np.ascontiguousarray(x).reshape(1, 1, -1, x.shape[-1]).transpose(0, 3, 1, 2)
    y = conv2d(rows, weight[:, :, None, None], bias, activation=activation)
    return y.transpose(0, 2, 3, 1).reshape(*x.shape[:-1], weight.shape[0])


def max_pool2d(
    x: Array,
    kernel: IntPair,
    *,
    stride: IntPair | None = None,
    padding: Padding = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
) -> Array:
    """The largest value of each window; NaN wins.

    x (n, c, ih, iw), float32 or float64; gives (n, c, oh, ow). padding: at most half the kernel. Raises InputError.

    >>> max_pool2d(np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4), 2)[0, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]
    """
    x, shape, layout = _pooled(x, kernel, stride, padding, dilation, ceil_mode)
    y = _empty(shape.y_shape, x.dtype, layout)
    problem = Problem("max_pool", shape, x.dtype.name, layout, layout, winners=False)
    prepare(problem)(x.ctypes.data, y.ctypes.data, 0)
    return y


def avg_pool2d(
    x: Array,
    kernel: IntPair,
    *,
    stride: IntPair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """The mean of each window.

    x (n, c, ih, iw), float32 or float64; gives (n, c, oh, ow). padding: at most half the kernel. count_include_pad:
    whether zeros of the padding count in the mean. Raises InputError.

    >>> avg_pool2d(np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4), 2)[0, 0].tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    """
    x, shape, layout = _pooled(x, kernel, stride, padding, 1, ceil_mode)
    y = _empty(shape.y_shape, x.dtype, layout)
    problem = Problem("avg_pool", shape, x.dtype.name, layout, layout, count_include_pad=count_include_pad)
    prepare(problem)(x.ctypes.data, y.ctypes.data)
    return y


def _pooled(
    x: Array, kernel: IntPair, stride: IntPair | None, padding: Padding, dilation: IntPair, ceil_mode: bool
) -> tuple[Array, PoolShape, str]:
    _check("x", x, 4)
    n, c, ih, iw = x.shape
    kh, kw = _pair("kernel", kernel)
    shape = PoolShape(n, c, ih, iw, kh, kw, stride, padding, dilation, ceil_mode)
    x, layout = _dense(x)
    return x, shape, layout


def _pair(name: str, value: object) -> tuple[int, int]:
    if isinstance(value, SupportsIndex):
        return index(value), index(value)
    if isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(v, SupportsIndex) for v in value):
        return index(value[0]), index(value[1])
    raise InputError(f"{name}: got {value!r}, wanted a whole number or a pair (rows, columns)")


_MOST = 16 << 20  # bytes of what repeated calls remember, their kernels among it
_ENTRY = 2048
_known: Kept[_Call] = Kept(_MOST)
on_change(_known.clear)


def _check(name: str, array: Array, ndim: int | None, dtype: np.dtype[Any] | None = None) -> None:
    if not isinstance(array, np.ndarray):
        raise InputError(f"{name} is a {type(array).__name__}; a NumPy array is wanted")
    if ndim is not None and array.ndim != ndim:
        raise InputError(f"{name} has shape {array.shape}; {ndim} dimensions are wanted")
    if array.dtype not in (np.float32, np.float64):
        raise InputError(f"{name} is {array.dtype}; float32 or float64 is wanted: {name}.astype('float32')")
    if dtype is not None and array.dtype != dtype:
        raise InputError(f"{name} is {array.dtype} but x is {dtype}; both have to be the same")


def _dense(array: Array) -> tuple[Array, str]:
    """The array itself where it is dense in one of the two orders, else a copy; and the order."""
    if array.flags.c_contiguous and array.shape[1] != 1:
        return array, "nchw"
    if array.transpose(0, 2, 3, 1).flags.c_contiguous:
        return array, "nhwc"
    return np.ascontiguousarray(array), "nchw"


def _empty(shape: tuple[int, int, int, int], dtype: np.dtype[Any], layout: str) -> Array:
    n, c, h, w = shape
    if layout == "nchw":
        return empty(shape, dtype)
    return empty((n, h, w, c), dtype).transpose(0, 3, 1, 2)
