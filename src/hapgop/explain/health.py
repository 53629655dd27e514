"""How well a layer's filters are used: which answer to nothing, say the same, or always shout."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hapgop.errors import InputError
from hapgop.explain.opened import Array, Opened

_SAME = 0.98
_ALWAYS = 0.95
_LIMITS = {"relu6": (0.0, 6.0), "sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "hardsigmoid": (0.0, 1.0)}
_CLOSE = 0.01


@dataclass(frozen=True)
class FilterHealth:
    """Of one convolution, over some images. dead: channels that are never above zero after their activation.

    duplicates: pairs whose weights point the same way (cosine above 0.98). saturated: channels that stand at a
    limit of their activation nearly everywhere. activation: the layer whose results were watched.
    """

    layer: str
    activation: str
    dead: tuple[int, ...]
    duplicates: tuple[tuple[int, int], ...]
    saturated: tuple[int, ...]
    images: int


def filter_health(net: Opened, images: Sequence[Array], layer: str) -> FilterHealth:
    """Judge the filters of a convolution by what they make of `images`, each (c, h, w) as the net reads it."""
    node = net.node(layer)
    if node.op != "conv2d":
        raise InputError(f"{layer} is a {node.op}; filters are judged of convolutions.")
    if not images:
        raise InputError("Filters are judged by what they make of images; give at least one.")
    watched, op = _activation(net, layer)
    highest = np.full(net.sizes[watched][0], -np.inf, np.float32)
    at_limit = np.zeros(len(highest))
    low, high = _LIMITS.get(op, (0.0, 0.0))
    for image in images:
        y = net.maps(image)[watched]
        highest = np.maximum(highest, y.max(axis=(1, 2)))
        close = (np.abs(y - high) < _CLOSE) | ((np.abs(y - low) < _CLOSE) & (op != "relu6"))
        at_limit += close.mean(axis=(1, 2))
    rectified = op in ("relu", "relu6")
    return FilterHealth(
        layer,
        watched,
        tuple(np.flatnonzero(highest <= 0).tolist()) if rectified else (),
        _duplicates(np.asarray(net.tensors[node.params["weight"]], np.float64)),
        tuple(np.flatnonzero(at_limit / len(images) > _ALWAYS).tolist()) if op in _LIMITS else (),
        len(images),
    )


def _activation(net: Opened, layer: str) -> tuple[str, str]:
    """The result after the activation that follows, through a batch norm if there is one."""
    name, op = layer, str(net.node(layer).attrs["activation"])
    for node in net.graph.nodes:
        if node.inputs == (name,) and op == "None":
            if node.op == "batch_norm2d":
                name = node.name
            elif node.op in ("relu", *_LIMITS):
                return node.name, node.op
    return name, op


def _duplicates(weight: NDArray[np.float64]) -> tuple[tuple[int, int], ...]:
    rows = weight.reshape(len(weight), -1)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(length > 0, length, 1)
    return tuple((int(a), int(b)) for a, b in np.argwhere(np.triu(rows @ rows.T > _SAME, 1)))
