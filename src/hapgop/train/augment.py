"""How images are changed before a step sees them: drawn for a whole batch at once, done for any part of it."""

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hapgop.engine import empty
from hapgop.train.batches import TOGETHER, Order, change_generator
from hapgop.train.recipe import Recipe

_PAD: dict[str, Literal["edge", "reflect"]] = {"edge": "edge", "reflect": "reflect"}
# The weights of red, green and blue in brightness (ITU-R BT.601).
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, eq=False)
class Draws:
    """What chance decided for each of n images; every array has n rows.

    shift: (n, 2) from -1 to 1, down and right; mirrored: (n,); cut: (n, 2), the middle of what is blanked, as a
    share of the sides; colour: (n, 3), factors of brightness, contrast and saturation; partner: (n,) positions in
    the batch and share: (n,), how much of the image itself is kept, for mixup.
    """

    shift: NDArray[np.float64]
    mirrored: NDArray[np.bool_]
    cut: NDArray[np.float64]
    colour: NDArray[np.float64]
    partner: NDArray[np.int64]
    share: NDArray[np.float32]

    def of(self, rows: NDArray[np.int64] | slice) -> "Draws":
        """The draws for some of the images."""
        return Draws(*(getattr(self, field.name)[rows] for field in fields(self)))


def drawn(recipe: Recipe, order: Order, turn: int) -> Draws:
    """The draws for the steps from TOGETHER * turn on, one step's after the other: of the seed and the turn alone.

    What the recipe has no use for is not drawn, but nothing else would be drawn otherwise for it.
    """
    size, generator = order.batch_size, change_generator(recipe.seed, turn)
    count, steps = size * TOGETHER, range(turn * TOGETHER, (turn + 1) * TOGETHER)
    shift = generator.uniform(-1, 1, (count, 2))
    mirrored = np.concatenate([order.mirrored(step) for step in steps]) if recipe.flip else np.zeros(count, np.bool_)
    # In this order, so that those that come later may be left out.
    cut = generator.random((count, 2)) if recipe.cutout or recipe.colour or recipe.mixup else np.ones((count, 0))
    colour = (
        1 + recipe.colour * generator.uniform(-1, 1, (count, 3))
        if recipe.colour or recipe.mixup
        else np.ones((count, 0))
    )
    partner, share = np.zeros(count, np.int64), np.ones(count, np.float32)
    if recipe.mixup:
        partner = np.concatenate([generator.permutation(size) for _ in steps])
        # One share for a whole batch, as in the paper's own code.
        share = np.repeat(generator.beta(recipe.mixup, recipe.mixup, TOGETHER).astype(np.float32), size)
    return Draws(shift, mirrored, cut, colour, partner, share)


class Windows:
    """Images (n, h, w, c) with a border, out of which shifted ones are cut; without a shift the images themselves."""

    def __init__(self, images: NDArray[np.uint8], recipe: Recipe) -> None:
        self._shape = images.shape[1:]
        height, width, _ = self._shape
        # A reflection has no more pixels than the image.
        self._most = min(recipe.shift, height - 1, width - 1) if recipe.border == "reflect" else recipe.shift
        self._padded = _padded(images, self._most, recipe.border) if self._most else images

    @staticmethod
    def bytes(images: NDArray[np.uint8], recipe: Recipe) -> int:
        """The memory that is needed besides the images."""
        count, height, width, channels = images.shape
        return count * (height + 2 * recipe.shift) * (width + 2 * recipe.shift) * channels if recipe.shift else 0

    def at(self, rows: NDArray[np.int64], shift: NDArray[np.float64]) -> NDArray[np.uint8]:
        """A copy of these images, shifted as drawn for each."""
        padded, most = self._padded, self._most
        if not most:
            return np.asarray(padded[rows])
        height, width, channels = self._shape
        # From -1..1 to each of 0..2 * most alike.
        places = np.minimum(((shift + 1) / 2 * (2 * most + 1)).astype(np.intp), 2 * most)
        # Each window that could be cut out is one item, from its first byte to its last: it is copied in one piece,
        # with the ends of rows between that are not looked at.
        by_image, by_row = padded.strides[:2]
        run = (height - 1) * by_row + width * channels
        windows: NDArray[np.void] = np.ndarray(
            (len(padded), 2 * most + 1, 2 * most + 1),
            np.dtype((np.void, run)),
            padded,
            strides=(by_image, by_row, channels),
        )
        picked = windows[rows, places[:, 0], places[:, 1]].view(np.uint8)
        return np.ndarray((len(rows), *self._shape), np.uint8, picked, strides=(run, by_row, channels, 1))


def _padded(images: NDArray[np.uint8], most: int, border: str) -> NDArray[np.uint8]:
    count, height, width, channels = images.shape
    if border != "black":
        return np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), mode=_PAD[border])
    padded: NDArray[np.uint8] = empty((count, height + 2 * most, width + 2 * most, channels), np.dtype(np.uint8))
    padded.fill(0)
    padded[:, most : most + height, most : most + width] = images
    return padded


def changed(
    images: NDArray[np.uint8], draws: Draws, recipe: Recipe, fill: tuple[int, ...] = (0, 0, 0)
) -> NDArray[np.uint8]:
    """Images (`Windows`), uint8 (b, h, w, c), changed as drawn for each; they may be overwritten. fill: what cutout
    leaves.

    Mixup is no change of one image; see `hapgop.train.feeder`.
    """
    if recipe.flip:
        images[draws.mirrored] = images[draws.mirrored, :, ::-1]
    if recipe.colour:
        images = _coloured(images, draws.colour.astype(np.float32))
    if recipe.cutout:
        _cut(images, recipe.cutout, draws.cut, fill)
    return images


def _coloured(images: NDArray[np.uint8], factors: NDArray[np.float32]) -> NDArray[np.uint8]:
    brightness, contrast, saturation = (column[:, None, None, None] for column in factors.T)
    values = images.astype(np.float32)
    if images.shape[3] == 3:
        grey = (values @ _LUMA)[..., None]
        values = grey + saturation * (values - grey)
    middle = values.mean(axis=(1, 2, 3), keepdims=True)
    values = brightness * (middle + contrast * (values - middle))
    result: NDArray[np.uint8] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return result


def _cut(images: NDArray[np.uint8], side: int, middles: NDArray[np.float64], fill: tuple[int, ...]) -> None:
    _, height, width, channels = images.shape
    tops = (middles * (height, width)).astype(int) - side // 2
    for image, (top, left) in zip(images, tops.tolist(), strict=True):
        image[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = fill[:channels]
