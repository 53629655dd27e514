"""What a net takes for the same: patches of other images that it describes as it describes one of this image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hapgop.errors import InputError
from hapgop.explain.field import receptive_field
from hapgop.explain.opened import Array, Opened


@dataclass(frozen=True)
class Alike:
    """In image number `image`, unit (oh, ow), which sees `box` (top, left, bottom, right; the last two excluded).

    similarity: the cosine of the angle between its channels and those of the unit compared with; 1 is the same
    direction.
    """

    image: int
    similarity: float
    oh: int
    ow: int
    box: tuple[int, int, int, int]


def alike(
    net: Opened, image: Array, images: Sequence[Array], layer: str, unit: tuple[int, int] | None = None, top: int = 8
) -> tuple[Alike, ...]:
    """The patches of `images`, one of each at most, that look to `layer` most like a patch of `image`.

    All are (c, h, w), as the net reads them. A unit (oh, ow) of the layer stands for what it sees, its channels are
    its description, and cosines compare them: images that taught the net, compared so, are what it may have learned a
    label from. unit: the one with the longest description where none is named. Raises InputError for a layer whose
    result is no map, or a unit that there is not.

    Source: Zhang, Isola, Efros, Shechtman and Wang, arXiv 1801.03924, for distances between such descriptions.
    """
    here = _described(net, image, layer)
    oh, ow = strongest_unit(here) if unit is None else net.unit(layer, 0, *unit)[1:]
    wanted = _directions(here[:, oh, ow])
    found = []
    for number, other in enumerate(images):
        cosines = np.tensordot(wanted, _directions(_described(net, other, layer)), 1)
        y, x = np.unravel_index(int(cosines.argmax()), cosines.shape)
        found.append((float(cosines[y, x]), number, int(y), int(x)))
    found.sort(key=lambda one: (-one[0], one[1]))
    return tuple(
        Alike(number, cosine, y, x, receptive_field(net, images[number], layer, y, x).box)
        for cosine, number, y, x in found[:top]
    )


def strongest_unit(described: Array) -> tuple[int, int]:
    """Of a layer's result (c, h, w), the place whose channels are the longest vector."""
    y, x = np.unravel_index(int((described.astype(np.float64) ** 2).sum(0).argmax()), described.shape[1:])
    return int(y), int(x)


def _described(net: Opened, image: Array, layer: str) -> Array:
    net.node(layer)
    if len(net.sizes[layer]) != 3:
        raise InputError(f"{layer} makes {net.sizes[layer]}, no map; patches are compared by the layers that make one.")
    return net.maps(image)[layer]


def _directions(values: Array) -> Array:
    length = np.sqrt((values * values).sum(axis=0, keepdims=True))
    found: Array = values / np.maximum(length, np.finfo(np.float32).tiny, dtype=np.float32)
    return found
