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
# What a convolution's result may pass on its way to its activation, each channel for itself.
_THROUGH = ("batch_norm2d", "max_pool2d", "avg_pool2d", "dropout", "identity")


@dataclass(frozen=True)
class FilterHealth:
    """Of one convolution, over some images.

    dead: channels that are never above zero after their ReLU, or still. still: those of them whose map is one other
    number throughout. duplicates: pairs of one group whose weights point the same way (cosine above 0.98). saturated:
    channels that stand at a limit of their activation nearly everywhere. activation: the layer whose results were
    watched. rectified: whether that is a ReLU; without one, only still maps are known to be dead.
    """

    layer: str
    activation: str
    dead: tuple[int, ...]
    duplicates: tuple[tuple[int, int], ...]
    saturated: tuple[int, ...]
    images: int
    still: tuple[int, ...] = ()
    rectified: bool = True


def filter_health(net: Opened, images: Sequence[Array], layer: str) -> FilterHealth:
    """Judge the filters of a convolution by what they make of `images`, each (c, h, w) as the net reads it."""
    return health_of_all(net, images, [layer])[0]


def health_of_all(net: Opened, images: Sequence[Array], layers: Sequence[str]) -> list[FilterHealth]:
    """As `filter_health`, of several convolutions: one run of the net for each image judges all of them."""
    for layer in layers:
        if (op := net.node(layer).op) != "conv2d":
            raise InputError(f"{layer} is a {op}; filters are judged of convolutions.")
    if not images:
        raise InputError("Filters are judged by what they make of images; give at least one.")
    watched = [_Watched(net, layer) for layer in layers]
    for image in images:
        maps = net.maps(image)
        for one in watched:
            one.see(maps[one.name])
    # Of pictures without any detail, every map is still.
    detailed = any(np.ptp(image, axis=(1, 2)).any() for image in images)
    return [_judged(net, one, len(images), detailed) for one in watched]


class _Watched:
    """What the channels of a convolution have come to, after its activation, over the images so far."""

    def __init__(self, net: Opened, layer: str) -> None:
        self.layer = layer
        self.name, self.op = _activation(net, layer)
        self.highest = np.full(net.sizes[self.name][0], -np.inf, np.float32)
        self.lowest = -self.highest
        self.at_limit = np.zeros(len(self.highest))

    def see(self, y: Array) -> None:
        low, high = _LIMITS.get(self.op, (0.0, 0.0))
        self.highest = np.maximum(self.highest, y.max(axis=(1, 2)))
        self.lowest = np.minimum(self.lowest, y.min(axis=(1, 2)))
        close = (np.abs(y - high) < _CLOSE) | ((np.abs(y - low) < _CLOSE) & (self.op != "relu6"))
        self.at_limit += close.mean(axis=(1, 2))


def _judged(net: Opened, one: _Watched, images: int, detailed: bool) -> FilterHealth:
    node = net.node(one.layer)
    weight = np.asarray(net.tensors[node.params["weight"]], np.float64)
    saturated = tuple(np.flatnonzero(one.at_limit / images > _ALWAYS).tolist()) if one.op in _LIMITS else ()
    rectified = one.op in ("relu", "relu6")
    silent = (one.highest <= 0) & rectified
    still = (one.highest == one.lowest) & ~silent & detailed
    still[list(saturated)] = False
    return FilterHealth(
        one.layer,
        one.name,
        tuple(np.flatnonzero(silent | still).tolist()),
        _duplicates(weight, node.attrs["groups"]),
        saturated,
        images,
        tuple(np.flatnonzero(still).tolist()),
        rectified,
    )


def _activation(net: Opened, layer: str) -> tuple[str, str]:
    """The result after the activation that follows, through a batch norm, a pool or a dropout; where none follows,
    that of the convolution, or of its batch norm."""
    name, op = layer, str(net.node(layer).attrs["activation"])
    passed = {layer}
    for node in net.graph.nodes:
        if op == "None" and passed.issuperset(node.inputs):
            if node.op in _THROUGH:
                passed.add(node.name)
                if node.op == "batch_norm2d" and node.inputs == (name,):
                    name = node.name
            elif node.op in ("relu", *_LIMITS):
                return node.name, node.op
    return name, op


def _duplicates(weight: NDArray[np.float64], groups: int) -> tuple[tuple[int, int], ...]:
    """Of the filters of one group only: those of two groups read different channels, however alike they look."""
    rows = weight.reshape(len(weight), -1)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(length > 0, length, 1)
    group = np.arange(len(rows)) * groups // len(rows)
    same = (rows @ rows.T > _SAME) & (group[:, None] == group)
    return tuple((int(a), int(b)) for a, b in np.argwhere(np.triu(same, 1)))
