import json

import numpy as np
import pytest
import torch

from hapgop import bench
from hapgop.bench.whole import plan_nets
from hapgop.bench.whole.peers import ALL, Eager
from hapgop.bench.whole.plain import PlainNet
from hapgop.bench.whole.run import bench_nets, ours
from hapgop.bench.whole.task import NetJudge, Task, task
from hapgop.errors import InputError
from hapgop.program import Graph, Node


@pytest.fixture(scope="module")
def tiny():
    return task("digits", 3)


@pytest.mark.parametrize("peer", ALL, ids=lambda peer: peer.name)
def test_every_peer_that_is_here_computes_the_net(peer, tiny):
    if peer.available() is not None or peer.name.startswith("torch.compile"):
        pytest.skip(peer.available() or "its compiler takes too long")
    judge = NetJudge(tiny)
    entry = peer.entry(tiny, 1)
    assert judge.error(entry.tensor(entry.run())) < 1e-5


def test_ours_is_what_the_net_is_and_another_net_is_not(tiny):
    judge, entry = NetJudge(tiny), ours(tiny, 1)
    y = entry.tensor(entry.run())
    assert judge.error(y) < 1e-5
    assert judge.error(y + 0.01 * y.abs().max()) > 5e-3
    assert judge.error(y * float("nan")) == float("inf")
    assert judge.error(y[:, 1:]) == float("inf")


def test_nets_are_measured_against_pytorch(tiny):
    run = plan_nets(["digits"], batches=[2], against=["torch"], threads=[1], repeats=2, quick=True)
    seen = []
    result = bench_nets(run, "the command", lambda done, total, name: seen.append(name))
    (row,) = result.rows
    assert (row.case, row.op, row.batch, row.threads, row.strongest) == ("digits", "forward", 2, 1, Eager.name)
    assert row.ratio > 0
    assert row.eager is not None
    assert seen[0] == "digits n=2"
    again = bench.from_json(json.dumps(result.to_json()), "text")
    assert again.rows == result.rows
    assert "digits" in bench.table(result)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"names": ["lenet"]}, "--case lenet: there is no such net"),
        ({"against": ["tensorflow"]}, "--against tensorflow: wanted is one of torch, torch.compile, onnxruntime"),
    ],
)
def test_names_that_mean_nothing_are_said(given, words):
    with pytest.raises(InputError, match=words):
        plan_nets(**given)


def test_a_peer_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "ncnn" in plan_nets(["digits"]).missing
    with pytest.raises(InputError, match="--against ncnn: ncnn not installed"):
        plan_nets(["digits"], against=["ncnn"])


def test_the_onnx_model_is_the_same_net(tmp_path):
    from hapgop.bench.whole.onnx_model import onnx_model
    from hapgop.predict.onnx_file import read_onnx
    from hapgop.program import Program

    for name in ("tinyvgg", "resnet20"):
        net = task(name, 1)
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(onnx_model(net).SerializeToString())
        program = Program(*read_onnx(path)[:2])
        assert NetJudge(net).error(torch.from_numpy(program(net.x.numpy()))) < 1e-4


@pytest.mark.parametrize("name", ["tinyvgg", "resnet20", "mobilenet_v2"])
def test_the_litert_model_is_the_same_net(name):
    pytest.importorskip("ai_edge_litert")
    from hapgop.bench.whole.peers import LiteRt

    net = task(name, 2)
    entry = LiteRt().entry(net, 1)
    assert NetJudge(net).error(entry.tensor(entry.run())) < 1e-5


def test_every_operator_of_a_litert_model_means_the_same():
    pytest.importorskip("ai_edge_litert")
    from hapgop.bench.whole.peers import LiteRt

    window = {"kernel_size": 3, "stride": 2, "padding": 1}
    wide = {"out_channels": 4, "kernel_size": 3, "padding": 1, "groups": 2}
    nodes = [
        Node("wide", "conv2d", ("input",), wide, {"weight": "w"}),
        Node("silu", "silu", ("wide",)),
        Node("peaks", "max_pool2d", ("wide",), window),  # of negative values too: zeros at the border would show
        Node("means", "avg_pool2d", ("silu",), window),
        Node("sum", "add", ("peaks", "means")),
        Node("cut", "relu6", ("sum",)),
        Node("gate", "sigmoid", ("peaks",)),
        Node("product", "mul", ("cut", "gate")),
        Node("beside", "concat", ("product", "peaks")),
        Node("bent", "tanh", ("beside",)),
        Node("hard", "hardswish", ("bent",)),
        Node("end", "mean", ("hard",), {"dim": (2, 3)}),
        Node("soft", "softmax", ("end",)),
    ]
    random = np.random.default_rng(0)
    tensors = {"w": random.normal(size=(4, 1, 3, 3)).astype(np.float32)}
    x = torch.from_numpy(random.normal(size=(2, 2, 5, 7)).astype(np.float32)) - 1
    net = Task("all", Graph((2, 5, 7), tuple(nodes), "soft"), tensors, x, 0)
    entry = LiteRt().entry(net, 1)
    assert NetJudge(net).error(entry.tensor(entry.run())) < 1e-5


def test_what_a_litert_model_cannot_say_is_named():
    pytest.importorskip("ai_edge_litert")
    from hapgop.bench.whole.lite_model import lite_model

    for op, attrs in (("elu", {}), ("max_pool2d", {"kernel_size": 2, "ceil_mode": True})):
        graph = Graph((2, 5, 7), (Node("odd", op, ("input",), attrs),), "odd")
        with pytest.raises(InputError, match=r"'odd'.* bench nets has no LiteRT operator"):
            lite_model(Task("odd", graph, {}, torch.zeros(1, 2, 5, 7), 0))


def test_the_plain_net_knows_what_it_does_not_know():
    graph = Graph((1, 4, 4), (Node("odd", "log_softmax", ("input",)),), "odd")
    with pytest.raises(InputError, match=r"'odd' \(log_softmax\)"):
        PlainNet(graph, {})
