"""Which inputs each output of a window operator reads, along one axis: the arithmetic of indices and nothing else."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hapgop.program import Node
from hapgop.program.sizes import Size, adaptive_size, conv_shape, mean_axes, pool_shape, transposed_shape

_PAD_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


_WINDOWED: Final = (
    "conv2d", "conv_transpose2d", "pointwise", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d",
)  # fmt: skip


def windowed(node: Node) -> bool:
    """Is each value made from a window of the input? A mean over all rows and columns has the largest of windows."""
    return node.op in _WINDOWED or (node.op == "mean" and mean_axes(node) == {2, 3})


@dataclass(frozen=True, eq=False)
class Taps:
    """Rows, or columns: `places` (out, k) are where the taps of each output lie, counted in the input.

    A place below 0 or from `size` on lies in the padding. `reads` is where its value comes from: the place itself,
    another one where the padding repeats the input, or -1 for a zero, as also where a tap of a transposed convolution
    falls behind its place, between two inputs.
    """

    size: int
    places: NDArray[np.int64]
    reads: NDArray[np.int64]

    def incidence(self) -> NDArray[np.bool_]:
        """(out, size): does output o read input i?"""
        table = np.zeros((len(self.places), self.size + 1), bool)
        np.put_along_axis(table, np.where(self.reads < 0, self.size, self.reads), True, axis=1)
        return table[:, : self.size]


def taps(node: Node, size: Size) -> tuple[Taps, Taps]:
    """Of the rows and of the columns of what is `windowed`, on an input of `size` (c, h, w)."""
    if node.op == "conv2d":
        conv = conv_shape(node, size)
        mode = _PAD_MODES.get(node.attrs["padding_mode"])
        top, bottom, left, right = conv.padding
        return (
            _regular(conv.ih, conv.oh, conv.kh, conv.stride[0], (top, bottom), conv.dilation[0], mode),
            _regular(conv.iw, conv.ow, conv.kw, conv.stride[1], (left, right), conv.dilation[1], mode),
        )
    if node.op == "conv_transpose2d":
        shape = transposed_shape(node, size)
        return (
            _transposed(size[1], shape.ih, shape.kh, shape.stride[0], shape.padding[0], shape.dilation[0]),
            _transposed(size[2], shape.iw, shape.kw, shape.stride[1], shape.padding[2], shape.dilation[1]),
        )
    if node.op == "pointwise":
        return _regular(size[1], size[1], 1, 1, (0, 0), 1, None), _regular(size[2], size[2], 1, 1, (0, 0), 1, None)
    if node.op == "mean":
        return _adaptive(size[1], 1), _adaptive(size[2], 1)
    pool = pool_shape(node, size)
    if pool is None:
        oh, ow = adaptive_size(node, size)
        return _adaptive(size[1], oh), _adaptive(size[2], ow)
    top, bottom, left, right = pool.padding
    return (
        _regular(pool.ih, pool.oh, pool.kh, pool.stride[0], (top, bottom), pool.dilation[0], None),
        _regular(pool.iw, pool.ow, pool.kw, pool.stride[1], (left, right), pool.dilation[1], None),
    )


def _regular(
    size: int, out: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int, mode: str | None
) -> Taps:
    places = np.arange(out)[:, None] * stride - padding[0] + np.arange(kernel) * dilation
    inside = (places >= 0) & (places < size)
    if mode is None:
        return Taps(size, places, np.where(inside, places, -1))
    repeated = np.pad(np.arange(size), padding, mode=mode)  # type: ignore[call-overload]
    return Taps(size, places, repeated[places + padding[0]])


def _transposed(size: int, out: int, kernel: int, stride: int, before: int, dilation: int) -> Taps:
    """Tap t of output o takes the input i for which o + before = i * stride + t * dilation, if there is one."""
    steps = np.arange(out)[:, None] + before - np.arange(kernel) * dilation
    places = steps // stride
    there = (steps % stride == 0) & (places >= 0) & (places < size)
    return Taps(size, places, np.where(there, places, -1))


def _adaptive(size: int, out: int) -> Taps:
    """Windows from floor(i * size / out) to ceil((i + 1) * size / out); the shorter ones end with taps of no value."""
    first = np.arange(out) * size // out
    last = -(-(np.arange(out) + 1) * size // out)
    places = first[:, None] + np.arange((last - first).max())
    return Taps(size, places, np.where(places < last[:, None], places, -1))
