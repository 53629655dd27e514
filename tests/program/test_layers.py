import numpy as np
import pytest
import torch
from torch import nn

from hapgop.program import Graph, Node, layers, run
from hapgop.shape import ShapeError


def conv(name, reads, oc=1, k=3, **attrs):
    sizes = {"out_channels": oc, "kernel_size": k, **attrs}
    return Node(name, "conv2d", (reads,), sizes, {"weight": f"{name}.weight"})


def test_every_shape_is_that_of_torch(net, traced):
    module, shape = net
    graph, _ = traced(module, shape)
    real = {}
    for name, part in module.named_modules():
        part.register_forward_hook(lambda part, x, y, name=name: real.update({name: (x, y)}))
    module(torch.zeros(1, *shape))
    found = {info.name: info for info in layers(graph)}
    checked = 0
    for name, (x, y) in real.items():
        info = found.get(name.replace(".", "_")) or found.get(f"_{name}")
        if info is not None:
            assert info.output_shape == tuple(y.shape[1:])
            assert info.input_shape == tuple(x[0].shape[1:])
            checked += 1
    assert checked >= 10


def test_parameters_are_counted_as_torch_counts_them(net, traced):
    module, shape = net
    graph, _ = traced(module, shape)
    assert sum(info.parameters for info in layers(graph)) == sum(p.numel() for p in module.parameters())


def test_parameters_of_a_layer_that_is_called_twice_are_counted_once(traced):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            return self.conv(self.conv(x))

    module = Twice()
    graph, _ = traced(module, (4, 8, 8))
    first, again = layers(graph)
    assert first.parameters + again.parameters == sum(p.numel() for p in module.parameters()) == 148
    assert first.macs == again.macs > 0


def test_lenet_by_hand(traced):
    module = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.Flatten(), nn.Linear(1024, 10)
    )
    graph, _ = traced(module, (1, 28, 28))
    first, relu, pool, second, flat, head = layers(graph)
    assert first.filter == "6 of 1×5×5"
    assert first.formula == "(28 - 5 + 0 + 0) / 1 + 1 = 24"
    assert (first.parameters, first.macs) == (156, 6 * 24 * 24 * 25)
    assert (relu.parameters, relu.macs, relu.formula, relu.filter) == (0, 0, "", "")
    assert (pool.filter, pool.output_shape) == ("2×2", (6, 12, 12))
    assert second.receptive_field.size == (14, 14)
    assert second.receptive_field.jump == (2, 2)
    assert flat.formula == "16 · 8 · 8 = 1024"
    assert (head.filter, head.parameters, head.macs) == ("10 of 1024", 10250, 10240)
    assert head.receptive_field.size == (28, 28)


def seen_pixels(graph, name, unit):
    """The rows of the input on which a unit depends, found by changing each: the definition of a field."""
    c, h, w = graph.input_shape
    tensors = {
        key: np.ones(shape, np.float32)
        for node, info in zip(graph.nodes, layers(graph), strict=True)
        for key, shape in _weights(node, info)
    }
    images = np.zeros((h + 1, c, h, w), np.float32)
    for row in range(h):
        images[row + 1, :, row] = 1
    seen = {}
    run(graph, tensors, images, observe=lambda n, y: seen.update({n: y.copy()}))
    values = seen[name] if seen[name].ndim == 2 else seen[name][:, :, unit]
    return [row for row in range(h) if not np.array_equal(values[row + 1], values[0])]


def _weights(node, info):
    for role, key in node.params.items():
        c = info.input_shape[0] // node.attrs.get("groups", 1)
        kernel = node.attrs.get("kernel_size", ())
        kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        oc = node.attrs.get("out_channels", node.attrs.get("out_features"))
        yield key, (oc, c, *kernel) if role == "weight" else (oc,)


