"""Planned nets against the same nets node by node: whole numbers, so that every sum is exact, and real ones."""

import re
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hapgop import engine
from hapgop.errors import InputError
from hapgop.program import Graph, Node, Program, fold, run, schedule
from hapgop.program.arena import Life, first_fit

pytestmark = pytest.mark.usefixtures("plain_sums")


def conv(name, source, oc, kernel=3, groups=1, bias=True, **attrs):
    params = {"weight": f"{name}.weight", **({"bias": f"{name}.bias"} if bias else {})}
    return Node(
        name, "conv2d", (source,), {"out_channels": oc, "kernel_size": kernel, "groups": groups, **attrs}, params
    )


def linear(name, source, features):
    params = {"weight": f"{name}.weight", "bias": f"{name}.bias"}
    return Node(name, "linear", (source,), {"out_features": features}, params)


NORM = {role: f"norm.{role}" for role in ("weight", "bias", "running_mean", "running_var")}

# Every way in which nodes meet; results stay small enough to be exact.
NODES = (
    conv("a", "input", 20, padding=1), Node("relu_a", "relu", ("a",)),
    conv("b", "relu_a", 20, padding=1, bias=False), conv("skip", "relu_a", 20, 1),
    Node("add", "add", ("skip", "b")), Node("relu6", "relu6", ("add",)),
    Node("pool", "max_pool2d", ("relu6",), {"kernel_size": 2}),
    conv("depthwise", "pool", 20, groups=20, padding=1), Node("norm", "batch_norm2d", ("pool",), {"eps": 0}, NORM),
    Node("leaky", "leaky_relu", ("norm",), {"negative_slope": 0.5}),
    Node("sum", "add", ("depthwise", "leaky")),
    Node("cat", "concat", ("sum", "pool"), {"dim": 1}),
    conv("gate", "mean_kept", 40, 1), Node("gated", "mul", ("cat", "gate")),
    conv("mask", "gated", 1, 1), Node("masked", "mul", ("mask", "gated")),
    Node("drop", "dropout", ("cat",)), Node("flat", "flatten", ("drop",)),
    linear("head", "flat", 10), linear("other", "flat", 10), Node("out", "add", ("head", "other")),
)  # fmt: skip
KEPT = Node("mean_kept", "mean", ("cat",), {"dim": (2, 3), "keepdim": True})


def whole_net(size=(3, 9, 8)):
    nodes = list(NODES)
    nodes.insert(12, KEPT)
    # Ends of other kinds: a pool behind a convolution, and an image as the result.
    return Graph(size, tuple(nodes), "out")


def whole_tensors(graph):
    """Small whole numbers of the right shapes; batch norms that scale by powers of two."""
    from hapgop.program.sizes import parameter_sizes, result_sizes

    random, sizes = np.random.default_rng(2), result_sizes(graph)
    tensors = {}
    for node in graph.nodes:
        for role, size in parameter_sizes(node, sizes[node.inputs[0]]).items():
            few = random.random(size) < min(1, 6 / np.prod(size[1:]))
            tensors[node.params[role]] = (random.integers(-2, 3, size) * few).astype(np.float32)
            if role == "running_var":
                tensors[node.params[role]] = np.full(size, 4, np.float32)
    return tensors


def whole_images(graph, n):
    return np.random.default_rng(n).integers(-3, 4, (n, *graph.input_shape)).astype(np.float32)


