"""What a step lowers: by hand, on numbers small enough."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from hapgop.train import Recipe
from hapgop.train.feeder import Batch
from hapgop.train.objective import class_weights, loss_sum, told


@pytest.mark.parametrize("balance", [0.25, 0.5, 1.0])
def test_class_weights_weigh_one_in_the_mean_and_follow_the_power(balance: float) -> None:
    labels = np.repeat([0, 1, 2], [80, 15, 5])
    weights = class_weights(labels, 3, balance)
    assert weights is not None
    assert float(weights[torch.from_numpy(labels)].mean()) == pytest.approx(1, rel=1e-6)
    assert float(weights[2] / weights[0]) == pytest.approx((80 / 5) ** balance, rel=1e-6)
    assert class_weights(labels, 3, 0.0) is None


def test_a_class_without_images_weighs_nothing_special() -> None:
    weights = class_weights(np.array([0, 0, 1]), 4, 1.0)
    assert weights is not None
    assert torch.isfinite(weights).all()


def test_mixed_images_count_for_both_classes() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    y, other = torch.tensor([0, 1, 2, 0]), torch.tensor([2, 2, 1, 0])
    batch = Batch(torch.zeros(4, 1, 1, 1), y, other, 0.7)
    one, two = cross_entropy(logits, y, reduction="sum"), cross_entropy(logits, other, reduction="sum")
    assert float(loss_sum(logits, batch, Recipe(), None)) == pytest.approx(float(0.7 * one + 0.3 * two), rel=1e-6)
    loss, right = told(logits, batch)
    assert loss == pytest.approx(float(0.7 * one + 0.3 * two), rel=1e-6)
    answers = logits.argmax(1)
    assert right == pytest.approx(0.7 * int((answers == y).sum()) + 0.3 * int((answers == other).sum()))


def test_what_is_told_has_neither_smoothing_nor_weights() -> None:
    logits, y = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    batch = Batch(torch.zeros(2, 1, 1, 1), y)
    weighted = loss_sum(logits, batch, Recipe(label_smoothing=0.2), torch.tensor([3.0, 1.0]))
    loss, right = told(logits, batch)
    assert loss == pytest.approx(float(cross_entropy(logits, y, reduction="sum")), rel=1e-6)
    assert float(weighted) != pytest.approx(loss)
    assert right == 1.0
