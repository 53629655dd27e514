"""What a step lowers: by hand, on numbers small enough."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from hapgop.errors import InputError
from hapgop.train import Recipe
from hapgop.train.feeder import Batch
from hapgop.train.objective import Objective, class_weights


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


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(("images", "classes"), [(1, 1), (3, 2), (70, 10), (5, 1000), (600, 17)])
def test_loss_and_derivative_are_those_of_autograd_in_float64(
    images: int, classes: int, mixed: bool, smoothing: float, weighted: bool
) -> None:
    generator = torch.Generator().manual_seed(images)
    y, other = (torch.randint(0, classes, (images,), generator=generator) for _ in range(2))
    logits = 5 * torch.randn(images, classes, generator=generator)
    weights = torch.rand(classes, generator=generator) + 0.5 if weighted else None
    batch = Batch(torch.zeros(images, 1, 1, 1), y.numpy(), other.numpy() if mixed else None, 0.7 if mixed else 1.0)
    found = Objective(Recipe(label_smoothing=smoothing), classes, weights)(logits, batch, scale=0.5)

    wide = logits.double().requires_grad_()
    parts = [(y, batch.share), (other, 1 - batch.share)]

    def loss(**settings: Any) -> torch.Tensor:
        return sum((share * cross_entropy(wide, y, reduction="sum", **settings) for y, share in parts), torch.zeros(()))

    wanted = loss(weight=None if weights is None else weights.double(), label_smoothing=smoothing)
    (0.5 * wanted).backward()
    # Each image's loss is a sum of (its classes) terms of up to 40.
    assert found.loss == pytest.approx(wanted.item(), rel=1e-6, abs=images * 1e-5)
    assert found.plain == pytest.approx(loss().item(), rel=1e-6, abs=images * 1e-5)
    assert wide.grad is not None
    assert (found.gradient - wide.grad).abs().max() < 1e-6
    answers = logits.argmax(1)
    right = [share * int((answers == y).sum()) for y, share in parts]
    assert found.right == pytest.approx(sum(right), rel=1e-6)


def test_what_is_told_has_neither_smoothing_nor_weights() -> None:
    logits, y = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    found = Objective(Recipe(label_smoothing=0.2), 2, torch.tensor([3.0, 1.0]))(
        logits, Batch(torch.zeros(2, 1, 1, 1), y.numpy())
    )
    assert found.plain == pytest.approx(float(cross_entropy(logits, y, reduction="sum")), rel=1e-6)
    assert found.loss != pytest.approx(found.plain)
    assert found.right == 1.0


def test_a_net_that_says_the_same_of_all_classes_is_right_by_chance() -> None:
    found = Objective(Recipe(), 4)(torch.ones(8, 4), Batch(torch.zeros(8, 1, 1, 1), np.zeros(8, np.int64)))
    assert found.right == 2.0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_logit_that_is_no_number_makes_the_loss_none(bad: float) -> None:
    logits = torch.zeros(3, 4)
    logits[1, 2] = bad
    found = Objective(Recipe(), 4)(logits, Batch(torch.zeros(3, 1, 1, 1), np.array([0, 1, 2])))
    assert not np.isfinite(found.loss)
    assert not np.isfinite(found.plain)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_logits_of_another_type_get_a_derivative_of_theirs(dtype: torch.dtype) -> None:
    logits = torch.tensor([[1.0, 2.0, -3.0], [0.5, 0.25, 0.0]], dtype=dtype)
    batch = Batch(torch.zeros(2, 1, 1, 1), np.array([0, 2]))
    found, wanted = Objective(Recipe(), 3)(logits, batch), Objective(Recipe(), 3)(logits.float(), batch)
    assert found.gradient.dtype == dtype
    assert torch.equal(found.gradient, wanted.gradient.to(dtype))
    assert found[:3] == wanted[:3]


@pytest.mark.parametrize("shape", [(2, 4), (3, 3), (2, 3, 1), (6,)])
def test_logits_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"wanted is \(2, 3\)"):
        Objective(Recipe(), 3)(torch.zeros(shape), Batch(torch.zeros(2, 1, 1, 1), np.array([0, 2])))


def test_large_logits_lose_nothing() -> None:
    logits = torch.tensor([[1e4, 0.0, -1e4], [-3e38, 3e38, 0.0]])
    found = Objective(Recipe(), 3)(logits, Batch(torch.zeros(2, 1, 1, 1), np.array([1, 1])))
    assert found.loss == pytest.approx(1e4)
    assert found.gradient.tolist() == [[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]]
