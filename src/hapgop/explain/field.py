"""What one unit sees of the image: exactly, pixel by pixel, and how strongly."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hapgop.explain.opened import Model, Opened, opened, prepared
from hapgop.explain.taps import Taps, taps
from hapgop.program import Node
from hapgop.program.sizes import pool_shape, transposed_shape

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Field:
    """The receptive field of one unit.

    `mask`, bool (h, w), is exact: the pixels of the image on which the unit depends, gaps of dilation left out.
    `box` (top, left, bottom, right), the last two excluded, is the smallest rectangle around them. `span` is
    that rectangle as it would be on an endless image, and `padding` the share of `span` that lies outside this one.
    Where units do not all see alike (`unequal`), no endless image is thought of: `span` is `box`.
    """

    layer: str
    mask: Mask
    box: tuple[int, int, int, int]
    span: tuple[int, int, int, int]
    padding: float


def receptive_field(model: Model, image: Any, layer: str, oh: int, ow: int, oc: int | None = None) -> Field:
    """The field of unit (oh, ow) of `layer`; of one channel, where `oc` is given, else of all.

    Exact through strides, dilation, padding, pooling, groups and skips: the pixels that reach the unit by any
    path. Only the size of `image` matters. Raises InputError where there is no such unit.

    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3, dilation=2), torch.nn.Conv2d(1, 1, 2, stride=2))
    >>> field = receptive_field(net, np.zeros((1, 12, 12)), "1", 1, 0)
    >>> field.box, int(field.mask.sum()), field.padding
    ((2, 0, 8, 6), 36, 0.0)
    """
    net = opened(model, image)
    net.unit(layer, oc or 0, oh, ow)
    seen = np.zeros(net.sizes[layer], bool)
    if seen.ndim == 1:
        seen[slice(None) if oc is None else oc] = True
    else:
        seen[slice(None) if oc is None else oc, oh, ow] = True
    mask: Mask = np.logical_or.reduce(_image_mask(net, layer, seen), axis=0)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (0, 0, 0, 0)
    if rows.size:
        box = (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
    if unequal(net, layer):
        return Field(layer, mask, box, box, 0.0)
    span = _span(net, layer, oh, ow)
    return Field(layer, mask, box, span, _outside(span, mask.shape))


def effective_field(model: Model, image: Any, layer: str, oc: int, oh: int, ow: int) -> NDArray[np.float32]:
    """How strongly each pixel moves the unit: |d unit / d pixel| summed over the channels, float32 (h, w).

    The field that counts is smaller than the field that is seen: most of it lies in the middle.
    Source: Luo, Li, Urtasun and Zemel, "Understanding the effective receptive field", 2016.
    """
    net = opened(model, image)
    unit = net.unit(layer, oc, oh, ow)
    x = torch.from_numpy(prepared(model, image))[None].requires_grad_()
    y = net.steps.until(x, layer)[layer][0]
    y = y[unit] if y.ndim == 3 else y[oc]
    (gradient,) = torch.autograd.grad(y, x)
    return gradient[0].abs().sum(0).numpy()


def _image_mask(net: Opened, layer: str, seen: Mask) -> Mask:
    """Backwards through the graph: what each result must hold for `seen` of `layer`."""
    wanted: dict[str, Mask] = {layer: seen}
    reached = False
    for node in reversed(net.graph.nodes):
        reached = reached or node.name == layer
        if not reached or node.name not in wanted:
            continue
        mask = wanted.pop(node.name)
        for name, needed in zip(node.inputs, _needs(net, node, mask), strict=True):
            wanted[name] = wanted[name] | needed if name in wanted else needed
    return wanted.get(net.graph.input, np.zeros(net.graph.input_shape, bool))


def _needs(net: Opened, node: Node, mask: Mask) -> list[Mask]:
    """For each input of the node, the part that `mask` of its result depends on."""
    sizes = [net.sizes[name] for name in node.inputs]
    if node.op in ("add", "mul"):
        return [_unbroadcast(mask, size) for size in sizes]
    if node.op == "concat":
        ends = np.cumsum([size[0] for size in sizes])
        return np.split(mask, ends[:-1].tolist())
    return [_NEEDS.get(node.op, _same)(node, sizes[0], mask)]


def _same(node: Node, size: tuple[int, ...], mask: Mask) -> Mask:
    return mask


def _conv(node: Node, size: tuple[int, ...], mask: Mask) -> Mask:
    groups = node.attrs["groups"]
    by_group: Mask = np.logical_or.reduce(mask.reshape(groups, -1, *mask.shape[1:]), axis=1)
    return _spread(by_group, *taps(node, size)).repeat(size[0] // groups, axis=0)


def _pool(node: Node, size: tuple[int, ...], mask: Mask) -> Mask:
    return _spread(mask, *taps(node, size))


def _all(node: Node, size: tuple[int, ...], mask: Mask) -> Mask:
    return np.full(size, mask.any())


def _channels(node: Node, size: tuple[int, ...], mask: Mask) -> Mask:
    return np.broadcast_to(np.logical_or.reduce(mask, axis=0), size)


def _flatten(node: Node, size: tuple[int, ...], mask: Mask) -> Mask:
    return mask.reshape(size)


def _mean(node: Node, size: tuple[int, ...], mask: Mask) -> Mask:
    return np.broadcast_to(mask.reshape(mask.shape + (1,) * (len(size) - mask.ndim)), size)


_NEEDS: dict[str, Callable[[Node, tuple[int, ...], Mask], Mask]] = {
    "conv2d": _conv,
    "conv_transpose2d": _conv,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "adaptive_avg_pool2d": _pool,
    "adaptive_max_pool2d": _pool,
    "pointwise": _channels,
    "layer_norm": _channels,
    "linear": _all,
    "softmax": _channels,
    "log_softmax": _channels,
    "flatten": _flatten,
    "mean": _mean,
}


def _spread(mask: Mask, rows: Taps, columns: Taps) -> Mask:
    """(c, oh, ow) to (c, ih, iw): every input that a window over the mask reads."""
    down = np.matmul(rows.incidence().T.astype(np.float32), mask.astype(np.float32))
    return np.matmul(down, columns.incidence().astype(np.float32)) > 0


def _unbroadcast(mask: Mask, size: tuple[int, ...]) -> Mask:
    axes = tuple(axis for axis, side in enumerate(size) if side == 1 and mask.shape[axis] != 1)
    summed: Mask = np.logical_or.reduce(mask, axis=axes, keepdims=True) if axes else mask
    return summed


def unequal(net: Opened, layer: str) -> bool:
    """Do the layer's units see parts of the image that differ in more than their place?

    They do behind a pooling whose windows differ in size, a gate that sees all of the image (squeeze-and-excitation),
    and a transposed convolution with a stride, where neighbouring units read different numbers of inputs.
    """
    wanted = {layer}
    for node in reversed(net.graph.nodes):
        if node.name in wanted:
            if _uneven(net, node):
                return True
            wanted.update(node.inputs)
    return False


def _uneven(net: Opened, node: Node) -> bool:
    sizes = [net.sizes[name] for name in node.inputs]
    if node.op.endswith("pool2d"):
        return pool_shape(node, sizes[0]) is None
    if node.op == "conv_transpose2d":
        return transposed_shape(node, sizes[0]).stride != (1, 1)
    return len({size[1:] for size in sizes}) > 1


def _span(net: Opened, layer: str, oh: int, ow: int) -> tuple[int, int, int, int]:
    field = net.layers[layer].receptive_field
    top, left = (start + unit * jump for start, unit, jump in zip(field.start, (oh, ow), field.jump, strict=True))
    return top, left, top + field.size[0], left + field.size[1]


def _outside(span: tuple[int, int, int, int], image: tuple[int, ...]) -> float:
    top, left, bottom, right = span
    height = max(0, min(bottom, image[0]) - max(top, 0))
    width = max(0, min(right, image[1]) - max(left, 0))
    return 1 - height * width / ((bottom - top) * (right - left))