SKIPS = {
    "plain": (conv("a", "input"), conv("b", "a", stride=2), conv("c", "b")),
    "dilated skip": (
        conv("a", "input", padding=1),
        conv("b", "a", padding=2, dilation=2),
        Node("sum", "add", ("a", "b")),
        conv("c", "sum", stride=2),
    ),
    "uneven paths": (
        conv("a", "input", k=5, stride=2, padding=2),
        conv("b", "input", k=1, stride=2),
        Node("sum", "concat", ("a", "b")),
        conv("c", "sum", padding="same"),
    ),
    "gate": (
        conv("a", "input", padding=1),
        Node("all", "adaptive_avg_pool2d", ("a",), {"output_size": 1}),
        Node("gated", "add", ("a", "all")),
    ),
    "same, stride 2": (conv("a", "input", k=4, stride=2, padding="same"), conv("b", "a", padding="same")),
    "vector": (
        conv("a", "input", stride=3),
        Node("flat", "flatten", ("a",)),
        Node("head", "linear", ("flat",), {"out_features": 2}, {"weight": "head.weight"}),
    ),
    "average": (conv("a", "input", stride=2), Node("mean", "mean", ("a",), {"dim": (2, 3)})),
}


@pytest.mark.parametrize("case", SKIPS)
def test_receptive_fields_are_what_changes_the_unit(case):
    nodes = SKIPS[case]
    graph = Graph((1, 17, 17), nodes, nodes[-1].name)
    checked = 0
    for info in layers(graph):
        field, rows = info.receptive_field, info.output_shape[1] if len(info.output_shape) == 3 else 1
        if info.op == "flatten":
            continue
        for unit in range(rows):
            first = field.start[0] + unit * field.jump[0]
            seen = seen_pixels(graph, info.name, unit)
            inside = range(max(0, first), min(17, first + field.size[0]))
            assert (seen[0], seen[-1]) == (inside[0], inside[-1]), (info.name, unit)
            checked += 1
    assert checked


def test_a_gate_sees_everything_everywhere():
    info = layers(Graph((1, 17, 17), SKIPS["gate"], "gated"))[-1]
    assert info.receptive_field.jump == (1, 1)
    for unit in range(17):
        first = info.receptive_field.start[0] + unit
        assert first <= 0
        assert first + info.receptive_field.size[0] >= 17


def test_rows_that_are_never_read_are_counted():
    graph = Graph((1, 8, 9), (Node("pool", "max_pool2d", ("input",), {"kernel_size": 3}),), "pool")
    assert layers(graph)[0].unread == (2, 0)


POOL = {"kernel_size": 9}
WRONG = [
    ((conv("a", "input", k=9),), r"a \(conv2d\) on 3×8×8: kernel"),
    ((conv("a", "input", groups=2),), r"a \(conv2d\) on 3×8×8: groups"),
    ((Node("p", "max_pool2d", ("input",), POOL),), r"p \(max_pool2d\) on 3×8×8: kernel"),
    ((Node("l", "linear", ("input",), {"out_features": 2}, {"weight": "w"}),), "flatten it to 192 numbers"),
    ((Node("f", "flatten", ("input",)), conv("a", "f")), r"a \(conv2d\) on 192: it reads images"),
    ((conv("a", "input"), Node("s", "add", ("input", "a"))), r"s \(add\) on 3×8×8 and 1×6×6: the two must"),
    ((conv("a", "input"), Node("s", "concat", ("input", "a"))), "same height and width"),
    ((Node("s", "concat", ("input", "input"), {"dim": 2}),), r"only channels \(dim=1\)"),
    ((Node("f", "flatten", ("input",), {"start_dim": 0}),), "only all of an image"),
    ((Node("m", "mean", ("input",), {"dim": 1}),), "only height and width"),
    ((Node("m", "softmax", ("input",), {"dim": 3}),), r"only over the channels"),
    ((conv("a", "input", padding=8, padding_mode="reflect"),), "at most 7 rows and 7 columns"),
    ((conv("a", "input", padding=9, padding_mode="circular"),), "at most 8 rows and 8 columns"),
]


@pytest.mark.parametrize(("nodes", "words"), WRONG)
def test_what_does_not_fit_names_the_layer_and_what_it_was_given(nodes, words):
    with pytest.raises(ShapeError, match=words):
        layers(Graph((3, 8, 8), nodes, nodes[-1].name))
