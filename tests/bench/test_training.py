"""Training steps measured: the same net on every side, losses compared, what is told."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import hapgop.nn
from hapgop.bench.training import NETS, bench_train, plan_train, sides, train_table
from hapgop.bench.training.as_torch import GraphNet, checked
from hapgop.bench.training.nets import TrainedNet
from hapgop.bench.training.profile import profiled
from hapgop.errors import InputError
from hapgop.nn import capture


class _Tiny(nn.Module):
    """Everything that the nets of the benchmark have, small."""

    def __init__(self):
        super().__init__()
        self.conv = hapgop.nn.Conv2d(3, 8, 3, padding=1, activation="relu", pool=2)
        self.inner = hapgop.nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm = hapgop.nn.BatchNorm2d(8, activation="relu")
        self.pool = hapgop.nn.MaxPool2d(3, 2, 1)
        self.wide = nn.Linear(8 * 9, 12)
        self.end = nn.Linear(12, 10)

    def forward(self, x):
        x = self.conv(x)
        x = self.pool(self.norm(self.inner(x), x))
        return self.end(torch.relu(self.wide(torch.flatten(x, 1))))


TINY = TrainedNet("tiny", _Tiny, (3, 12, 10), 4)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(NETS, "tiny", TINY)
    return TINY


def plan(**more):
    return plan_train(["tiny"], **{"against": ["torch eager"], "threads": [1], "repeats": 2, **more})


def quiet(*_):
    pass


def test_a_graph_by_pytorch_is_the_net_itself():
    net = TINY.made()
    twin = GraphNet(checked(capture(net, TINY.input_shape)), net.state_dict()).train()
    x = TINY.images(5)[0].to(memory_format=torch.channels_last)
    torch.testing.assert_close(twin(x), net.train()(x), rtol=1e-4, atol=1e-5)
    # The running statistics too: what was trained can be compared.
    for key, value in net.state_dict().items():
        if "running" in key:
            torch.testing.assert_close(twin.state_dict()[key.replace(".", "__")], value, rtol=1e-4, atol=1e-6)


def test_a_row_tells_both_sides(tiny):
    result = bench_train(plan(profile=True), "the command", quiet)
    (row,) = result.rows
    assert set(row.rates) == {sides.OURS, sides.EAGER, sides.EAGER_LAST}
    assert row.strongest in (sides.EAGER, sides.EAGER_LAST)
    assert all(len(losses) == 3 for losses in row.losses.values())
    # Learning, on every side alike.
    assert row.losses[sides.OURS][2] < row.losses[sides.OURS][0]
    assert row.difference < 1e-4
    assert {"grad_w", "grad_x", "batch norm", "outside the calls"} <= set(row.profile.milliseconds)
    assert sum(row.profile.milliseconds.values()) == pytest.approx(row.profile.plain)
    text = train_table(result)
    assert "tiny" in text.splitlines()[1]
    assert "the command" in text
    assert json.loads(json.dumps(result.to_json()))["rows"][0]["net"] == "tiny"


def test_a_step_by_layers_is_profiled_by_pytorch():
    side = sides.Side("layers", TINY.made(), *TINY.images(4), last=True)
    profile = profiled(side)
    assert {"grad_w", "batch norm", "optimiser", "Python"} <= set(profile.milliseconds)
    assert profile.whole != profile.plain


def test_another_net_on_the_other_side_is_no_measurement(tiny, monkeypatch):
    made = sides.made

    def other(name, net, *rest):
        side = made(name, net, *rest)
        with torch.no_grad():
            next(side.module.parameters()).mul_(3)
        return side

    monkeypatch.setattr(sides, "made", other)
    with pytest.raises(RuntimeError, match=r"tiny: the losses .* differ from torch eager"):
        bench_train(plan(), "", quiet)


def test_who_cannot_take_part_is_named(tiny):
    (row,) = bench_train(plan(against=["torch eager, contiguous", "tensorflow"]), "", quiet).rows
    assert row.absent == {"tensorflow graph": "no Python with TensorFlow was named: --tensorflow PYTHON"}
    with pytest.raises(InputError, match=r"nobody to compare with: TensorFlow's process ended: .*tensorflow"):
        bench_train(plan(against=["tensorflow"], tensorflow=sys.executable), "", quiet)


def test_unknown_names_are_told():
    with pytest.raises(InputError, match="--case alexnet: wanted is one of lenet5, cifar3"):
        plan_train(["alexnet"])
    with pytest.raises(InputError, match="--against jax: wanted is one of torch eager"):
        plan_train([], against=["jax"])


def test_every_net_is_one_that_both_sides_can_train():
    for net in NETS.values():
        graph = checked(capture(net.made(), net.input_shape))
        assert graph.nodes[-1].op == "linear", net.name


def test_an_operation_that_is_not_trained_is_named():
    net = replace(TINY, build=lambda: nn.Sequential(nn.Flatten(), nn.Linear(360, 10), nn.Sigmoid()))
    with pytest.raises(InputError, match="the net has sigmoid"):
        checked(capture(net.made(), TINY.input_shape))


def test_the_weights_are_the_same_every_time():
    one, other = TINY.made().state_dict(), TINY.made().state_dict()
    assert all(np.array_equal(one[key], other[key]) for key in one)
