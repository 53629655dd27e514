"""The graph in PyTorch's operators computes what the engine computes, for every operation there is."""

import numpy as np
import pytest
import torch

from hapgop import program
from hapgop.explain.opened import Opened
from hapgop.program import Graph, Node
from hapgop.program.ops import OPS

BACK = {"out_channels": 4, "kernel_size": (3, 2), "padding": (1, 0)}
CONV = {"out_channels": 4, "kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0, 2, 1), "dilation": (1, 2)}


def one(op, attrs=None, params=(), shape=(4, 9, 11), reads=("input",)):
    return Graph(shape, (Node("a", op, reads, attrs or {}, {role: role for role in params}),), "a")


GRAPHS = [
    one("conv2d", CONV, ("weight", "bias")),
    one("conv2d", {**CONV, "groups": 2, "activation": "relu"}, ("weight",)),
    *(one("conv2d", {**CONV, "padding_mode": mode}, ("weight",)) for mode in ("reflect", "replicate", "circular")),
    one("conv2d", {**CONV, "padding": "same", "stride": 2}, ("weight",)),
    one("conv_transpose2d", {**BACK, "stride": 2, "output_padding": 1, "groups": 2}, ("weight", "bias")),
    one("conv_transpose2d", {**BACK, "dilation": 2, "activation": "relu"}, ("weight",)),
    one("max_pool2d", {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    one("max_pool2d", {"kernel_size": 2, "dilation": 2}),
    one("avg_pool2d", {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    one("avg_pool2d", {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False}),
    one("avg_pool2d", {"kernel_size": (2, 3)}),
    one("adaptive_avg_pool2d", {"output_size": (3, 4)}),
    one("batch_norm2d", {}, ("running_mean", "running_var", "weight", "bias")),
    *(one(op) for op in ("relu", "relu6", "leaky_relu", "elu", "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh")),
    *(one(op) for op in ("softmax", "log_softmax", "dropout", "identity", "flatten")),
    one("add", reads=("input", "input")),
    one("mul", reads=("input", "input")),
    one("concat", reads=("input", "input")),
    one("pointwise", {"out_features": 3, "activation": "relu"}, ("weight", "bias")),
    one("adaptive_max_pool2d", {"output_size": (3, 4)}),
    one("layer_norm", {}, ("weight", "bias")),
    one("scale", {}, ("weight",)),
    one("number", {"factor": 0.5, "term": -2}),
    one("gelu"),
    one("gelu", {"approximate": "tanh"}),
    one("mean", {"dim": (2, 3)}),
    one("mean", {"dim": 2, "keepdim": True}),
    one("linear", {"out_features": 3, "activation": "relu"}, ("weight", "bias"), (4, 1, 1)),
]


def with_tensors(graph, random):
    node = graph.nodes[0]
    if node.op == "linear":
        flat = Node("flat", "flatten", ("input",))
        graph = Graph(graph.input_shape, (flat, Node("a", node.op, ("flat",), node.attrs, node.params)), "a")
    sizes = {"running_mean": 4, "running_var": 4, "bias": node.attrs.get("out_channels", 4)}
    sizes["weight"] = 4
    if node.op == "conv2d":
        sizes["weight"] = (4, 4 // node.attrs["groups"], 3, 2)
    if node.op == "conv_transpose2d":
        sizes["weight"] = (4, node.attrs["out_channels"] // node.attrs["groups"], 3, 2)
    if node.op in ("linear", "pointwise"):
        sizes |= {"weight": (3, 4), "bias": 3}
    tensors = {name: random.random(sizes[name]).astype(np.float32) for name in node.params}
    return Opened(graph, tensors)


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda g: f"{g.nodes[0].op}")
def test_steps_compute_what_the_engine_computes(graph):
    random = np.random.default_rng(0)
    net = with_tensors(graph, random)
    x = random.normal(size=graph.input_shape).astype(np.float32)
    ours = program.run(net.graph, net.tensors, x[None])
    with torch.no_grad():
        theirs = net.steps(torch.from_numpy(x)[None]).numpy()
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


def test_every_operation_is_tried():
    assert {graph.nodes[0].op for graph in GRAPHS} == set(OPS)