def last(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


@pytest.fixture
def free(monkeypatch):
    """A team costs nothing, so that it is always used."""
    for module in ("steps", "schedule"):
        monkeypatch.setattr(sys.modules[f"hapgop.program.{module}"], "MEET", -1.0)
    monkeypatch.setattr(sys.modules["hapgop.program.schedule"], "LAUNCH", 0.0)
    monkeypatch.setattr(sys.modules["hapgop.program.schedule"], "_GAIN", 1.0)


def exact_subnet(output):
    """The net up to a node, whose result is exact: a mean over 4 x 4 pixels is."""
    graph = whole_net((3, 8, 8))
    names = [node.name for node in graph.nodes]
    return Graph(graph.input_shape, graph.nodes[: names.index(output) + 1], output)


ENDS = ["a", "relu_a", "add", "relu6", "pool", "sum", "cat", "mean_kept", "gated", "masked", "flat", "head", "out"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("n", [1, 3])
def test_whole_numbers_give_what_they_give_node_by_node(end, n):
    graph = exact_subnet(end)
    tensors = whole_tensors(graph)
    x = whole_images(graph, n)
    want = run(graph, tensors, x)
    assert np.abs(want).max() < 2**22
    assert len(np.unique(want)) > 2
    program = Program(graph, tensors)
    for images in (x, last(x)):
        assert np.array_equal(program(images), want)
    assert np.array_equal(Program(graph, tensors, fuse=False)(x), want)


@pytest.mark.parametrize("threads", [2, 3])
def test_any_number_of_threads_gives_the_same_bits(threads, free, net, traced):
    module, shape = net
    graph, tensors = traced(module, shape)
    x = np.random.default_rng(1).standard_normal((2, *shape), np.float32)
    program = Program(graph, tensors, threads=threads)
    assert program.plan(2, "nchw").team > 1
    assert np.array_equal(program(x), Program(graph, tensors, threads=1)(x))


def test_real_numbers_stay_near_what_pytorch_gives(net, traced):
    import torch

    module, shape = net
    graph, tensors = traced(module, shape)
    x = np.random.default_rng(4).standard_normal((3, *shape), np.float32)
    with torch.no_grad():
        want = module(torch.from_numpy(x)).numpy()
    got = Program(graph, tensors)(x)
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= 1e-5 * max(1, np.abs(want).max())


def test_a_net_of_known_operations_is_one_native_call(monkeypatch):
    graph = whole_net()
    program, x = Program(graph, whole_tensors(graph)), last(whole_images(graph, 2))
    want = program(x)
    calls = []
    module = sys.modules["hapgop.engine.sequence"]
    right = module.launch
    monkeypatch.setattr(module, "launch", lambda *given: (calls.append(given), right(*given)))
    assert np.array_equal(program(x), want)
    assert len(calls) == 1


def test_a_sum_and_its_activation_become_one_step_and_a_flatten_none():
    plan = schedule(fold(whole_net(), whole_tensors(whole_net()))[0], 1)
    does = [step.does for step in plan.steps]
    assert any("add + relu6" in words for words in does)
    assert not any("flatten" in words for words in does)
    unfused = schedule(whole_net(), 1, fuse=False)
    assert all(len(step.nodes) == 1 for step in unfused.steps)


def test_what_is_read_twice_is_not_fused_away():
    nodes = (
        conv("c", "input", 4), Node("r", "relu", ("c",)), Node("s", "add", ("r", "c")), Node("t", "add", ("s", "s")),
    )  # fmt: skip
    graph = Graph((2, 5, 5), nodes, "t")
    tensors, x = whole_tensors(graph), whole_images(graph, 1)
    assert np.array_equal(Program(graph, tensors)(x), run(graph, tensors, x))


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(
    "nodes",
    [
        (Node("top", "adaptive_max_pool2d", ("input",), {"output_size": 1}), Node("log", "log_softmax", ("top",))),
        (conv("log", "input", 1, padding=1, padding_mode="reflect"),),
    ],
    ids=["one pixel", "one channel"],
)
def test_a_flatten_may_rename_what_python_computed(nodes, n):
    graph = Graph((3, 4, 4), (*nodes, Node("flat", "flatten", ("log",))), "flat")
    tensors, x = whole_tensors(graph), whole_images(graph, n)
    program, want = Program(graph, tensors), run(graph, tensors, x)
    assert program.plan(n).steps[-1].problem is None
    for images in (x, last(x)):
        assert program(images).shape == want.shape
        assert np.abs(program(images) - want).max() < 1e-5


@pytest.mark.parametrize("output", ["input", "same"])
def test_nets_that_do_nothing(output):
    graph = Graph((2, 3, 4), (Node("same", "identity", ("input",)),), output)
    x = whole_images(graph, 2)
    for images in (x, last(x)):
        assert np.array_equal(Program(graph, {})(images), x)


def test_images_of_other_types_and_orders_and_none_at_all():
    graph = whole_net()
    program, x = Program(graph, whole_tensors(graph)), whole_images(graph, 2)
    want = program(x)
    assert np.array_equal(program(x.astype(np.float64)), want)
    assert np.array_equal(program(np.repeat(x, 2, axis=3)[..., ::2]), want)
    assert np.array_equal(program(np.asfortranarray(x)), want)
    assert program(x[:0]).shape == (0, 10)


def test_wrong_images_and_tensors_are_said():
    graph = whole_net()
    tensors = whole_tensors(graph)
    with pytest.raises(InputError, match=r"\(n, 3, 9, 8\), not float32 of \(1, 3, 8, 9\)"):
        Program(graph, tensors)(np.zeros((1, 3, 8, 9), np.float32))
    del tensors["a.weight"]
    with pytest.raises(InputError, match=r"'a.weight' \(weight of conv2d 'a'\) is missing"):
        Program(graph, tensors)


def test_plans_are_kept_for_some_batch_sizes_and_weights_are_shared():
    graph = whole_net()
    program = Program(graph, whole_tensors(graph))
    first = program.ready(2)
    assert program.ready(2) is first
    assert program.ready(1)._packed[0] is first._packed[0]
    for n in range(3, 20):
        program.ready(n)
    assert len(program._ready) <= 8
    assert program.ready(2) is not first


def test_a_change_of_precision_plans_anew():
    graph = whole_net()
    program = Program(graph, whole_tensors(graph))
    exact = program.ready(1)
    try:
        engine.set_precision("fast")
        assert program.ready(1) is not exact
    finally:
        engine.set_precision("exact")
    assert program.ready(1) is exact


def test_calls_at_the_same_time_do_not_disturb_one_another():
    graph = whole_net()
    program = Program(graph, whole_tensors(graph))
    batches = [last(whole_images(graph, 4) + i) for i in range(6)]
    want = [program(x) for x in batches]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            for got, right in zip(pool.map(program, batches), want, strict=True):
                assert np.array_equal(got, right)


def test_the_text_names_every_step_and_its_times(net, traced):
    module, shape = net
    program = Program(*traced(module, shape))
    text = program.measure(last(np.zeros((1, *shape), np.float32)), repeats=1)
    for step in program.plan(1).steps:
        assert re.search(rf"^{step.name} .*{re.escape(step.does)}", text, re.M)
    assert "arena" in text
    assert str(program).splitlines()[0] == text.splitlines()[0]


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_values_that_live_together_lie_apart(drawn):
    lives = {str(i): Life(size, min(a, b), max(a, b)) for i, (size, a, b) in enumerate(drawn)}
    starts, total = first_fit(lives)
    for name, one in lives.items():
        assert starts[name] % 64 == 0
        assert starts[name] + one.size <= total
        for other_name, other in lives.items():
            if name < other_name and one.first <= other.last and other.first <= one.last:
                ends = starts[name] + one.size, starts[other_name] + other.size
                assert ends[0] <= starts[other_name] or ends[1] <= starts[name]


def test_what_nobody_needs_is_not_computed():
    nodes = (conv("a", "input", 4), conv("dead", "a", 5), Node("deader", "relu", ("dead",)))
    assert [step.name for step in schedule(Graph((2, 5, 5), nodes, "a"), 1).steps] == ["a"]


def test_the_arena_is_smaller_than_all_values():
    plan = schedule(whole_net(), 1)
    assert 0 < plan.arena < plan.separate


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_the_layers_of_convnext_are_native(approximate):
    norm = {role: f"norm.{role}" for role in ("weight", "bias")}
    nodes = (
        conv("stem", "input", 24, 4, stride=4),
        Node("norm", "layer_norm", ("stem",), {"eps": 1e-6}, norm),
        Node("up", "pointwise", ("norm",), {"out_features": 50}, {"weight": "up.weight", "bias": "up.bias"}),
        Node("gelu", "gelu", ("up",), {"approximate": approximate}),
        Node("scale", "scale", ("gelu",), {}, {"weight": "scale.weight"}),
        Node("mean", "mean", ("scale",), {"dim": (2, 3)}),
        Node("last", "layer_norm", ("mean",), {"eps": 1e-5}),
        Node("soft", "gelu", ("last",), {"approximate": approximate}),
    )
    graph = Graph((3, 20, 16), nodes, "soft")
    tensors, x = whole_tensors(graph), whole_images(graph, 3)
    program = Program(graph, tensors)
    assert all(step.problem is not None for step in program.plan(3, "nchw").steps)
    for images in (x, last(x)):
        assert np.abs(program(images) - run(graph, tensors, x)).max() < 1e-5


@pytest.mark.parametrize("size", [(3, 9, 8), (20, 5, 5)])
def test_a_number_is_native_and_takes_the_activation_behind_it_along(size):
    nodes = (
        Node("more", "number", ("input",), {"factor": -2, "term": 3}),
        Node("relu", "relu", ("more",)),
        Node("flat", "flatten", ("relu",)),
        Node("less", "number", ("flat",), {"term": -0.5}),
    )
    graph = Graph(size, nodes, "less")
    program = Program(graph, {})
    x = whole_images(graph, 3)
    x[0, 0, 0, 0] = np.nan
    wanted = np.maximum(3 - 2 * x, 0).reshape(3, -1) - np.float32(0.5)
    for images in (x, last(x)):
        np.testing.assert_array_equal(program(images), wanted)
    np.testing.assert_array_equal(run(graph, {}, x), wanted)
    steps = program.plan(3).steps
    assert all(step.problem is not None for step in steps)
    assert "number + relu" in [step.does for step in steps]


def test_fusions_do_not_depend_on_threads():
    graph = whole_net((3, 33, 40))
    plans = [schedule(graph, 2, "nhwc", threads) for threads in (1, 2, 5)]
    assert plans[0].steps == plans[1].steps == plans[2].steps
