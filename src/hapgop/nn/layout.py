"""Memory orders: in which of PyTorch's two formats a tensor lies, and which one a result gets.

Everything here is arithmetic on sizes and strides, so that kernels and fakes follow the same lines.
A format is a bool: is it channels last?
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

Sizes = Sequence[int]
Four = tuple[int, int, int, int]

FORMATS: Final = {True: torch.channels_last, False: torch.contiguous_format}


def suggests_channels_last(shape: Sizes, strides: Sizes) -> bool:
    """ATen's rule for 4-D tensors: do the strides grow in the order channels, columns, rows, batch?

    Where both formats describe the memory (one channel, one pixel), the strides decide; a tie is contiguous.

    >>> suggests_channels_last((2, 3, 4, 4), (48, 1, 12, 3))
    True
    >>> suggests_channels_last((2, 1, 4, 4), (16, 16, 4, 1))
    False
    """
    if strides[1] == 0:
        return False
    least = 0
    for axis in (1, 3, 2, 0):
        if shape[axis] == 0 or strides[axis] < least or (axis == 0 and least == strides[1]):
            return False
        least = strides[axis] * shape[axis]
    return True


def suggests(tensor: Tensor) -> bool:
    """The same of a tensor."""
    return suggests_channels_last(tensor.shape, tensor.stride())


def brought(tensor: Tensor, channels_last: bool | None) -> Tensor:
    """The same values, dense in this format; as they lie, where it is None."""
    return tensor if channels_last is None else tensor.contiguous(memory_format=FORMATS[channels_last])


def laid_as(tensor: Tensor, like: Tensor) -> Tensor:
    """The same values, dense in the format that `like` suggests."""
    return brought(tensor, suggests(like))


def strides_of(shape: Sizes, channels_last: bool) -> Four:
    """The strides of a dense 4-D tensor, as `torch.empty` with that memory format gives them."""
    c, h, w = (max(size, 1) for size in shape[1:])
    return (c * h * w, 1, w * c, c) if channels_last else (c * h * w, h * w, w, 1)


def formats_of(shape: Sizes, strides: Sizes) -> tuple[bool, ...]:
    """The formats in which this memory can be read: one, both (one channel, one pixel), or none (gaps, overlaps).

    >>> formats_of((2, 1, 4, 4), (16, 16, 4, 1))
    (True, False)
    >>> formats_of((2, 3, 4, 4), (96, 16, 4, 1))
    ()
    """
    return tuple(
        channels_last
        for channels_last in (True, False)
        if all(
            size < 2 or given == dense
            for size, given, dense in zip(shape, strides, strides_of(shape, channels_last), strict=True)
        )
    )
