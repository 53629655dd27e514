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


PROGRAM = """\
import json, os, sys
answers, threads = {answers}, sys.argv[-1]
print(json.dumps({{"ready": os.environ.get("MALLOC_TRIM_THRESHOLD_")}}), flush=True)
for turn, _ in enumerate(sys.stdin):
    if turn == answers.get(threads, -1):
        sys.exit("out of memory")
    print(json.dumps({{"loss": 2.0, "seconds": 0.5}}), flush=True)
"""


@pytest.fixture
def tensorflow(tmp_path, monkeypatch):
    """Makes a Python whose TensorFlow answers without computing; answers: how often, by threads, before it ends."""
    monkeypatch.setattr("hapgop.bench.training.run._ALLOWED", float("inf"))

    def make(**answers):
        program = tmp_path / "python"
        text = PROGRAM.format(answers={threads.strip("t"): count for threads, count in answers.items()})
        program.write_text(f"#!{sys.executable}\n{text}")
        program.chmod(0o755)
        return str(program)

    return make


def test_the_time_of_another_process_is_by_its_own_clock(tiny, tensorflow):
    (row,) = bench_train(plan(against=["tensorflow"], tensorflow=tensorflow()), "", quiet).rows
    assert row.rates[sides.TENSORFLOW] == TINY.batch / 0.5


@pytest.mark.parametrize(("allocator", "setting"), [("default", None), ("tuned", str(1 << 40))])
def test_another_process_has_the_allocator_of_this_one(tensorflow, monkeypatch, allocator, setting):
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    side = sides.made(sides.TENSORFLOW, TINY, 4, 1, tensorflow(), allocator)
    side.close()
    assert side.version == setting


# Three steps are those whose losses are compared.
@pytest.mark.parametrize("answers", [0, 2, 3, 7])
def test_a_side_that_is_lost_is_absent_and_the_others_are_measured(tiny, tensorflow, answers):
    run = plan(against=["torch eager", "tensorflow"], tensorflow=tensorflow(t1=answers), repeats=4)
    (row,) = bench_train(run, "", quiet).rows
    assert row.absent == {sides.TENSORFLOW: "TensorFlow's process ended: out of memory"}
    assert set(row.rates) == {sides.OURS, sides.EAGER, sides.EAGER_LAST}
    assert row.rounds == 4


def test_a_row_that_loses_its_only_peer_does_not_cost_the_others(tiny, tensorflow):
    run = plan(against=["tensorflow"], threads=[1, 2], tensorflow=tensorflow(t2=5))
    result = bench_train(run, "", quiet)
    assert [row.threads for row in result.rows] == [1]
    words = "tiny n=4 t=2: nobody to compare with: TensorFlow's process ended: out of memory"
    assert result.machine["left_out"] == [words]
    assert f"left out: {words}" in train_table(result)


def test_a_python_that_is_not_there_is_told_before_anything_is_measured():
    with pytest.raises(InputError, match="--tensorflow nowhere/python: there is no such program; a Python that has"):
        plan_train(tensorflow="nowhere/python")


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
