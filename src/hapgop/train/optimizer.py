"""The optimiser that a recipe names."""

from typing import Any

import torch

from hapgop.errors import InputError
from hapgop.train.recipe import Recipe


def built(net: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD (Sutskever et al., 2013, for its momentum) or AdamW (Loshchilov and Hutter, arXiv 1711.05101).

    Weights decay; biases and the vectors of normalisation do not. The learning rate is set before each step.
    """
    learned = [parameter for parameter in net.parameters() if parameter.requires_grad]
    if not learned:
        raise InputError("The net has no parameter that could learn.")
    groups: list[dict[str, Any]] = [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate)
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate
