"""Pooling in two dimensions."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from hapgop.errors import InputError
from hapgop.nn import fallback, ops
from hapgop.nn.functional.arguments import Numbers, several
from hapgop.nn.functional.gate import batched, elsewhere, not_ours, overridable


@overridable
def max_pool2d(
    input: Tensor,
    kernel_size: Numbers,
    stride: Numbers | None = None,
    padding: Numbers = 0,
    dilation: Numbers = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """`torch.nn.functional.max_pool2d`: the largest of each window.

    input (n, c, ih, iw) or (c, ih, iw). With `return_indices` also the places, row * iw + column, int64.
    Raises ShapeError where the window does not fit.

    >>> max_pool2d(torch.arange(16.0).view(1, 1, 4, 4), 2).tolist()
    [[[[5.0, 7.0], [13.0, 15.0]]]]
    """
    kernel, strides, pads, dilations, refused = _max_setting(kernel_size, stride, padding, dilation)
    has_batch = batched(input, 2)
    reason = not_ours(input) or refused
    if reason is not None:
        elsewhere("max_pool2d", reason)
        pool: Any = F.max_pool2d
        return pool(input, kernel, strides, pads, dilations, ceil_mode, return_indices)
    x = input if has_batch else input[None]
    y, winners = ops.max_pool(x, kernel, strides, pads, dilations, ceil_mode)
    if not return_indices:
        return y if has_batch else y[0]
    places = fallback.indices_of(winners, x.shape[2:], kernel, strides, pads, dilations)
    return (y, places) if has_batch else (y[0], places[0])


@overridable
def avg_pool2d(
    input: Tensor,
    kernel_size: Numbers,
    stride: Numbers | None = None,
    padding: Numbers = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """`torch.nn.functional.avg_pool2d`: the mean of each window.

    input (n, c, ih, iw) or (c, ih, iw). Raises ShapeError where the window does not fit.

    >>> avg_pool2d(torch.arange(16.0).view(1, 1, 4, 4), 2).tolist()
    [[[[2.5, 4.5], [10.5, 12.5]]]]
    """
    kernel = several("kernel_size", kernel_size, 2)
    strides, pads = _stride(stride, kernel), several("padding", padding, 2)
    has_batch = batched(input, 2)
    reason = not_ours(input) if divisor_override is None else "divisor_override"
    if reason is not None:
        elsewhere("avg_pool2d", reason)
        y: Tensor = F.avg_pool2d(input, kernel, strides, pads, ceil_mode, count_include_pad, divisor_override)
        return y
    y = ops.avg_pool(input if has_batch else input[None], kernel, strides, pads, ceil_mode, count_include_pad)
    return y if has_batch else y[0]


@overridable
def adaptive_avg_pool2d(input: Tensor, output_size: int | Sequence[int | None] | None) -> Tensor:
    """`torch.nn.functional.adaptive_avg_pool2d`: the means of `output_size` (rows, columns) parts of the image.

    input (n, c, ih, iw) or (c, ih, iw). Ours where the parts are equal: sizes that divide the input's.

    >>> adaptive_avg_pool2d(torch.arange(16.0).view(1, 1, 4, 4), 1).tolist()
    [[[[7.5]]]]
    """
    has_batch = batched(input, 2)
    wanted = tuple(output_size) if isinstance(output_size, Sequence) else (output_size, output_size)
    if len(wanted) != 2:
        raise InputError(f"output_size: got {output_size!r}, wanted a whole number or a pair (rows, columns).")
    size = tuple(input.shape[-2:])
    parts = tuple(s if part is None else part for part, s in zip(wanted, size, strict=True))
    if any(part < 1 for part in parts):
        raise InputError(f"output_size: got {output_size!r}, wanted at least 1.")
    reason = not_ours(input)
    if reason is None and any(s % part for s, part in zip(size, parts, strict=True)):
        reason = "parts of different sizes"
    if reason is not None:
        elsewhere("adaptive_avg_pool2d", reason)
        return F.adaptive_avg_pool2d(input, (parts[0], parts[1]))
    kernel = tuple(s // part for s, part in zip(size, parts, strict=True))
    y: Tensor = ops.avg_pool(input if has_batch else input[None], kernel, kernel, (0, 0), False, True)
    return y if has_batch else y[0]


def _max_setting(
    kernel_size: Numbers, stride: Numbers | None, padding: Numbers, dilation: Numbers
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...], str | None]:
    """The four as pairs, and why such a pool goes to PyTorch, or None."""
    kernel = several("kernel_size", kernel_size, 2)
    pads, dilations = several("padding", padding, 2), several("dilation", dilation, 2)
    reason = None
    if max(dilations) > 1 and any(2 * p > k for p, k in zip(pads, kernel, strict=True)):
        # PyTorch counts the kernel's reach here.
        reason = "padding of more than half a dilated kernel"
    return kernel, _stride(stride, kernel), pads, dilations, reason


def _stride(stride: Numbers | None, kernel: tuple[int, ...]) -> tuple[int, ...]:
    # An empty list is how PyTorch's own schema says "the kernel".
    given = stride is not None and not (isinstance(stride, Sequence) and len(stride) == 0)
    return several("stride", stride, 2) if given and stride is not None else kernel
