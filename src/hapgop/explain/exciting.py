"""What a deep filter looks for, shown by example: the images, and the patches in them, that excite it most."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hapgop.explain.field import receptive_field
from hapgop.explain.opened import Array, Opened, image_like


@dataclass(frozen=True)
class Exciting:
    """Image number `image` excites the channel to `value` at unit (oh, ow), which sees `box` of the image:
    (top, left, bottom, right), the last two excluded."""

    image: int
    value: float
    oh: int
    ow: int
    box: tuple[int, int, int, int]


def exciting(net: Opened, images: Sequence[Array], layer: str, channel: int, top: int = 8) -> tuple[Exciting, ...]:
    """The images, each (c, h, w) as the net reads it, that excite one channel most; the strongest first.

    Of each image only its strongest patch counts. Raises InputError where there is no such channel.
    """
    net.unit(layer, channel, 0, 0)
    found = []
    for number, image in enumerate(images):
        y = net.maps(image)[layer].reshape(image_like(net.sizes[layer]))[channel]
        oh, ow = np.unravel_index(int(y.argmax()), y.shape)
        found.append((float(y[oh, ow]), number, int(oh), int(ow)))
    found.sort(key=lambda one: (-one[0], one[1]))
    return tuple(
        Exciting(number, value, oh, ow, receptive_field(net, images[number], layer, oh, ow, channel).box)
        for value, number, oh, ow in found[:top]
    )
