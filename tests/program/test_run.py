import math
import sys

import numpy as np
import pytest
import torch

from hapgop import engine
from hapgop.errors import InputError
from hapgop.program import Graph, Node, check_tensors, fold, refusals, run
from hapgop.program.elementwise import erf


def images(shape, n=3):
    return np.random.default_rng(5).standard_normal((n, *shape), np.float32)


def close(a, b):
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= 1e-4 * max(1, np.abs(b).max())


def expected(module, x):
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy()


def test_a_net_gives_what_torch_gives(net, traced):
    module, shape = net
    graph, tensors = traced(module, shape)
    x = images(shape)
    close(run(graph, tensors, x), expected(module, x))


def test_a_folded_net_is_smaller_and_gives_the_same(net, traced):
    module, shape = net
    graph, tensors = traced(module, shape)
    small, fewer = fold(graph, tensors)
    x = images(shape)
    close(run(small, fewer, x), expected(module, x))
    ops = [node.op for node in small.nodes]
    assert len(ops) < len(graph.nodes)
    assert not {"dropout", "identity"} & set(ops)
    assert set(fewer) == set(small.tensor_names())
    check_tensors(small, fewer)


def test_batch_norms_and_activations_vanish_where_they_can(traced):
    from torch import nn

    module = nn.Sequential(
        nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Dropout(), nn.ReLU(),
        nn.Conv2d(2, 2, 1), nn.ReLU(), nn.BatchNorm2d(2), nn.Flatten(),
        nn.Linear(72, 4), nn.ReLU(), nn.Identity(),
    )  # fmt: skip
    graph, tensors = traced(module, (1, 8, 8))
    small, _ = fold(graph, tensors)
    # The second batch norm comes after a ReLU and has to stay.
    kept = [(node.op, node.attrs.get("activation")) for node in small.nodes]
    assert kept == [
        ("conv2d", "relu"), ("conv2d", "relu"), ("batch_norm2d", None), ("flatten", None), ("linear", "relu"),
    ]  # fmt: skip
    assert small.output == small.nodes[-1].name


SIZES = {"out_channels": 2, "kernel_size": 1}
NORM = {"running_mean": "mean", "running_var": "var"}
TENSORS = {
    "w": np.array([[[[1.0]]], [[[-2.0]]]], np.float32),
    "mean": np.array([1.0, 2.0], np.float32),
    "var": np.array([4.0, 9.0], np.float32),
}


def test_a_result_that_is_read_twice_is_not_folded():
    nodes = (
        Node("conv", "conv2d", ("input",), SIZES, {"weight": "w"}),
        Node("norm", "batch_norm2d", ("conv",), {}, NORM),
        Node("relu", "relu", ("norm",)),
        Node("sum", "add", ("relu", "conv")),
    )
    graph = Graph((1, 3, 3), nodes, "sum")
    small, fewer = fold(graph, TENSORS)
    assert [node.op for node in small.nodes] == ["conv2d", "batch_norm2d", "relu", "add"]
    x = images((1, 3, 3))
    assert np.array_equal(run(graph, TENSORS, x), run(small, fewer, x))


@pytest.mark.parametrize("between", ["dropout", "identity"])
def test_a_result_that_is_read_twice_through_a_vanishing_node_is_not_folded(between):
    nodes = (
        Node("conv", "conv2d", ("input",), SIZES, {"weight": "w"}),
        Node("drop", between, ("conv",)),
        Node("relu", "relu", ("drop",)),
        Node("sum", "add", ("relu", "drop")),
    )
    graph = Graph((1, 3, 3), nodes, "sum")
    small, fewer = fold(graph, TENSORS)
    assert [node.op for node in small.nodes] == ["conv2d", "relu", "add"]
    x = images((1, 3, 3))
    assert np.array_equal(run(graph, TENSORS, x), run(small, fewer, x))


def test_a_convolution_that_is_the_output_keeps_its_value():
    nodes = (
        Node("conv", "conv2d", ("input",), SIZES, {"weight": "w"}),
        Node("relu", "relu", ("conv",)),
    )
    small, fewer = fold(Graph((1, 3, 3), nodes, "conv"), TENSORS)
    x = images((1, 3, 3))
    assert run(small, fewer, x).min() < 0


def test_weights_that_two_layers_share_are_folded_apart():
    sizes = {"out_channels": 2, "kernel_size": 1, "groups": 2}
    nodes = (
        Node("a", "conv2d", ("input",), sizes, {"weight": "w"}),
        Node("norm", "batch_norm2d", ("a",), {}, NORM),
        Node("b", "conv2d", ("norm",), sizes, {"weight": "w"}),
    )
    graph = Graph((2, 3, 3), nodes, "b")
    small, fewer = fold(graph, TENSORS)
    x = images((2, 3, 3))
    close(run(small, fewer, x), run(graph, TENSORS, x))
    assert np.array_equal(fewer["w"], TENSORS["w"])


def test_two_batch_norms_in_a_row_are_both_folded():
    nodes = (
        Node("a", "conv2d", ("input",), SIZES, {"weight": "w"}),
        Node("one", "batch_norm2d", ("a",), {}, NORM),
        Node("two", "batch_norm2d", ("one",), {}, NORM),
    )
    graph = Graph((1, 3, 3), nodes, "two")
    small, fewer = fold(graph, TENSORS)
    assert len(small.nodes) == 1
    x = images((1, 3, 3))
    close(run(small, fewer, x), run(graph, TENSORS, x))


