"""Convolution and its transpose in one, two and three dimensions."""

from typing import Any, cast

from torch import Tensor
from torch.nn import functional as F

from hapgop.errors import InputError
from hapgop.nn import ops, shortcut
from hapgop.nn.functional.arguments import Ints, Numbers, Padding, checked_activation, several, sides
from hapgop.nn.functional.gate import batched, elsewhere, not_ours, overridable
from hapgop.nn.layout import suggests
from hapgop.shape import ShapeError


@overridable
def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Padding = 0,
    dilation: Numbers = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
    pool: Numbers | None = None,
) -> Tensor:
    """`torch.nn.functional.conv2d` with an activation on top; 'same' also with a stride, padding also by side.

    `pool`: the largest of each window of that size, windows side by side, in the same operator: the convolution's own
    result is not kept for the backward, only the winners' positions are.

    input (n, ic, ih, iw) or (ic, ih, iw), weight (oc, ic / groups, kh, kw), bias (oc). `padding` may be
    (top, bottom, left, right). `activation` is None or "relu". Raises ShapeError where sizes do not fit.

    >>> conv2d(torch.ones(1, 3, 32, 32), torch.ones(6, 3, 5, 5)).shape
    torch.Size([1, 6, 28, 28])
    """
    given = (stride, padding, dilation, groups, activation)
    if pool is None and (known := shortcut.again(input, weight, bias, given)) is not None:
        return known
    windows = None if pool is None else several("pool", pool, 2)
    return _conv(2, input, weight, bias, *given[:4], checked_activation(activation), windows)


@overridable
def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Padding = 0,
    dilation: Numbers = 1,
    groups: int = 1,
) -> Tensor:
    """`torch.nn.functional.conv1d`: a convolution of images one pixel high.

    >>> conv1d(torch.ones(1, 3, 32), torch.ones(6, 3, 5)).shape
    torch.Size([1, 6, 28])
    """
    return _conv(1, input, weight, bias, stride, padding, dilation, groups, None)


@overridable
def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Padding = 0,
    dilation: Numbers = 1,
    groups: int = 1,
) -> Tensor:
    """`torch.nn.functional.conv3d`, computed there; 'same' also with a stride.

    >>> conv3d(torch.ones(1, 3, 8, 8, 8), torch.ones(6, 3, 5, 5, 5)).shape
    torch.Size([1, 6, 4, 4, 4])
    """
    return _conv(3, input, weight, bias, stride, padding, dilation, groups, None)


@overridable
def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers = 0,
    output_padding: Numbers = 0,
    groups: int = 1,
    dilation: Numbers = 1,
) -> Tensor:
    """`torch.nn.functional.conv_transpose1d`.

    >>> conv_transpose1d(torch.ones(1, 6, 28), torch.ones(6, 3, 5)).shape
    torch.Size([1, 3, 32])
    """
    return _conv_transpose(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


@overridable
def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers = 0,
    output_padding: Numbers = 0,
    groups: int = 1,
    dilation: Numbers = 1,
    *,
    activation: str | None = None,
) -> Tensor:
    """`torch.nn.functional.conv_transpose2d`, the x-derivative of a convolution, with an activation on top.

    input (n, ic, ih, iw) or (ic, ih, iw), weight (ic, oc / groups, kh, kw), bias (oc).
    oh = (ih - 1) * stride - 2 * padding + (kh - 1) * dilation + 1 + output_padding. Raises ShapeError.

    >>> conv_transpose2d(torch.ones(1, 6, 28, 28), torch.ones(6, 3, 5, 5)).shape
    torch.Size([1, 3, 32, 32])
    """
    activation = checked_activation(activation)
    return _conv_transpose(2, input, weight, bias, stride, padding, output_padding, groups, dilation, activation)


@overridable
def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers = 0,
    output_padding: Numbers = 0,
    groups: int = 1,
    dilation: Numbers = 1,
) -> Tensor:
    """`torch.nn.functional.conv_transpose3d`, computed there.

    >>> conv_transpose3d(torch.ones(1, 6, 4, 4, 4), torch.ones(6, 3, 5, 5, 5)).shape
    torch.Size([1, 3, 8, 8, 8])
    """
    return _conv_transpose(3, input, weight, bias, stride, padding, output_padding, groups, dilation)


