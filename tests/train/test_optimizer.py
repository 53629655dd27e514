"""Muon, the optimisers as one, and the average of the weights."""

import numpy as np
import pytest
import torch

from hapgop.train import Recipe
from hapgop.train.average import Average
from hapgop.train.muon import Muon, orthogonal
from hapgop.train.optimizer import built


@pytest.mark.parametrize("shape", [(6, 6), (4, 18), (30, 5), (1, 7)])
def test_orthogonal_drives_all_singular_values_towards_one(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    u, _, v = np.linalg.svd(generator.normal(size=shape), full_matrices=False)
    values = np.linspace(1, 0.2, min(shape))
    matrix = torch.from_numpy((u * values) @ v).float()
    found = orthogonal(matrix, rounds=5).double().numpy()
    # The polynomial's own limits, after Jordan: it ends between 0.68 and 1.13, and keeps the directions.
    inside = np.diag(u.T @ found @ v.T)
    assert ((inside > 0.6) & (inside < 1.25)).all()
    assert np.allclose(found, (u * inside) @ v, atol=1e-4)


def test_nothing_stays_nothing() -> None:
    assert (orthogonal(torch.zeros(3, 4)) == 0).all()


def test_muon_by_hand() -> None:
    weight = torch.nn.Parameter(torch.zeros(8, 2, 1, 1))
    weight.data.normal_(generator=torch.Generator().manual_seed(1))
    optimizer = Muon([weight], lr=0.1, momentum=0.5, nesterov=True, weight_decay=0.2)
    wanted, memory = weight.detach().clone(), torch.zeros_like(weight)
    for step in range(3):
        gradient = torch.randn(8, 2, 1, 1, generator=torch.Generator().manual_seed(step))
        weight.grad = gradient.clone()
        optimizer.step()
        memory = 0.5 * memory + gradient
        direction = orthogonal((gradient + 0.5 * memory).view(8, 2)).view(8, 2, 1, 1)
        wanted = (1 - 0.1 * 0.2) * wanted - 0.1 * 2 * direction  # sqrt(8 / 2) = 2
    # The same operations in another order: some roundings of numbers of about 1.
    assert torch.allclose(weight.detach(), wanted, rtol=0, atol=1e-5)


def test_muon_has_the_weights_but_the_last_and_adamw_the_rest() -> None:
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3),
        torch.nn.BatchNorm2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 4),
        torch.nn.Linear(4, 3),
    )
    inner, rest = built(net, Recipe(optimizer="muon")).parts
    muon = {parameter for group in inner.param_groups for parameter in group["params"]}
    assert muon == {net[0].weight, net[3].weight}
    others = {parameter for group in rest.param_groups for parameter in group["params"]}
    assert others == set(net.parameters()) - muon
    # Of one weight, there is none but the last.
    only = built(torch.nn.Linear(3, 2), Recipe(optimizer="muon")).parts
    assert [type(part) for part in only] == [torch.optim.AdamW]
    only = built(torch.nn.Linear(3, 2), Recipe(optimizer="muon", rest="sgd", rest_rate=0.02)).parts
    assert [type(part) for part in only] == [torch.optim.SGD]
    assert [group["lr"] for group in only[0].param_groups] == [0.02, 0.02]


class Small(torch.nn.Sequential):
    """A net whose biases learn fast."""

    bias_rate = 50.0


def test_sgd_beside_muon_by_hand() -> None:
    net = Small(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    recipe = Recipe(optimizer="muon", rest="sgd", rest_rate=0.02, learning_rate=0.5, weight_decay=0.2, momentum=0.75)
    optimizers = built(net, recipe)
    assert [type(part) for part in optimizers.parts] == [Muon, torch.optim.SGD]
    assert {parameter for group in optimizers.parts[0].param_groups for parameter in group["params"]} == {net[0].weight}
    optimizers.set_share(0.5)
    rates = {net[1].weight: 0.02, net[0].bias: 0.02 * 50, net[1].bias: 0.02 * 50}
    wanted = {parameter: parameter.detach().double() for parameter in rates}
    memory = {parameter: torch.zeros_like(wanted[parameter]) for parameter in rates}
    for step in range(3):
        for parameter in net.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
        optimizers.step()
        for parameter, rate in rates.items():
            assert parameter.grad is not None
            # In the long run, a quarter of what momentum sums up: the share 0.5 * 0.2 that Muon's weights lose.
            gradient = parameter.grad.double() + 0.25 * 0.5 * 0.2 / rate * wanted[parameter]
            memory[parameter] = 0.75 * memory[parameter] + gradient
            wanted[parameter] = wanted[parameter] - 0.5 * rate * (gradient + 0.75 * memory[parameter])
    for parameter in rates:
        # Some roundings of numbers of at most about 10.
        assert torch.allclose(parameter.detach().double(), wanted[parameter], rtol=0, atol=1e-5)


def test_adamw_beside_muon_has_one_rate_for_all() -> None:
    # It divides gradients by their own size: how small those of the biases are is nothing to it.
    rest = built(Small(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2)), Recipe(optimizer="muon", rest_rate=0.02)).parts[1]
    assert {group["lr"] for group in rest.param_groups} == {0.02}


def test_every_group_keeps_its_own_peak() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    optimizers = built(net, Recipe(optimizer="muon", learning_rate=0.5, rest_rate=0.01))
    optimizers.set_share(0.5)
    rates = {group["lr"] for part in optimizers.parts for group in part.param_groups}
    assert rates == {0.25, 0.005}
    optimizers.set_share(1.0)
    assert {group["lr"] for part in optimizers.parts for group in part.param_groups} == {0.5, 0.01}


def test_the_average_is_the_average_and_leaves_the_weights_alone() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    average = Average(net, 0.9)
    wanted = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for step in range(40):
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(1)
        net(torch.randn(4, 2))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, tensor in net.state_dict().items():
            real = tensor.is_floating_point()
            wanted[name] = decay * wanted[name] + (1 - decay) * tensor if real else tensor.clone()
    for name, tensor in average.tensors.items():
        assert torch.allclose(tensor, wanted[name], rtol=1e-5), name
    own = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with average.in_place():
        assert all(torch.equal(tensor, average.tensors[name]) for name, tensor in net.state_dict().items())
    assert all(torch.equal(tensor, own[name]) for name, tensor in net.state_dict().items())
