"""What a step lowers, and what is told of it."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hapgop.algorithms.cross_entropy import SUMS, CrossEntropy
from hapgop.engine import Runnable, address, prepare_cross_entropy
from hapgop.errors import InputError
from hapgop.train.feeder import Batch
from hapgop.train.recipe import Recipe


def class_weights(labels: NDArray[np.int64], classes: int, balance: float) -> Tensor | None:
    """The weight of an image of each class, float32 (classes,): share ** -balance, their mean over all images 1.

    None where all are alike. At balance 1, all classes weigh the same in all (King and Zeng, 2001).

    >>> class_weights(np.array([0, 0, 0, 1]), 2, 1.0).tolist()
    [0.6666666865348816, 2.0]
    """
    if balance == 0:
        return None
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    weights = np.where(counts > 0, np.maximum(counts, 1) / len(labels), 1.0) ** -balance
    weights *= counts.sum() / (weights * counts).sum()
    return torch.from_numpy(weights.astype(np.float32))


class Judged(NamedTuple):
    """What a step's answers came to, summed over the images.

    loss: what is lowered; gradient: its derivative by the logits, (b, classes), times the scale that was asked for.
    plain: the loss with no smoothing and no weights, and right: the right answers, as in validation: only so can the
    two be compared. Of a mixed image, each class counts by its share.
    """

    loss: float
    plain: float
    right: float
    gradient: Tensor


class Objective:
    """The cross-entropy that a recipe asks for, smoothed, weighted (`class_weights`) and mixed; one native call.

    The derivative by the logits comes with it. In autograd, that is two dozen small operations, which in the step of
    a small net take longer than a layer.

    >>> objective = Objective(Recipe(), 2)
    >>> found = objective(torch.zeros(1, 2), Batch(torch.zeros(1, 1, 1, 1), np.array([1])))
    >>> round(found.loss, 4), found.gradient.tolist(), found.right
    (0.6931, [[0.5, -0.5]], 0.5)
    """

    def __init__(self, recipe: Recipe, classes: int, weights: Tensor | None = None) -> None:
        self._smoothing = recipe.label_smoothing
        self._names = np.arange(classes, dtype=np.float32)
        self._weights = np.ones(classes, np.float32) if weights is None else np.array(weights.numpy(), np.float32)
        self._settings = np.empty(5, np.float32)
        self._fixed = address(self._names), address(self._weights)
        self._ready: dict[int, tuple[Runnable, NDArray[np.float32]]] = {}

    def __call__(self, logits: Tensor, batch: Batch, scale: float = 1.0) -> Judged:
        """Judges logits (b, classes), in float32; the derivative has their type.

        Raises InputError where they are of another shape.
        """
        images, classes = len(batch.y), len(self._names)
        if logits.shape != (images, classes):
            raise InputError(
                f"The net gives {tuple(logits.shape)} for {images} images; wanted is ({images}, {classes})."
            )
        if images not in self._ready:
            loss = CrossEntropy(images, classes)
            self._ready = {images: (prepare_cross_entropy(loss), np.empty((images, SUMS), np.float32))}
        run, sums = self._ready[images]
        numbers = logits.detach().float().contiguous()
        gradient = torch.empty_like(numbers)
        y = batch.y.astype(np.float32)
        other = y if batch.other is None else batch.other.astype(np.float32)
        share, smoothing = batch.share, self._smoothing
        self._settings[:] = scale, share, 1 - share, 1 - smoothing, smoothing / classes
        read = address(self._settings), numbers.data_ptr(), address(y), address(other), *self._fixed
        run(*read, gradient.data_ptr(), address(sums))
        loss, plain, right, _ = sums.sum(0, dtype=np.float64).tolist()
        return Judged(loss, plain, right, gradient.to(logits.dtype))
