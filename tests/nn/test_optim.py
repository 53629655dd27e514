"""Gradient descent in one call: the numbers of PyTorch's, and its way wherever ours does not lead."""

import copy
import subprocess
import sys

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from hapgop.nn.optim import SGD

KINDS = [
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
    {"momentum": 0.8},
    {"momentum": 0.8, "dampening": 0.3, "weight_decay": 0.01},
    {"momentum": 0.9, "fused": True},
    {"momentum": 0.9, "foreach": True, "nesterov": True},
    # PyTorch's own.
    {},
    {"momentum": 0.9, "maximize": True},
    {"momentum": 0.9, "lr": torch.tensor(0.1)},
]
SHAPES = [(3,), (16,), (6, 1, 5, 5), (70, 90), (4100,), ()]


def parameters(dtype=torch.float32, memory_format=torch.contiguous_format):
    generator = torch.Generator().manual_seed(1)
    made = [torch.randn(shape, generator=generator, dtype=dtype) for shape in SHAPES]
    made.append(torch.randn(8, 4, 3, 3, generator=generator, dtype=dtype).contiguous(memory_format=memory_format))
    return [torch.nn.Parameter(p) for p in made]


def gradients(parameters, step):
    generator = torch.Generator().manual_seed(10 + step)
    for p in parameters:
        p.grad = torch.empty_like(p).copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))


def pair(**kind):
    ours, theirs = parameters(), parameters()
    kind = {"lr": 0.1} | kind
    return (ours, SGD(ours, **kind)), (theirs, torch.optim.SGD(theirs, **kind))


def stepped(side, steps):
    learned, descent = side
    for step in steps:
        gradients(learned, step)
        descent.step()


def called(descent):
    """Whether its last steps were calls of ours."""
    return descent._call is not None


def assert_close(ours, theirs):
    """A few roundings of each step apart: products and sums that PyTorch rounds apart, or not."""
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=2**-20, atol=2**-20)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_numbers_are_pytorchs(kind):
    ours, theirs = pair(**kind)
    for side in (ours, theirs):
        stepped(side, range(5))
    assert_close(ours[0], theirs[0])
    assert called(ours[1]) == (kind.get("momentum", 0) > 0 and "maximize" not in kind and "lr" not in kind)
    for a, b in zip(ours[0], theirs[0], strict=True):
        assert ours[1].state[a].keys() == theirs[1].state[b].keys()
        assert_close(*([v for v in d.state[p].values() if v is not None] for d, p in ((ours[1], a), (theirs[1], b))))


def test_whole_numbers_are_exact():
    """Powers of two for all settings: no order of operations rounds anything."""
    learned = [torch.nn.Parameter(torch.arange(-20.0, 21.0))]
    plain = [torch.nn.Parameter(torch.arange(-20.0, 21.0))]
    kind = {"lr": 0.5, "momentum": 0.5, "weight_decay": 0.25, "nesterov": True}
    sides = (learned, SGD(learned, **kind)), (plain, torch.optim.SGD(plain, **kind))
    for own, descent in sides:
        for step in range(3):
            own[0].grad = torch.full((41,), float(step + 1))
            descent.step()
    torch.testing.assert_close(learned[0], plain[0], rtol=0, atol=0)


def test_groups_have_settings_of_their_own_and_rates_change():
    sides = []
    for kind in (SGD, torch.optim.SGD):
        learned = parameters()
        groups = [{"params": learned[:3], "weight_decay": 0.1}, {"params": learned[3:], "lr": 0.3, "nesterov": True}]
        sides.append((learned, kind(groups, lr=0.1, momentum=0.9)))
    for rate in (0.1, 0.2, 0.05):
        for side in sides:
            side[1].param_groups[0]["lr"] = rate
            stepped(side, range(2))
    assert_close(sides[0][0], sides[1][0])


def test_parameters_without_a_gradient_stay():
    ours, theirs = pair(momentum=0.9)
    for learned, descent in (ours, theirs):
        for step in range(4):
            gradients(learned, step)
            learned[step].grad = None
            descent.step()
    assert_close(ours[0], theirs[0])


