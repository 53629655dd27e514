"""Pooling in ONNX's words, so that no runtime's own reading of `ceil_mode` matters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hapgop.export.writer import Writer
from hapgop.oracle import counted
from hapgop.program import Node
from hapgop.program.sizes import Size, adaptive_size, pool_shape


def write_pool(w: Writer, node: Node, sizes: Mapping[str, Size]) -> None:
    """Any of the four pools of a graph."""
    x, size = node.inputs[0], sizes[node.inputs[0]]
    s, largest = pool_shape(node, size), node.op.endswith("max_pool2d")
    if s is None:
        _uneven(w, node, size, largest)
        return
    if (s.kh, s.kw) == size[1:] and not any(s.padding):
        w.add("GlobalMaxPool" if largest else "GlobalAveragePool", [x], node.name)
        return
    top, bottom, left, right = s.padding
    # What ceil_mode adds at the ends is written as padding: what it says there, runtimes have read in several ways.
    low = (s.oh - 1) * s.stride[0] + (s.kh - 1) * s.dilation[0] + 1 - s.ih - top
    far = (s.ow - 1) * s.stride[1] + (s.kw - 1) * s.dilation[1] + 1 - s.iw - left
    setting: dict[str, Any] = {"kernel_shape": [s.kh, s.kw], "strides": [*s.stride]}
    setting["pads"] = [top, left, max(bottom, low), max(right, far)]
    if largest:
        w.add("MaxPool", [x], node.name, dilations=[*s.dilation], **setting)
        return
    count = bool(node.attrs.get("count_include_pad", True))
    if low <= bottom and far <= right:
        w.add("AveragePool", [x], node.name, count_include_pad=int(count), **setting)
        return
    # Nothing of that ever counts, so sums over all are divided anew by how many numbers do.
    means = w.add("AveragePool", [x], count_include_pad=1, **setting)
    w.add("Mul", [means, w.constant(s.kh * s.kw / counted(s, count))], node.name)


def _uneven(w: Writer, node: Node, size: Size, largest: bool) -> None:
    """Windows that differ in size, as PyTorch cuts them: rows first, then columns."""
    x, wanted = node.inputs[0], adaptive_size(node, size)
    for axis, count, side in zip((2, 3), wanted, size[1:], strict=True):
        windows = [(i * side // count, -(-(i + 1) * side // count)) for i in range(count)]
        name = node.name if axis == 3 else None
        if largest:
            over = w.constant([axis], np.int64)
            parts = [w.add("ReduceMax", [w.sliced(x, axis, *ends), over], keepdims=1) for ends in windows]
            x = w.add("Concat", parts, name, axis=axis)
            continue
        shares = np.zeros((count, side))
        for row, (start, end) in zip(shares, windows, strict=True):
            row[start:end] = 1 / (end - start)
        x = w.add("MatMul", [w.constant(shares), x] if axis == 2 else [x, w.constant(shares.T)], name)