def _conv(
    axes: int,
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    stride: Numbers,
    padding: Padding,
    dilation: Numbers,
    groups: int,
    activation: str | None,
    pool: Ints | None = None,
) -> Tensor:
    given = (stride, padding, dilation, groups, activation)
    stride, dilation = several("stride", stride, axes), several("dilation", dilation, axes)
    has_batch = batched(x, axes)
    reason = "three dimensions" if axes == 3 else not_ours(x)
    if reason is not None:
        elsewhere(f"conv{axes}d", reason)
        y = _torch_conv(axes, x, w, bias, stride, padding, dilation, groups)
        y = y if activation is None else F.relu(y)
        return y if pool is None else F.max_pool2d(y, [*pool])
    padding = sides(padding, x.shape[-axes:], w.shape[2:], stride, dilation)
    if has_batch and axes == 2 and pool is None:
        y = ops.conv(x, w, bias, stride, padding, dilation, groups, activation)
        shortcut.learn(x, w, bias, given, (stride, padding, dilation, groups, activation))
        return y
    x = x if has_batch else x[None]
    if pool is not None:
        y = ops.conv_pool(x, w, bias, stride, padding, dilation, groups, activation, pool)[0]
        return y if has_batch else y[0]
    if axes == 1:
        # One pixel high.
        x, w, padding = x.unsqueeze(2), w.unsqueeze(2), (0, 0, *padding)
        stride, dilation = (1, *stride), (1, *dilation)
    y = ops.conv(x, w, bias, stride, padding, dilation, groups, activation)
    y = y.squeeze(2) if axes == 1 else y
    return y if has_batch else y[0]


def _torch_conv(
    axes: int, x: Tensor, w: Tensor, bias: Tensor | None, stride: Ints, padding: Padding, dilation: Ints, groups: int
) -> Tensor:
    function: Any = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    if padding in ("same", "valid") and set(stride) == {1}:
        # In words, so that what is written down of it holds for images of other sizes.
        return cast(Tensor, function(x, w, bias, stride, padding, dilation, groups))
    padding = sides(padding, x.shape[-axes:], w.shape[2:], stride, dilation)
    before, after = padding[::2], padding[1::2]
    if before != after:
        # F.pad counts axes from the last.
        x = F.pad(x, [side for pair in zip(before[::-1], after[::-1], strict=True) for side in pair])
        before = (0,) * axes
    return cast(Tensor, function(x, w, bias, stride, before, dilation, groups))


def _conv_transpose(
    axes: int,
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    stride: Numbers,
    padding: Numbers,
    output_padding: Numbers,
    groups: int,
    dilation: Numbers,
    activation: str | None = None,
) -> Tensor:
    stride, dilation = several("stride", stride, axes), several("dilation", dilation, axes)
    padding, more = several("padding", padding, axes), several("output_padding", output_padding, axes)
    has_batch = batched(x, axes)
    _check_output_padding(more, stride, dilation)
    reason = "three dimensions" if axes == 3 else not_ours(x)
    if reason is None and any(m >= s for m, s in zip(more, stride, strict=True)):
        # Then no convolution has this one as its transpose: a row more would give it another output.
        reason = "output_padding not smaller than the stride"
    if reason is not None:
        elsewhere(f"conv_transpose{axes}d", reason)
        function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes - 1]
        y = function(x, w, bias, stride, padding, more, groups, dilation)
        return y if activation is None else F.relu(y)
    x = x if has_batch else x[None]
    if axes == 1:
        x, w, padding, more = x.unsqueeze(2), w.unsqueeze(2), (0, *padding), (0, *more)
        stride, dilation = (1, *stride), (1, *dilation)
    _check_transposed_weight(x, w, bias, groups)
    size = [_transposed(*axis) for axis in zip(x.shape[2:], w.shape[2:], stride, padding, dilation, more, strict=True)]
    every_side = (padding[0], padding[0], padding[1], padding[1])
    last = suggests(x) or suggests(w)
    y = ops.grad_x(x, w, bias, size, stride, every_side, dilation, groups, last, activation)
    y = y.squeeze(2) if axes == 1 else y
    return y if has_batch else y[0]


def _transposed(size: int, kernel: int, stride: int, padding: int, dilation: int, more: int) -> int:
    out = (size - 1) * stride - 2 * padding + (kernel - 1) * dilation + 1 + more
    if out < 1:
        raise ShapeError(
            f"padding: {padding} on both sides leaves nothing of the output: ({size} - 1) * {stride} - 2 * {padding} "
            f"+ ({kernel} - 1) * {dilation} + 1 + {more} = {out}. "
            f"What would work: padding of at most {(out + 2 * padding - 1) // 2}."
        )
    return out


def _check_output_padding(more: Ints, stride: Ints, dilation: Ints) -> None:
    for m, s, d in zip(more, stride, dilation, strict=True):
        if m >= max(s, d):
            raise InputError(
                f"output_padding: got {m}, wanted less than the stride or the dilation ({s} and {d}); "
                f"the nearest that works is {max(s, d) - 1}."
            )


def _check_transposed_weight(x: Tensor, w: Tensor, bias: Tensor | None, groups: int) -> None:
    if w.dim() != 4:
        raise ShapeError(f"weight: shape {tuple(w.shape)}, wanted 4 dimensions: (ic, oc / groups, kh, kw).")
    if x.shape[1] != w.shape[0]:
        raise ShapeError(
            f"input: {x.shape[1]} channels, but the weight {tuple(w.shape)}, which is (ic, oc / groups, kh, kw), takes "
            f"{w.shape[0]}. What would work: an input of {w.shape[0]} channels, or a weight for {x.shape[1]}."
        )
    if bias is not None and bias.shape != (w.shape[1] * groups,):
        raise ShapeError(f"bias: got shape {tuple(bias.shape)}, wanted {(w.shape[1] * groups,)}.")
