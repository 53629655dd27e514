"""The optimisers that a recipe names."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hapgop.errors import InputError
from hapgop.nn.optim import SGD
from hapgop.train.muon import Muon
from hapgop.train.recipe import Recipe


class Optimizers:
    """One optimiser, or Muon and what trains the rest, stepped as one.

    rates: each group's own peak learning rate, times which the schedule's share is set.
    """

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self.parts = parts
        self._peaks = [[float(group["lr"]) for group in part.param_groups] for part in parts]

    def step(self) -> None:
        """One update of every parameter."""
        for part in self.parts:
            part.step()

    def set_share(self, share: float) -> None:
        """The next step takes this share of each peak learning rate."""
        for part, peaks in zip(self.parts, self._peaks, strict=True):
            for group, peak in zip(part.param_groups, peaks, strict=True):
                group["lr"] = share * peak

    def memory(self, parameter: Tensor) -> dict[str, Any]:
        """What the optimisers remember of a parameter, by name; empty before the first step."""
        return next((part.state[parameter] for part in self.parts if parameter in part.state), {})

    def remember(self, parameter: Tensor, memory: dict[str, Any]) -> None:
        """Gives the optimiser that has this parameter its memory back."""
        for part in self.parts:
            if any(one is parameter for group in part.param_groups for one in group["params"]):
                part.state[parameter] = memory


def built(net: torch.nn.Module, recipe: Recipe) -> Optimizers:
    """SGD (Sutskever et al., 2013, for its momentum), AdamW (Loshchilov and Hutter, arXiv 1711.05101) or Muon.

    Weights decay; biases and the vectors of normalisation do not. Muon takes the weights but the last layer's, whose
    rows are classes and no basis to be turned; AdamW or SGD takes the rest. A net whose biases have small gradients
    says in `bias_rate` how many times the rest's rate SGD takes for them (AdamW does not see how small they are).
    """
    learned = [parameter for parameter in net.parameters() if parameter.requires_grad]
    if not learned:
        raise InputError("The net has no parameter that could learn.")
    weights, vectors = [p for p in learned if p.ndim > 1], [p for p in learned if p.ndim <= 1]
    if recipe.optimizer == "muon":
        inner, last = weights[:-1], weights[-1:]
        parts: list[torch.optim.Optimizer] = []
        if inner:
            parts.append(Muon(inner, recipe.learning_rate, recipe.momentum, recipe.nesterov, recipe.weight_decay))
        if recipe.rest == "sgd":
            return Optimizers([*parts, _sgd_beside_muon(last, vectors, recipe, getattr(net, "bias_rate", 1.0))])
        rest = _groups(last, vectors, recipe.weight_decay)
        return Optimizers([*parts, torch.optim.AdamW(rest, lr=recipe.rest_rate, foreach=True)])
    groups = _groups(weights, vectors, recipe.weight_decay)
    if recipe.optimizer == "sgd":
        return Optimizers([
            SGD(
                groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov, foreach=True
            )
        ])  # fmt: skip
    return Optimizers([torch.optim.AdamW(groups, lr=recipe.learning_rate, foreach=True)])


def _sgd_beside_muon(
    weights: Sequence[Tensor], vectors: Sequence[Tensor], recipe: Recipe, bias_rate: float
) -> torch.optim.Optimizer:
    """SGD under which everything decays by the same share in a step as Muon's weights, after cifar10-airbench."""
    momentum = recipe.momentum
    # SGD adds the decay to the gradient, so that the rate multiplies it and momentum sums it up.
    decay = recipe.learning_rate * recipe.weight_decay * (1 - momentum)
    groups: list[dict[str, Any]] = [
        {"params": parameters, "lr": rate, "weight_decay": decay / rate}
        for parameters, rate in ((weights, recipe.rest_rate), (vectors, recipe.rest_rate * bias_rate))
        if parameters
    ]
    return torch.optim.SGD(groups, lr=recipe.rest_rate, momentum=momentum, nesterov=recipe.nesterov, foreach=True)


def _groups(weights: Sequence[Tensor], vectors: Sequence[Tensor], weight_decay: float) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
