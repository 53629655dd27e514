"""What a step lowers, and what is told of it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import log_softmax, nll_loss

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


@dataclass(frozen=True, eq=False)
class Judged:
    """What a step's answers came to, summed over the images.

    loss: what is lowered, and gradient its derivative by the logits, (b, classes). plain: the loss with no smoothing
    and no weights, and right: the right answers, as in validation: only so can the two be compared. Of a mixed
    image, each class counts by its share.
    """

    loss: float
    gradient: Tensor
    plain: float
    right: float


def judged(logits: Tensor, batch: Batch, recipe: Recipe, weights: Tensor | None) -> Judged:
    """The cross-entropy of logits (b, classes), smoothed, weighted and mixed as the recipe asks.

    It is minus the sum of t_ic log p_ic, with what each image should say of each class, times the class's weight, in
    t; its derivative by the logits is p_ic (the sum of t_i) - t_ic. Autograd would find the same in three times as
    many small operations, which in a small net's step take longer than a layer.

    >>> found = judged(torch.zeros(1, 2), Batch(torch.zeros(1, 1, 1, 1), torch.tensor([1])), Recipe(), None)
    >>> round(found.loss, 4), found.gradient.tolist(), found.right
    (0.6931, [[0.5, -0.5]], 0.0)
    """
    logits = logits.detach()
    logs = log_softmax(logits, 1)
    wanted = [(batch.y, 1.0)] if batch.other is None else [(batch.y, batch.share), (batch.other, 1 - batch.share)]
    smoothing = recipe.label_smoothing
    target = torch.full_like(logs, smoothing / logs.shape[1])
    for y, share in wanted:
        target.scatter_add_(1, y[:, None], target.new_full((len(y), 1), (1 - smoothing) * share))
    probabilities = logs.exp()
    if weights is not None:
        target *= weights
        probabilities *= target.sum(1, keepdim=True)
    plain = sum(share * nll_loss(logs, y, reduction="sum").item() for y, share in wanted)
    loss = plain if not smoothing and weights is None else -(target * logs).sum().item()
    answers = logits.argmax(1)
    right = sum(share * torch.count_nonzero(answers == y).item() for y, share in wanted)
    return Judged(loss, probabilities.sub_(target), plain, right)
