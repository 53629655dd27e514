"""PyTorch's own operators behind the faces of ours: for what the engine refuses, and for other devices.

They know no padding that differs from side to side, so that becomes a padded copy.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hapgop.nn.layout import FORMATS

aten = torch.ops.aten

Ints = Sequence[int]


def conv(
    x: Tensor, w: Tensor, bias: Tensor | None, stride: Ints, padding: Ints, dilation: Ints, groups: int,
    activation: str | None,
) -> Tensor:  # fmt: skip
    """y = activation(x * w + bias)."""
    if _is_linear(x.shape, w.shape, stride, padding):
        y = _as_row(torch.nn.functional.linear(_as_matrix(x), w[:, :, 0, 0], bias))
    else:
        x, sides = _padded(x, padding)
        y = torch.conv2d(x, w, bias, stride, sides, dilation, groups)
    return torch.relu_(y) if activation == "relu" else y


def grad_x(
    g: Tensor, w: Tensor, size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int, last: bool,
    bias: Tensor | None = None, activation: str | None = None,
) -> Tensor:  # fmt: skip
    """activation(the x-derivative of <g, x * w> + bias); `last`: is it channels last?"""
    dx = _grad_x(g, w, size, stride, padding, dilation, groups, last)
    dx = dx if bias is None else dx.add_(bias[:, None, None])
    return torch.relu_(dx) if activation == "relu" else dx


def _grad_x(
    g: Tensor, w: Tensor, size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int, last: bool
) -> Tensor:
    shape = (g.shape[0], w.shape[1] * groups, *size)
    if _is_linear(shape, w.shape, stride, padding):
        return _as_row(_as_matrix(g) @ w[:, :, 0, 0])
    (top, bottom, left, right), (rows, columns) = padding, size
    even = top == bottom and left == right
    sides, canvas = ((top, left), (rows, columns)) if even else ((0, 0), (top + rows + bottom, left + columns + right))
    # Only its size and memory order are read.
    x = torch.empty((*shape[:2], *canvas), dtype=g.dtype, device=g.device, memory_format=FORMATS[last])
    dx: Tensor = aten.convolution_backward.default(
        g, x, w, None, stride, sides, dilation, False, (0, 0), groups, (True, False, False)
    )[0]
    return dx if even else dx[:, :, top : top + rows, left : left + columns]


def grad_w(
    x: Tensor, g: Tensor, size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int, last: bool
) -> Tensor:
    """The w-derivative of <g, x * w>; `last`: is it channels last?"""
    shape = (g.shape[1], x.shape[1] // groups, *size)
    if _is_linear(x.shape, shape, stride, padding):
        return (_as_matrix(g).T @ _as_matrix(x))[:, :, None, None]
    x, sides = _padded(x, padding)
    # Only its size and memory order are read.
    w = torch.empty(shape, dtype=g.dtype, device=g.device, memory_format=FORMATS[last])
    dw: Tensor = aten.convolution_backward.default(
        g, x, w, None, stride, sides, dilation, False, (0, 0), groups, (False, True, False)
    )[1]
    return dw


def max_pool(
    x: Tensor, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    """The largest of each window, and its place in the window."""
    y, indices = aten.max_pool2d_with_indices.default(x, kernel, stride, padding, dilation, ceil_mode)
    top, left = _corners(y, stride, padding)
    rows, columns = (indices // x.shape[3] - top) // dilation[0], (indices % x.shape[3] - left) // dilation[1]
    return y, (rows * kernel[1] + columns).to(winners_dtype(x.dtype))


def max_pool_grad(
    g: Tensor, winners: Tensor, size: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints
) -> Tensor:
    """Each g added where its winner was."""
    places = indices_of(winners, size, kernel, stride, padding, dilation)
    dx = g.new_zeros((*g.shape[:2], size[0] * size[1]))
    return dx.scatter_add_(2, places.flatten(2), g.flatten(2)).unflatten(2, tuple(size))


def avg_pool(x: Tensor, kernel: Ints, stride: Ints, padding: Ints, ceil_mode: bool, count_include_pad: bool) -> Tensor:
    """The mean of each window."""
    y: Tensor = aten.avg_pool2d.default(x, kernel, stride, padding, ceil_mode, count_include_pad, None)
    return y


def avg_pool_grad(
    g: Tensor, size: Ints, kernel: Ints, stride: Ints, padding: Ints, ceil_mode: bool, count_include_pad: bool
) -> Tensor:
    """Each g spread evenly over its window."""
    x = g.new_empty((*g.shape[:2], *size))
    dx: Tensor = aten.avg_pool2d_backward.default(g, x, kernel, stride, padding, ceil_mode, count_include_pad, None)
    return dx


def winners_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """Places in a window are small whole numbers, but bfloat16 counts to 256 only."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def indices_of(winners: Tensor, size: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints) -> Tensor:
    """PyTorch's `return_indices`, row * iw + column in the input, from the places in the windows."""
    places = winners.long()
    top, left = _corners(winners, stride, padding)
    rows, columns = top + places // kernel[1] * dilation[0], left + places % kernel[1] * dilation[1]
    return rows * size[1] + columns


def laid(tensor: Tensor, strides: tuple[int, int, int, int]) -> Tensor:
    """The same values under exactly these strides, those of a dense tensor."""
    if tensor.stride() == strides:
        return tensor
    return torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype, device=tensor.device).copy_(tensor)


def _corners(y: Tensor, stride: Ints, padding: Ints) -> tuple[Tensor, Tensor]:
    """Where the window of each output starts: rows (oh, 1) and columns (ow)."""
    rows = torch.arange(y.shape[2], device=y.device) * stride[0] - padding[0]
    columns = torch.arange(y.shape[3], device=y.device) * stride[1] - padding[1]
    return rows[:, None], columns


def _padded(x: Tensor, padding: Ints) -> tuple[Tensor, tuple[int, int]]:
    top, bottom, left, right = padding
    if top == bottom and left == right:
        return x, (top, left)
    return torch.nn.functional.pad(x, (left, right, top, bottom)), (0, 0)


def _is_linear(x: Ints, w: Ints, stride: Ints, padding: Ints) -> bool:
    """Is this a matrix product: a row of pixels of one image under a 1x1 filter?"""
    one = x[0] == x[2] == w[2] == w[3] == 1 and w[1] == x[1]
    return one and all(s == 1 for s in stride) and not any(padding)


def _as_matrix(x: Tensor) -> Tensor:
    """(1, c, 1, pixels) -> (pixels, c)."""
    return x[0, :, 0].T


def _as_row(matrix: Tensor) -> Tensor:
    """(pixels, c) -> (1, c, 1, pixels)."""
    return matrix.T[None, :, None]
