"""What changes a net after its step was planned, and forwards that no plan can stand for."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from hapgop.nn import TrainingProgram


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.cuts, self.steps = True, 0
        self.ends = nn.Sequential(nn.Dropout(0.0), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))

    def forward(self, x):
        y = self.norm(self.conv(x))
        return self.ends(nn.functional.relu(y) if self.cuts else y)


class Counting(Scaled):
    def forward(self, x):
        self.steps += 1
        return super().forward(x)


class Remembering(Scaled):
    def forward(self, x):
        self.last = super().forward(x)
        return self.last


class Drawing(Scaled):
    source = staticmethod(lambda: torch.rand(1).item())

    def forward(self, x):
        return super().forward(x) if self.source() < 0.5 else self.ends(self.conv(x))


@pytest.fixture
def images():
    return torch.randn(2, 3, 8, 8)


def _set(path, value):
    def change(net):
        *above, name = path.split(".")
        setattr(net.get_submodule(".".join(above)), name, value)

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("norm.eps", 10.0),
        _set("cuts", False),
        _set("ends.0.p", 1.0),
        _set("conv.forward", lambda x: 3 * x.repeat(1, 2, 1, 1)[:, :4, 1:-1, 1:-1]),
        _set("norm.track_running_stats", False),
        lambda net: net.ends.append(nn.ReLU()),
        lambda net: net.ends.pop(0),
    ],
)
@pytest.mark.parametrize("called_before", [True, False])
def test_a_net_that_was_changed_is_seen(images, change, called_before):
    net, twin = Scaled(), Scaled()
    twin.load_state_dict(net.state_dict())
    program = TrainingProgram(net)
    for done in range(1 + called_before):
        if done == called_before:
            assert not done or program.reason is None
            change(net)
            change(twin)
        torch.testing.assert_close(program(images), twin(images), rtol=1e-4, atol=1e-5)
        for (name, one), other in zip(net.named_buffers(), twin.buffers(), strict=True):
            torch.testing.assert_close(one, other, msg=name)


def test_an_attribute_that_changes_nothing_costs_no_plan(images):
    program = TrainingProgram(Scaled())
    program(images)
    before = list(program._steps.values())
    for count in range(3):
        program.net.steps = count
        program.net.note = count
        program(images)
    assert list(program._steps.values()) == before
    assert program.reason is None


def test_a_forward_with_effects_goes_by_the_layers(images):
    program = TrainingProgram(Counting())
    for _ in range(3):
        program(images)
    assert program.net.steps == 3
    assert "steps" in program.reason
    program = TrainingProgram(Remembering())
    for _ in range(2):
        assert program(images) is program.net.last
    assert "last" in program.reason


@pytest.mark.parametrize("source", [lambda: torch.rand(1).item(), random.random, np.random.rand])
def test_a_forward_that_draws_goes_by_the_layers(images, source):
    net = Drawing()
    net.source = source
    program = TrainingProgram(net)
    results = {program(images).sum().item() for _ in range(40)}
    assert len(results) == 2
    assert "random" in program.reason


def test_a_layer_called_by_name_is_a_layer(images):
    class Named(Scaled):
        def forward(self, x):
            return self.ends(self.norm(input=self.conv(input=x)))

    program = TrainingProgram(Named())
    torch.testing.assert_close(program(images), copy.deepcopy(program.net)(images), rtol=1e-4, atol=1e-5)
    assert program.reason is None


def test_a_result_that_the_way_back_does_not_read_may_be_written_over(images):
    net = Scaled()
    twin = copy.deepcopy(net)
    program = TrainingProgram(net)
    y = program(images)
    assert program.reason is None
    y /= 2
    y.square().sum().backward()
    (twin(images) / 2).square().sum().backward()
    for one, other in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)


def test_what_the_way_back_reads_may_not(images):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 2), nn.ReLU())
    y, back = TrainingProgram(net).forth(images)
    y.add_(1)
    with pytest.raises(RuntimeError, match="written over"):
        back(torch.ones_like(y))


def test_a_copy_plans_for_itself(images):
    program = TrainingProgram(Scaled())
    program(images)
    twin = copy.deepcopy(program)
    assert twin.net is not program.net
    torch.testing.assert_close(twin(images), program(images))
