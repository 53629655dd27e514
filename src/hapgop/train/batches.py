"""Which images are seen together: by a step, and by a look at all of them.

What a step sees is a function of the seed and the step alone. As nothing here has a state, a training that was cut off
anywhere goes on with exactly the batches that it would have seen.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_ORDER, _CHANGE, _STEP, _WEIGHTS, _FLIP = range(5)
# Chance is drawn for so many steps at a time: to begin takes as long as to draw for several.
TOGETHER = 32


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
        self._first = np.random.default_rng([seed, _FLIP]).random(images) < 0.5

    def batch(self, step: int) -> NDArray[np.int64]:
        """The positions that the step sees; `step` counts from 0 over the whole training."""
        turn, start = divmod(step * self.batch_size, self.images)
        first = self._permutation(turn)[start : start + self.batch_size]
        if len(first) == self.batch_size:
            return first
        return np.concatenate([first, self._permutation(turn + 1)[: self.batch_size - len(first)]])

    def mirrored(self, step: int) -> NDArray[np.bool_]:
        """Which images of the step's batch are mirrored: each one every other time, the first time by chance.

        Source: Jordan, "94% on CIFAR-10 in 3.29 seconds", arXiv 2404.00498, section 3.6.
        """
        turns = (step * self.batch_size + np.arange(self.batch_size)) // self.images
        return self._first[self.batch(step)] ^ (turns % 2 == 1)

    def _permutation(self, turn: int) -> NDArray[np.int64]:
        drawn = self._drawn
        if turn not in drawn:
            drawn = {k: order for k, order in drawn.items() if k == turn - 1}
            drawn[turn] = np.random.default_rng([self._seed, _ORDER, turn]).permutation(self.images)
            self._drawn = drawn
        return drawn[turn]


def looked_through(start: int, stop: int, count: int) -> Iterator[tuple[NDArray[np.int64], int]]:
    """All positions in batches of one size, each with the number of those in it that came before.

    The last batch reaches back rather than being smaller: for another size a net would be planned, and its kernels
    made, once more.

    >>> [(chosen.tolist(), before) for chosen, before in looked_through(0, 5, 2)]
    [([0, 1], 0), ([2, 3], 0), ([3, 4], 1)]
    """
    for at in range(start, stop, count):
        first = max(start, min(at, stop - count))
        yield np.arange(first, min(first + count, stop)), at - first


def change_generator(seed: int, turn: int) -> np.random.Generator:
    """The generator for the changes of the images of some steps in a row."""
    return np.random.default_rng([seed, _CHANGE, turn])


@lru_cache(maxsize=4)
def _step_seeds(seed: int, turn: int) -> list[int]:
    return _drawn(TOGETHER, seed, _STEP, turn)


def step_seed(seed: int, step: int) -> int:
    """The seed of the global generators for one step: what dropout in that step draws from."""
    turn, at = divmod(step, TOGETHER)
    return _step_seeds(seed, turn)[at]


def weights_seed(seed: int) -> int:
    """The seed of the global generators while a net gets its first weights."""
    return _drawn(1, seed, _WEIGHTS, 0)[0]


def _drawn(count: int, *key: int) -> list[int]:
    """Seeds of 63 bits."""
    return [int(state >> 1) for state in np.random.SeedSequence(key).generate_state(count, np.uint64)]
