"""Recipes and nets for data that nobody has said anything about."""

from typing import Any

import numpy as np

from hapgop.nn import nets
from hapgop.train.data import Data
from hapgop.train.recipe import Recipe, known

# Classes count as unbalanced where the largest has this many times the images of the smallest.
_UNBALANCED = 2.0
_FEW = 20_000
# Fewer images than this make so few steps of 64 an epoch that a net has hardly begun to learn when it ends.
_VERY_FEW = 500
_SMALL_SIDE = 48
_SMALLEST_COLOUR = 16


def suggested_net(data: Data) -> str:
    """The name of a net that suits the images, and their number."""
    if _like_cifar(data):
        return "airbench"
    name = nets.default_for(data.input_shape)
    # Very few images learn more from a larger net, and take no longer with it than many take with the small one:
    # 50 of MNIST's come to 85 % instead of 74.
    return "cifar" if name == "lenet5" and len(data.train) < _VERY_FEW else name


def candidates(data: Data) -> list[str]:
    """The names of nets that suit the images, those first that reach the highest accuracy when there is time."""
    channels, height, width = data.input_shape
    side = min(height, width)
    if side < _SMALLEST_COLOUR:
        return [suggested_net(data)]
    if channels == 1:
        return ["cifar", "lenet5"] if side < _SMALL_SIDE else ["cifar", "resnet20", "lenet5"]
    return ["airbench", "cifar", "resnet20"] if side < _SMALL_SIDE else ["cifar", "resnet20", "tinyvgg"]


def suggested_recipe(data: Data, /, **changes: Any) -> Recipe:
    """A good start for this kind of data; `changes` override single settings. Raises InputError on unknown ones.

    Grey images (digits, letters) are shifted but never mirrored; colour images are both, and few of them are seen
    more often and changed more. Very few come in small batches. The classes of unbalanced data are weighted.
    """
    channels, height, width = data.input_shape
    side, images = min(height, width), len(data.train)
    settings: dict[str, Any] = {"label_smoothing": 0.1, "balance": 0.5 if _unbalanced(data) else 0.0}
    if images < _VERY_FEW:
        settings |= {"batch_size": 16}
    if channels == 1:
        settings |= {"epochs": _between(2, 40, 150_000 // images), "shift": max(1, side // 20)}
        if images >= _FEW:
            # Steps cost little beside their images here, so that small batches learn more in the same time.
            settings |= {"learning_rate": 0.1}
    else:
        settings |= {"epochs": _between(10, 60, 120_000 // images), "shift": max(1, side // 8), "flip": True}
        settings |= {"border": "reflect", "test_flip": True, "average": 0.99}
        if images < _FEW:
            settings |= {"colour": 0.2, "cutout": side // 4}
        elif _like_cifar(data) and changes.get("optimizer", "muon") == "muon":
            # After cifar10-airbench, in batches of a quarter of its size: on a CPU, larger ones are no faster.
            settings |= {"optimizer": "muon", "batch_size": 500, "learning_rate": 0.08, "momentum": 0.6, "epochs": 8}
            settings |= {"rest": "sgd", "rest_rate": 0.2, "weight_decay": 0.1, "warmup": 0.0, "average": 0.0}
            settings |= {"label_smoothing": 0.2, "shift": 2}
    if changes.get("optimizer") == "adamw":
        settings |= {"learning_rate": 0.002, "weight_decay": 0.01}  # the rates above are SGD's
    return Recipe(**known({**settings, **changes}))


def _like_cifar(data: Data) -> bool:
    channels, height, width = data.input_shape
    return channels == 3 and _SMALLEST_COLOUR <= min(height, width) < _SMALL_SIDE and len(data.train) >= _FEW


def _unbalanced(data: Data) -> bool:
    counts = np.bincount(data.train.labels, minlength=len(data.classes))
    return bool(counts.max() > _UNBALANCED * counts.min())


def _between(low: int, high: int, value: int) -> int:
    return max(low, min(high, value))
