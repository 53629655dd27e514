"""What a deep filter looks for, shown by example: the images, and the patches in them, that excite it most."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True, eq=False)
class Peaks:
    """The highest value of each channel of `layer` in each image, float32 (images, c), and at which unit it is:
    places, (images, c), counted row by row."""

    net: Opened
    layer: str
    values: Array
    places: NDArray[np.int64]

    def exciting(self, channel: int, top: int = 8) -> tuple[Exciting, ...]:
        """The images that excite one channel most; the strongest first.

        Raises InputError where there is no such channel.
        """
        self.net.unit(self.layer, channel, 0, 0)
        width = image_like(self.net.sizes[self.layer])[2]
        # A field is the same for every image.
        blank = np.zeros(self.net.graph.input_shape, np.float32)
        found = []
        for number in np.argsort(-self.values[:, channel], kind="stable")[:top].tolist():
            oh, ow = divmod(int(self.places[number, channel]), width)
            box = receptive_field(self.net, blank, self.layer, oh, ow, channel).box
            found.append(Exciting(number, float(self.values[number, channel]), oh, ow, box))
        return tuple(found)


def peaks(net: Opened, images: Sequence[Array], layer: str) -> Peaks:
    """Where in the images, each (c, h, w) as the net reads it, the channels of a layer are strongest.

    One run of the net for each image, for all channels. Raises InputError where there is no such layer.
    """
    net.node(layer)
    channels = image_like(net.sizes[layer])[0]
    values = np.empty((len(images), channels), np.float32)
    places = np.empty((len(images), channels), np.int64)
    for number, image in enumerate(images):
        rows = net.maps(image)[layer].reshape(channels, -1)
        values[number], places[number] = rows.max(axis=1), rows.argmax(axis=1)
    return Peaks(net, layer, values, places)


def exciting(net: Opened, images: Sequence[Array], layer: str, channel: int, top: int = 8) -> tuple[Exciting, ...]:
    """The images, each (c, h, w) as the net reads it, that excite one channel most; the strongest first.

    Of each image only its strongest patch counts. Of several channels, ask their `peaks`. Raises InputError where there
    is no such channel.
    """
    net.unit(layer, channel, 0, 0)
    return peaks(net, images, layer).exciting(channel, top)
