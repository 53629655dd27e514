"""Accelerated models under PyTorch's other tools: checkpoints, tracers, patched forwards, parametrizations."""

import copy
import warnings

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from hapgop.nn import accelerate, report, reset_report, restore
from hapgop.nn.accelerating import choosing

pytestmark = pytest.mark.usefixtures("chosen_anew")


def _gradients(called, net, x):
    net.zero_grad()
    called(x).square().sum().backward()
    return [p.grad.clone() for p in net.parameters()]


def test_trials_are_hidden_from_a_checkpoint():
    net = accelerate(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)))
    for side in (8, 9):
        x = torch.randn(2, 3, side, side)
        found = _gradients(lambda x: checkpoint(net, x, use_reentrant=False), net, x)
        for one, other in zip(found, _gradients(net, net, x), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_choice_holds_under_the_profiler(monkeypatch):
    """And none is made there, for the profiler's own work would be measured with it."""
    monkeypatch.setattr(choosing, "measured", lambda *given: choosing.Choice(False, 0.5))
    net, x = accelerate(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))), torch.randn(2, 3, 8, 8)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        net(x)
    assert not choosing.choices_of(net[0])
    net(x)
    reset_report()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        net(x)
    assert report().pytorch == {("conv2d", choosing.SLOWER): 1, ("batch_norm", choosing.SLOWER): 1}
    assert not report().engine


def test_trials_are_hidden_from_hooks_on_what_is_saved():
    net = accelerate(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()))
    kept = []
    for _ in range(2):
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: (saved.append(1), t)[1], lambda t: t):
            net(torch.ones(2, 3, 8, 8)).sum().backward()
        kept.append(len(saved))
    assert kept[0] == kept[1] > 0


@pytest.mark.usefixtures("always_ours")
@pytest.mark.parametrize("after", [nn.Dropout2d(0.0, inplace=True), nn.ReLU6(inplace=True)])
def test_what_a_pool_gives_may_be_written_over(after):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), after)
    x = torch.randn(2, 3, 8, 8)
    wanted = _gradients(net, net, x)
    for one, other in zip(_gradients(accelerate(net), net, x), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


class _Writing(nn.Module):
    """A forward of one's own that writes over what its layers gave."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))

    def forward(self, x):
        y = self.features(x)
        y += 1
        return y.mul_(2)


@pytest.mark.usefixtures("always_ours")
@pytest.mark.parametrize("through", [lambda net, x: net(x), lambda net, x: checkpoint(net, x, use_reentrant=False)])
def test_a_forward_of_ones_own_may_write_over_a_chains_result(through):
    net, x = _Writing(), torch.randn(2, 3, 8, 8)
    wanted = _gradients(net, net, x)
    accelerate(net)
    for one, other in zip(_gradients(lambda x: through(net, x), net, x), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("always_ours")
def test_windows_may_be_given_as_a_list():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d([2, 2]), nn.MaxPool2d(2, stride=[2, 2]))
    x = torch.randn(2, 3, 12, 12)
    wanted = net(x)
    torch.testing.assert_close(accelerate(net)(x), wanted)


@pytest.mark.usefixtures("always_ours")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_forward_that_was_replaced_is_called(when, at):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2))
    x = torch.randn(2, 3, 8, 8)
    values = [x, *(net[: n + 1](x) for n in range(3))]
    wanted = net[at + 1 :](3 * values[at + 1])
    if when == "after":
        accelerate(net)
    net[at].forward = lambda _, y=values[at + 1]: 3 * y
    if when == "before":
        accelerate(net)
    torch.testing.assert_close(net(x), wanted)


def test_a_symbolic_trace_holds_pytorchs_own_operators():
    net = accelerate(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2)))
    x = torch.randn(2, 3, 8, 8)
    traced = fx.symbolic_trace(net)
    assert F.conv2d in {node.target for node in traced.graph.nodes}
    torch.testing.assert_close(traced(x), net(x))


@pytest.mark.parametrize("train", [True, False])
def test_a_symbolic_trace_goes_through_norms(train):
    net = accelerate(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())).train(train)
    x = torch.randn(2, 3, 8, 8)
    traced = fx.symbolic_trace(net)
    assert F.batch_norm in {node.target for node in traced.graph.nodes}
    torch.testing.assert_close(traced(x), net(x), rtol=1e-4, atol=1e-4)


class Halved(nn.Parameter):
    """A weight that computes in a way of its own."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            if func is F.conv2d:
                args = (args[0], args[1] * 0.5, *args[2:])
            return func(*args, **(kwargs or {}))


def test_a_weight_of_a_kind_of_its_own_is_left_to_pytorch():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False))
    x = torch.randn(2, 3, 8, 8)
    whole = net(x)
    net[0].weight = Halved(net[0].weight.data)
    torch.testing.assert_close(net(x), whole / 2)
    torch.testing.assert_close(accelerate(net)(x), whole / 2)


def test_what_was_parametrized_since_is_restored():
    net = accelerate(nn.Sequential(nn.Conv2d(3, 8, 3)))
    parametrizations.weight_norm(net[0])
    x = torch.randn(2, 3, 8, 8)
    wanted = net(x)
    torch.testing.assert_close(restore(net)(x), wanted)
    parametrize.remove_parametrizations(net[0], "weight")
    torch.testing.assert_close(restore(net)(x), wanted)
    assert type(net[0]) is nn.Conv2d


@pytest.mark.parametrize("deterministic", [True, False])
def test_layers_of_others_are_not_advised(deterministic):
    torch.use_deterministic_algorithms(deterministic)
    net = accelerate(nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.MaxPool2d(2), nn.AvgPool2d(2)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            net(torch.ones(2, 3, 36, 38)).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("always_ours")
def test_operations_are_counted_as_pytorchs_are():
    net = nn.Sequential(
        nn.Conv2d(4, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 6, 3, 2, 1), nn.ReLU(), nn.Flatten()
    )
    x = torch.randn(2, 4, 10, 12, requires_grad=True)
    counted = []
    for model in (copy.deepcopy(net), accelerate(net)):
        with FlopCounterMode(display=False) as counter:
            model(x).sum().backward()
        counted.append(counter.get_total_flops())
    assert counted[0] == counted[1] > 0
