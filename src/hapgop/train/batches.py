"""Which images a step sees, and how they are changed: functions of the seed and the step alone.

As nothing here has a state, a training that was cut off anywhere goes on with exactly the batches that it
would have seen.
"""

from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from hapgop.train.recipe import Recipe

_ORDER, _CHANGE, _STEP, _WEIGHTS = range(4)
_PAD: dict[str, Literal["constant", "edge", "reflect"]] = {
    "black": "constant",
    "edge": "edge",
    "reflect": "reflect",
}


class Order:
    """The images of each step: permutation after permutation of all of them, cut into batches of one size.

    A batch may hold the end of one permutation and the start of the next: so all batches have the same size,
    and yet each image is seen as often as any other. An epoch is as many batches as come nearest to one image
    each.

    >>> order = Order(images=10, batch_size=4, seed=0)
    >>> order.steps
    2
    >>> np.bincount(np.concatenate([order.batch(step) for step in range(5)])).tolist()
    [2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    """

    def __init__(self, images: int, batch_size: int, seed: int) -> None:
        self.images = images
        self.batch_size = min(batch_size, images)
        self.steps = max(1, round(images / self.batch_size))
        self._seed = seed
        self._drawn: dict[int, NDArray[np.int64]] = {}

    def batch(self, step: int) -> NDArray[np.int64]:
        """The positions that the step sees; `step` counts from 0 over the whole training."""
        turn, start = divmod(step * self.batch_size, self.images)
        first = self._permutation(turn)[start : start + self.batch_size]
        if len(first) == self.batch_size:
            return first
        return np.concatenate([first, self._permutation(turn + 1)[: self.batch_size - len(first)]])

    def _permutation(self, turn: int) -> NDArray[np.int64]:
        if turn not in self._drawn:
            self._drawn = {k: drawn for k, drawn in self._drawn.items() if k == turn - 1}
            self._drawn[turn] = np.random.default_rng([self._seed, _ORDER, turn]).permutation(self.images)
        return self._drawn[turn]


def changed(images: NDArray[np.uint8], recipe: Recipe, step: int) -> NDArray[np.uint8]:
    """The batch, uint8 (b, h, w, c), shifted and mirrored as the recipe asks; `images` may be overwritten."""
    generator = np.random.default_rng([recipe.seed, _CHANGE, step])
    if recipe.shift:
        images = _shifted(images, recipe.shift, recipe.border, generator)
    if recipe.flip:
        mirrored = generator.random(len(images)) < 0.5
        images[mirrored] = images[mirrored, :, ::-1]
    return images


def step_seed(seed: int, step: int) -> int:
    """The seed of the global generators for one step: what dropout in that step draws from."""
    return _drawn(seed, _STEP, step)


def weights_seed(seed: int) -> int:
    """The seed of the global generators while a net gets its first weights."""
    return _drawn(seed, _WEIGHTS, 0)


def _drawn(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def _shifted(images: NDArray[np.uint8], most: int, border: str, generator: np.random.Generator) -> NDArray[np.uint8]:
    count, height, width, _ = images.shape
    if border == "reflect":
        # A reflection has no more pixels than the image.
        most = min(most, height - 1, width - 1)
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), mode=_PAD[border])
    down, across = generator.integers(0, 2 * most + 1, size=(2, count))
    windows = sliding_window_view(padded, (height, width), axis=(1, 2))
    chosen = windows[np.arange(count), down, across]
    return np.ascontiguousarray(chosen.transpose(0, 2, 3, 1))