def test_a_state_moves_between_the_two():
    ours, theirs = pair(momentum=0.9, nesterov=True)
    for side in (ours, theirs):
        stepped(side, range(3))
    states = copy.deepcopy(ours[1].state_dict()), copy.deepcopy(theirs[1].state_dict())
    ours[1].load_state_dict(states[1])
    theirs[1].load_state_dict(states[0])
    for side in (ours, theirs):
        stepped(side, range(3, 6))
    assert_close(ours[0], theirs[0])


@pytest.mark.parametrize("odd", ["float64", "strides", "scaler"])
def test_what_is_not_for_us_is_pytorchs(odd):
    learned = parameters(torch.float64 if odd == "float64" else torch.float32, torch.channels_last)
    descent = SGD(learned, lr=0.1, momentum=0.9, fused=odd == "scaler")
    for step in range(3):
        gradients(learned, step)
        if odd == "strides":
            learned[-1].grad = learned[-1].grad.contiguous()
        if odd == "scaler":
            descent.grad_scale, descent.found_inf = torch.ones(()), torch.zeros(())
        descent.step()
    assert not called(descent)


def test_channels_last_is_ours():
    learned = parameters(memory_format=torch.channels_last)
    descent = SGD(learned, lr=0.1, momentum=0.9)
    stepped((learned, descent), range(2))
    assert called(descent)


def test_a_single_channel_lies_in_both_orders():
    weight = torch.nn.Parameter(torch.randn(6, 1, 5, 5).as_strided((6, 1, 5, 5), (25, 1, 5, 1)))
    descent = SGD([weight], lr=0.1, momentum=0.9)
    for _ in range(2):
        weight.grad = torch.ones(6, 1, 5, 5)
        descent.step()
    assert weight.stride() != weight.grad.stride()
    assert called(descent)


def test_a_parameter_whose_memory_is_exchanged_is_looked_at_again():
    learned = parameters()
    descent = SGD(learned, lr=0.5, momentum=0.5)
    stepped((learned, descent), range(2))
    learned[0].data = torch.zeros(3)
    learned[0].grad = torch.ones(3)
    descent.state[learned[0]]["momentum_buffer"].zero_()
    descent.step()
    torch.testing.assert_close(learned[0].data, torch.full((3,), -0.5))


def test_the_change_is_counted_and_hooks_run_once():
    """A backward that would read an overwritten parameter has to notice; and PyTorch's step is not called from ours."""
    learned = parameters()
    descent = SGD(learned, lr=0.1, momentum=0.9)
    torch.optim.SGD(parameters(), lr=0.1)
    seen = []
    descent.register_step_post_hook(lambda *_: seen.append("after"))
    before = learned[0]._version
    for step in range(3):
        stepped((learned, descent), [step])
        assert learned[0]._version > before
        before = learned[0]._version
    assert seen == ["after"] * 3


def test_the_profiler_and_hooks_of_all_optimisers_hear_of_it():
    learned = parameters()
    descent = SGD(learned, lr=0.1, momentum=0.9)
    stepped((learned, descent), range(2))
    seen = []
    handle = register_optimizer_step_pre_hook(lambda *_: seen.append("before"))
    descent.step()
    handle.remove()
    assert seen == ["before"]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as record:
        descent.step()
    assert "Optimizer.step#SGD.step" in {event.key for event in record.key_averages()}
    assert called(descent)


def test_a_closure_is_asked_for_the_loss():
    learned = parameters()
    descent = SGD(learned, lr=0.1, momentum=0.9)

    def loss():
        gradients(learned, 0)
        return torch.tensor(3.0)

    assert [float(descent.step(loss)) for _ in range(2)] == [3.0, 3.0]


def test_descent_does_without_torch_compile():
    """Its import takes most of a second of every training that begins."""
    code = (
        "import sys, torch; from hapgop.nn.optim import SGD; layer = torch.nn.Linear(2, 1)\n"
        "descent = SGD(layer.parameters(), lr=0.1, momentum=0.9)\n"
        "for _ in range(2): descent.zero_grad(); layer(torch.ones(1, 2)).sum().backward(); descent.step()\n"
        "print(descent._call is not None, 'torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True False\n"
