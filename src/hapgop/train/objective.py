"""What a step lowers, and what is told of it."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

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


def loss_sum(logits: Tensor, batch: Batch, recipe: Recipe, weights: Tensor | None) -> Tensor:
    """The sum over the images of what is lowered: cross-entropy, smoothed, weighted and mixed as the recipe asks."""
    settings = {"weight": weights, "label_smoothing": recipe.label_smoothing, "reduction": "sum"}
    loss = cross_entropy(logits, batch.y, **settings)  # type: ignore[arg-type]
    if batch.other is None:
        return loss
    return batch.share * loss + (1 - batch.share) * cross_entropy(logits, batch.other, **settings)  # type: ignore[arg-type]


def told(logits: Tensor, batch: Batch) -> tuple[float, float]:
    """(loss, right answers), summed over the images, with no smoothing and no weights, as in validation.

    Only so can the two be compared. Of a mixed image, each class counts by its share.
    """
    logits = logits.detach()
    answers = logits.argmax(1)
    loss, right = cross_entropy(logits, batch.y, reduction="sum").item(), float((answers == batch.y).sum())
    if batch.other is None:
        return loss, right
    other_loss = cross_entropy(logits, batch.other, reduction="sum").item()
    other_right = float((answers == batch.other).sum())
    share = batch.share
    return share * loss + (1 - share) * other_loss, share * right + (1 - share) * other_right
