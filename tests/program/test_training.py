"""A training step as a plan: what is kept for the way back lies where nothing else is written meanwhile."""

import numpy as np
import pytest

from hapgop.engine import Refused
from hapgop.program import Graph, Node
from hapgop.program.training import Place, Setting, TrainingCalls, plan_training


def conv(name, reads, channels=8, **attrs):
    return Node(name, "conv2d", (reads,), {"out_channels": channels, "kernel_size": 3, "padding": 1} | attrs,
                {"weight": f"{name}.weight"})  # fmt: skip


def norm(name, reads):
    roles = ("weight", "bias", "running_mean", "running_var")
    return Node(name, "batch_norm2d", (reads,), {}, {role: f"{name}.{role}" for role in roles})


def block(at, reads):
    """A residual block."""
    return [
        conv(f"{at}c1", reads), norm(f"{at}n1", f"{at}c1"), Node(f"{at}r1", "relu", (f"{at}n1",)),
        conv(f"{at}c2", f"{at}r1"), norm(f"{at}n2", f"{at}c2"), Node(f"{at}a", "add", (f"{at}n2", reads)),
        Node(f"{at}r2", "relu", (f"{at}a",)),
    ]  # fmt: skip


STEM = conv("stem", "input", activation="relu")
NET = Graph((3, 8, 8), (STEM, *block("a", "stem"), *block("b", "ar2"), Node("mean", "mean", ("br2",), {"dim": (2, 3)})),
            "mean")  # fmt: skip


def setting(graph, n=4, learned=None, by_images=False):
    weights = {node.params["weight"]: "oihw" for node in graph.nodes if node.op == "conv2d"}
    every = frozenset(name for name in graph.tensor_names() if "running" not in name)
    momenta = {node.params["running_mean"]: 0.1 for node in graph.nodes if node.op == "batch_norm2d"}
    return Setting(n, weights, every if learned is None else learned, by_images, momenta)


def touched(plan):
    """For each call its places in the arena."""
    tasks = (*plan.forward.tasks, *plan.backward.tasks)
    return [{s.place for s in task.tensors if s is not None and s.place in plan.starts} for task in tasks]


def test_places_that_live_at_the_same_time_do_not_overlap():
    plan = plan_training(NET, setting(NET, by_images=True), 2)
    lives = {}
    for i, places in enumerate(touched(plan)):
        for place in places:
            lives[place] = (lives[place][0] if place in lives else i, i)
    spans = {p: (plan.starts[p], plan.starts[p] + 4 * plan.elements[p]) for p in lives}
    assert max(end for _, end in spans.values()) <= plan.arena
    for a in lives:
        for b in lives:
            if a != b and lives[a][0] <= lives[b][1] and lives[b][0] <= lives[a][1]:
                assert spans[a][1] <= spans[b][0] or spans[b][1] <= spans[a][0], (a, b)
    # What the way back reads was kept, and memory was used again.
    assert Place("value", "ac1") in set().union(*touched(plan)[len(plan.forward.tasks) :])
    assert plan.arena < 0.8 * sum(end - start for start, end in spans.values())


def test_batch_norms_take_the_sum_and_the_relu_along():
    plan = plan_training(NET, setting(NET), 1)
    forward = [task.problem.op for task in plan.forward.tasks]
    assert forward == ["conv", *["conv", "batch_norm", "blend", "blend"] * 4, "avg_pool"]
    backward = [task.problem.op for task in plan.backward.tasks]
    half = ["batch_norm_grad", "grad_x", "grad_w"]
    assert backward == ["avg_pool_grad", *([*half, *half[:2], "add", "grad_w"] * 2), "relu_grad", "grad_w"]


def test_only_what_is_wanted_is_computed():
    last = frozenset({"bc2.weight"})
    plan = plan_training(NET, setting(NET, learned=last), 1)
    assert [task.problem.op for task in plan.backward.tasks] == ["avg_pool_grad", "batch_norm_grad", "grad_w"]
    assert [p for p in plan.backward.outside if p.kind == "derivative"] == [Place("derivative", "bc2.weight")]
    plan = plan_training(NET, setting(NET, learned=frozenset(), by_images=True), 1)
    assert not any(task.problem.op == "grad_w" for task in plan.backward.tasks)
    assert plan.by_images in plan.backward.outside
    assert not plan_training(NET, setting(NET, learned=frozenset()), 1).backward.tasks


def test_gradients_of_one_value_from_many_sides_are_summed_up():
    """y = x + (x + x) + 3 x: six times."""
    nodes = (
        Node("two", "add", ("input", "input")), Node("three", "add", ("input", "two")),
        Node("times", "number", ("input",), {"factor": 3.0}), Node("six", "add", ("three", "times")),
    )  # fmt: skip
    graph = Graph((2, 3, 3), nodes, "six")
    plan = plan_training(graph, setting(graph, 5, by_images=True), 2)
    calls = TrainingCalls(plan)
    random = np.random.default_rng(1)
    x, g, y, dx = (random.integers(-9, 10, (5, 3, 3, 2)).astype(np.float32) for _ in range(4))
    arena = np.zeros(plan.arena // 4 + 16, np.float32)
    ends = {plan.images: x, plan.result: y, plan.gradient: g, plan.by_images: dx}
    for half, call in ((plan.forward, calls.forward), (plan.backward, calls.backward)):
        call(arena.ctypes.data, [ends[place].ctypes.data for place in half.outside])
    assert np.array_equal(y, 6 * x)
    assert np.array_equal(dx, 6 * g)


def test_a_node_without_a_way_back_is_named():
    graph = Graph((3, 8, 8), (conv("c", "input"), Node("s", "sigmoid", ("c",))), "s")
    with pytest.raises(Refused, match="s: sigmoid has no way back"):
        plan_training(graph, setting(graph), 1)
