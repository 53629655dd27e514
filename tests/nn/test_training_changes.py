"""What changes a net after its step was planned, and forwards that no plan can stand for."""

import copy
import random
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from hapgop.nn import TrainingProgram
from hapgop.nn.training import step


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.cuts, self.steps = True, 0
        self.idle = nn.BatchNorm2d(4)
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
        self.results = (super().forward(x),)
        self.last = self.results[0]
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


def _pruned(net):
    """To its first two channels, each tensor at the address where it was."""
    norm, last = net.norm, net.ends[-1].weight
    for tensor in (*net.conv.parameters(), *norm.parameters(), norm.running_mean, norm.running_var):
        tensor.data = tensor.data[:2]
    last.data = last.data[:, : 2 * 6 * 6]


def _turned(net):
    net.conv.weight.data = net.conv.weight.data.transpose(2, 3)


@pytest.mark.parametrize(
    "change",
    [
        _set("norm.eps", 10.0),
        _set("cuts", False),
        _set("ends.0.p", 1.0),
        _set("conv.forward", lambda x: 3 * x.repeat(1, 2, 1, 1)[:, :4, 1:-1, 1:-1]),
        _set("norm.track_running_stats", False),
        _set("forward", lambda x: 3 * x.flatten(1)[:, :2]),
        _pruned,
        _turned,
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


class Gate(nn.Module):
    def forward(self, x):
        return 2 * x if self.training else x


@dataclass
class Noted:
    first: float = 1.5


class Told(Scaled):
    """By what its attributes hold."""

    def __init__(self):
        super().__init__()
        self.gate, self.listed, self.named = Gate(), [1.5], {"first": 1.5}
        self.spaced, self.noted = SimpleNamespace(first=1.5), Noted()

    def forward(self, x):
        told = self.listed[0] * self.named["first"] * self.spaced.first * self.noted.first
        return self.gate(super().forward(x)) * told


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.gate.eval(),
        lambda net: net.listed.__setitem__(0, 0.5),
        lambda net: net.named.update(first=0.5),
        lambda net: setattr(net.spaced, "first", 0.5),
        lambda net: setattr(net.noted, "first", 0.5),
    ],
)
def test_what_changes_inside_of_an_attribute_is_seen(images, change):
    net = Told()
    program = TrainingProgram(net)
    program(images)
    for _ in range(2):
        before = list(program._steps.values())
        program(images)
        assert list(program._steps.values()) == before
    change(net)
    wanted = copy.deepcopy(net)(images)
    torch.testing.assert_close(program(images), wanted, rtol=1e-4, atol=1e-5)
    assert program.reason is None


def test_evaluation_between_two_steps_costs_no_plan(images):
    program = TrainingProgram(Told())
    program(images)
    before = list(program._steps.values())
    program.net.eval()
    program(images)
    program.net.train()
    program(images)
    assert list(program._steps.values()) == before


class Reading(Scaled):
    """The numbers of a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("alpha", torch.ones(()))

    def forward(self, x):
        return super().forward(x) * self.alpha.item()


class Deciding(Reading):
    def forward(self, x):
        y = Scaled.forward(self, x)
        return y if self.alpha > 0.7 else 3 * y


@pytest.mark.parametrize("kind", [Reading, Deciding])
def test_a_number_in_a_buffer_is_read_at_each_step(images, kind):
    program = TrainingProgram(kind())
    for alpha in (1.0, 0.5):
        program.net.alpha.fill_(alpha)
        torch.testing.assert_close(program(images), copy.deepcopy(program.net)(images))
        assert "tracing cannot follow" in program.reason or "item" in program.reason


class Blurred(Scaled):
    """A buffer that is a tensor like others; its shape is known."""

    def __init__(self):
        super().__init__()
        self.register_buffer("kernel", torch.rand(3, 1, 3, 3))

    def forward(self, x):
        return super().forward(nn.functional.conv2d(x, self.kernel, padding=1, groups=self.kernel.shape[0]))


def test_a_buffer_may_be_what_a_convolution_sums_by(images):
    program = TrainingProgram(Blurred())
    for _ in range(2):
        torch.testing.assert_close(program(images), copy.deepcopy(program.net)(images), rtol=1e-4, atol=1e-5)
        assert program.reason is None
        program.net.kernel.uniform_()


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
    for _ in range(3):
        assert program(images) is program.net.last
    assert "last" in program.reason


class Stepping(Scaled):
    """Counts in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("taken", torch.zeros((), dtype=torch.long))


class InPlace(Stepping):
    def forward(self, x):
        self.taken += 1
        return super().forward(x)


class Anew(Stepping):
    def forward(self, x):
        self.taken = self._buffers["taken"] + 1
        return super().forward(x)


class Aside(Stepping):
    def forward(self, x):
        self._buffers["taken"].add_(1)
        return super().forward(x)


@pytest.mark.parametrize("kind", [InPlace, Anew, Aside])
def test_a_buffer_that_a_forward_writes_is_written_once_a_call(images, kind):
    program = TrainingProgram(kind())
    for count in range(1, 6):
        program(images)
        assert program.net.taken == count
        assert "taken" in program.reason


@pytest.mark.parametrize("kind", [Counting, Remembering, Anew])
def test_a_net_that_changes_itself_is_traced_again_when_it_stops(images, kind, monkeypatch):
    traces, capture = [], step.capture
    monkeypatch.setattr(step, "capture", lambda *given, **how: traces.append(1) or capture(*given, **how))
    net = kind()
    program = TrainingProgram(net)
    for _ in range(10):
        program(images)
    assert len(traces) <= 3
    assert program.reason is not None
    net.__class__ = Scaled
    for _ in range(2):
        program(images)
    assert program.reason is None


def _own(generator, draw):
    """A generator that the net holds itself."""

    def hold(net):
        net.generator, net.source = generator, draw

    return hold


_own_torch, _own_python = torch.Generator(), random.Random(0)
_own_numpy, _old_numpy = np.random.default_rng(0), np.random.RandomState(0)


@pytest.mark.parametrize(
    "hold",
    [
        _own(None, lambda: torch.rand(1).item()),
        _own(None, random.random),
        _own(None, np.random.rand),
        _own(_own_torch, lambda: torch.rand(1, generator=_own_torch).item()),
        _own(_own_python, _own_python.random),
        _own(_own_numpy, _own_numpy.random),
        _own(_old_numpy, _old_numpy.rand),
    ],
)
def test_a_forward_that_draws_goes_by_the_layers(images, hold):
    net = Drawing()
    hold(net)
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


def test_a_parameter_that_is_cut_on_the_way_back_is_an_error(images):
    net = Scaled()
    y = TrainingProgram(net)(images)
    net.conv.bias.data = net.conv.bias.data[:2]
    with pytest.raises(RuntimeError, match=r"conv\.bias was cut or replaced.* has 2 numbers now"):
        y.sum().backward()