def test_every_node_is_observed_in_order_and_memory_is_given_back(net, traced):
    module, shape = net
    graph, tensors = traced(module, shape)
    seen = []
    run(graph, tensors, images(shape, 1), observe=lambda name, y: seen.append((name, y.shape)))
    assert [name for name, _ in seen] == [node.name for node in graph.nodes]


def test_no_intermediate_outlives_its_last_reader():
    import weakref

    nodes = tuple(Node(f"n{i}", "tanh", (f"n{i - 1}" if i else "input",)) for i in range(5))
    alive, most = [], 0

    def observe(name, y):
        nonlocal most
        alive.append(weakref.ref(y))
        most = max(most, sum(ref() is not None for ref in alive))

    run(Graph((1, 2, 2), nodes, "n4"), {}, images((1, 2, 2)), observe=observe)
    assert most == 2


def test_the_input_is_left_alone():
    x = images((1, 3, 3))
    before = x.copy()
    run(Graph((1, 3, 3), (Node("r", "relu", ("input",)),), "r"), {}, x)
    assert np.array_equal(x, before)


def test_a_batch_of_none_and_other_memory_orders():
    graph = Graph((1, 3, 4), (Node("conv", "conv2d", ("input",), SIZES, {"weight": "w"}),), "conv")
    assert run(graph, TENSORS, np.zeros((0, 1, 3, 4), np.float32)).shape == (0, 2, 3, 4)
    x = images((1, 4, 3)).transpose(0, 1, 3, 2)
    expected = np.concatenate([x, -2 * x], axis=1)
    assert np.array_equal(run(graph, TENSORS, x), expected)
    assert np.array_equal(run(graph, TENSORS, x.astype(np.float64)), expected)


@pytest.mark.parametrize("op", ["conv2d", "linear", "max_pool2d", "avg_pool2d"])
def test_what_the_engine_refuses_is_computed_by_the_definition_and_counted(op, monkeypatch, traced):
    from torch import nn

    modules = {
        "conv2d": nn.Conv2d(2, 3, 3),
        "linear": nn.Sequential(nn.Flatten(), nn.Linear(72, 3)),
        "max_pool2d": nn.MaxPool2d(3, 2, 1),
        "avg_pool2d": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    }

    def refuse(problem):
        raise engine.Refused("not today")

    graph, tensors = traced(nn.Sequential(modules[op], nn.ReLU()), (2, 6, 6))
    graph, tensors = fold(graph, tensors)
    # The package has a function of the same name as the module.
    monkeypatch.setattr(sys.modules["hapgop.program.running"], "prepare", refuse)
    before = sum(refusals().values())
    x = images((2, 6, 6))
    close(run(graph, tensors, x), expected(nn.Sequential(modules[op], nn.ReLU()), x))
    assert sum(refusals().values()) == before + 1
    assert any("not today" in reason for reason in refusals())


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((1, 3, 3), np.float32), r"\(n, 1, 3, 3\), not float32 of \(1, 3, 3\)"),
        (np.zeros((1, 1, 3, 4), np.float32), r"not float32 of \(1, 1, 3, 4\)"),
        (np.zeros((1, 1, 3, 3), np.uint8), "not uint8"),
    ],
)
def test_a_wrong_input_is_said_with_what_is_wanted(x, words):
    with pytest.raises(InputError, match=words):
        run(Graph((1, 3, 3), (Node("r", "relu", ("input",)),), "r"), {}, x)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({}, r"tensor 'w' \(weight of conv2d 'conv'\) is missing"),
        ({"w": TENSORS["w"][:1]}, "is 1×1×1×1, but 2×1×1×1 is wanted"),
        ({"w": TENSORS["w"], "mean": TENSORS["mean"]}, "'var'.*missing"),
        (
            {**TENSORS, "var": np.ones(3, np.float32)},
            r"'var' \(running_var of batch_norm2d 'norm'\) is 3, but 2",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(tensors, words):
    nodes = (
        Node("conv", "conv2d", ("input",), SIZES, {"weight": "w"}),
        Node("norm", "batch_norm2d", ("conv",), {}, NORM),
    )
    with pytest.raises(InputError, match=words):
        run(Graph((1, 3, 3), nodes, "norm"), tensors, images((1, 3, 3)))


def test_the_error_function():
    x = np.linspace(-6, 6, 20001, dtype=np.float32)
    exact = np.array([math.erf(value) for value in x.tolist()])
    assert np.abs(erf(x) - exact).max() < 5e-7
    special = erf(np.array([np.nan, np.inf, -np.inf, 0], np.float32))
    assert np.isnan(special[0])
    assert special[1:].tolist() == [1, -1, 0]


def test_a_scale_is_folded_into_the_sum_before_it():
    nodes = (
        Node("conv", "conv2d", ("input",), SIZES, {"weight": "w"}),
        Node("scale", "scale", ("conv",), {}, {"weight": "mean"}),
    )
    graph = Graph((1, 3, 3), nodes, "scale")
    small, fewer = fold(graph, TENSORS)
    assert [node.op for node in small.nodes] == ["conv2d"]
    x = images((1, 3, 3))
    wanted = np.concatenate([x, -4 * x], axis=1)
    assert np.array_equal(run(graph, TENSORS, x), wanted)
    assert np.array_equal(run(small, fewer, x), wanted)
