"""A convolution to play with: any image, any filters, any setting, and what flipping them changes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hapgop.explain.opened import Array
from hapgop.program import Graph, Node, run
from hapgop.shape import ConvShape


@dataclass(frozen=True, eq=False)
class Played:
    """`maps`, float32 (oc, oh, ow), made by the engine; `filters` (oc, ic, kh, kw) as they were applied, turned
    round where `flip` was asked for; `formula`, the output size with its numbers; `unread` rows and columns."""

    maps: Array
    filters: Array
    formula: str
    unread: tuple[int, int]


def convolved(
    image: Array,
    filters: NDArray[np.float32],
    bias: Sequence[float] | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    flip: bool = False,
) -> Played:
    """The engine's maps of one image (ic, h, w) under filters (oc, ic, kh, kw).

    flip: turn every filter by 180 degrees first, which makes the cross-correlation that nets compute a convolution
    in the mathematician's sense. Raises ShapeError, which says what would work, on settings that do not fit.

    >>> convolved(np.ones((1, 5, 5), np.float32), np.ones((2, 1, 3, 3), np.float32)).maps.shape
    (2, 3, 3)
    """
    shape = ConvShape.of((1, *image.shape), filters.shape, stride=stride, padding=padding, dilation=dilation)
    applied = np.ascontiguousarray(filters[:, :, ::-1, ::-1] if flip else filters, np.float32)
    settings = {"stride": stride, "padding": padding, "dilation": dilation}
    tensors = {"weight": applied} | ({} if bias is None else {"bias": np.asarray(bias, np.float32)})
    node = Node(
        "play",
        "conv2d",
        ("input",),
        {"out_channels": shape.oc, "kernel_size": (shape.kh, shape.kw), **settings},
        {role: role for role in tensors},
    )
    graph = Graph((shape.ic, shape.ih, shape.iw), (node,), "play")
    maps = run(graph, tensors, np.asarray(image[np.newaxis], np.float32))
    return Played(np.ascontiguousarray(maps[0]), applied, shape.formula(), shape.unread)
