"""The fakes: shapes and strides of the operators' results, without computing them.

What they say is exactly what `hapgop.nn.kernels` makes, on sizes that may be symbols.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from hapgop.nn.fallback import winners_dtype
from hapgop.nn.layout import FORMATS, suggests
from hapgop.shape import ConvShape, PoolShape

Ints = Sequence[int]


def _fake_conv(
    x: Tensor, w: Tensor, bias: Tensor | None, stride: Ints, padding: Ints, dilation: Ints, groups: int,
    activation: str | None,
) -> Tensor:  # fmt: skip
    if _plain(*x.shape, *w.shape):
        # The error that says what would work.
        ConvShape.of(x.shape, w.shape, stride=stride, padding=padding, dilation=dilation, groups=groups)
    top, bottom, left, right = padding
    rows = _out(x.shape[2], w.shape[2], stride[0], top + bottom, dilation[0])
    columns = _out(x.shape[3], w.shape[3], stride[1], left + right, dilation[1])
    return _fake(x, (x.shape[0], w.shape[0], rows, columns), suggests(x) or suggests(w))


def _fake_conv_pool(
    x: Tensor, w: Tensor, bias: Tensor | None, stride: Ints, padding: Ints, dilation: Ints, groups: int,
    activation: str | None, pool: Ints,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    y = _fake_conv(x, w, bias, stride, padding, dilation, groups, activation)
    return _fake_max_pool(y, pool, pool, (0, 0), (1, 1), False)


def _fake_grad_x(
    g: Tensor, w: Tensor, bias: Tensor | None, size: Ints, stride: Ints, padding: Ints, dilation: Ints,
    groups: int, channels_last: bool, activation: str | None,
) -> Tensor:  # fmt: skip
    return _fake(g, (g.shape[0], w.shape[1] * groups, *size), channels_last)


def _fake_grad_w(
    x: Tensor, g: Tensor, size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int,
    channels_last: bool,
) -> Tensor:  # fmt: skip
    return _fake(x, (g.shape[1], x.shape[1] // groups, *size), channels_last)


def _fake_grad_b(g: Tensor) -> Tensor:
    return g.new_empty(g.shape[1])


def _fake_linear(x: Tensor, w: Tensor, bias: Tensor | None, activation: str | None) -> Tensor:
    return x.new_empty((x.shape[0], w.shape[0]))


def _fake_max_pool(
    x: Tensor, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    y = _fake_pool(x, kernel, stride, padding, dilation, ceil_mode)
    return y, torch.empty_like(y, dtype=winners_dtype(x.dtype))


def _fake_max_pool_grad(
    g: Tensor, winners: Tensor, size: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints,
    ceil_mode: bool, channels_last: bool,
) -> Tensor:  # fmt: skip
    return _fake(g, (*g.shape[:2], *size), channels_last)


def _fake_avg_pool(
    x: Tensor, kernel: Ints, stride: Ints, padding: Ints, ceil_mode: bool, count_include_pad: bool
) -> Tensor:
    return _fake_pool(x, kernel, stride, padding, (1, 1), ceil_mode)


def _fake_avg_pool_grad(
    g: Tensor, size: Ints, kernel: Ints, stride: Ints, padding: Ints, ceil_mode: bool, count_include_pad: bool,
    channels_last: bool,
) -> Tensor:  # fmt: skip
    return _fake(g, (*g.shape[:2], *size), channels_last)


def _fake_batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, eps: float, activation: str | None
) -> tuple[Tensor, Tensor]:
    return _fake(x, x.shape, suggests(x)), x.new_empty((3, x.shape[1]))


def _fake_batch_norm_grad(
    g: Tensor, x: Tensor, weight: Tensor, bias: Tensor, stats: Tensor, y: Tensor | None, eps: float,
    activation: str | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    dx = _fake(x, x.shape, suggests(x))
    return dx, g.new_empty(0) if y is None else torch.empty_like(dx), x.new_empty((2, x.shape[1]))


def _fake_relu_grad(g: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return _fake(y, y.shape, suggests(y)), g.new_empty(g.shape[1])


def _fake_pool(x: Tensor, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil_mode: bool) -> Tensor:
    if _plain(*x.shape):
        n, c, ih, iw = x.shape
        PoolShape(n, c, ih, iw, kernel[0], kernel[1], stride, padding, dilation, ceil_mode)
    rows, columns = (
        _out(x.shape[2 + a], kernel[a], stride[a], 2 * padding[a], dilation[a], ceil_mode, padding[a]) for a in (0, 1)
    )
    return _fake(x, (*x.shape[:2], rows, columns), suggests(x))


def _out(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool = False, before: int = 0
) -> int:
    """(N - F + 2P) / S + 1 on numbers that may be symbols; `padding` is that of both sides together."""
    room = size - (kernel - 1) * dilation - 1 + padding
    if not ceil_mode:
        return room // stride + 1
    out = (room + stride - 1) // stride + 1
    # The last window has to start inside the input or the padding before it.
    return out - 1 if (out - 1) * stride >= size + before else out


def _plain(*sizes: int) -> bool:
    return all(type(size) is int for size in sizes)


def _fake(like: Tensor, shape: Ints, channels_last: bool) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=FORMATS[bool(channels_last)])


FAKES: Final[Mapping[str, Callable[..., Any]]] = {
    "conv": _fake_conv,
    "conv_pool": _fake_conv_pool,
    "grad_x": _fake_grad_x,
    "grad_w": _fake_grad_w,
    "grad_b": _fake_grad_b,
    "linear": _fake_linear,
    "max_pool": _fake_max_pool,
    "max_pool_grad": _fake_max_pool_grad,
    "avg_pool": _fake_avg_pool,
    "avg_pool_grad": _fake_avg_pool_grad,
    "batch_norm": _fake_batch_norm,
    "batch_norm_grad": _fake_batch_norm_grad,
    "relu_grad": _fake_relu_grad,
}
