import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hapgop.errors import InputError
from hapgop.program import Graph, Node
from hapgop.program.ops import OPS, REQUIRED

CONV = {"out_channels": 4, "kernel_size": 3}


def conv(name="conv", reads="input", **attrs):
    return Node(name, "conv2d", (reads,), {**CONV, **attrs}, {"weight": f"{name}.weight"})


def test_defaults_are_filled_in_and_lists_become_tuples():
    node = conv(stride=[2, 1])
    assert node.attrs["stride"] == (2, 1)
    assert node.attrs["padding"] == 0
    assert node.attrs["padding_mode"] == "zeros"
    assert node.attrs["activation"] is None


paddings = st.one_of(st.integers(0, 3), st.sampled_from(["same", "valid"]), st.tuples(*[st.integers(0, 3)] * 4))


@given(
    stride=st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3))),
    padding=paddings,
    activation=st.sampled_from([None, "relu"]),
)
def test_a_graph_survives_json(stride, padding, activation):
    nodes = (
        conv(stride=stride, padding=padding, activation=activation),
        Node("join", "add", ("conv", "conv")),
        Node("pool", "adaptive_avg_pool2d", ("join",), {"output_size": (1, None)}),
    )
    graph = Graph((3, 32, 32), nodes, "pool")
    assert Graph.from_json(json.loads(json.dumps(graph.to_json()))) == graph


@pytest.mark.parametrize("op", OPS)
def test_every_op_demands_what_its_table_says(op):
    spec = OPS[op]
    inputs = ("input",) * max(1, spec.inputs[0])
    missing = [name for name, (default, _) in spec.attrs.items() if default is REQUIRED]
    if missing:
        with pytest.raises(InputError, match=f"'node'.*{op} needs the attribute '{missing[0]}'"):
            Node("node", op, inputs, {}, dict.fromkeys(spec.required, "t"))
    attrs = {name: {"dim": (2, 3)}.get(name, 3) for name in missing}
    for role in spec.required:
        with pytest.raises(InputError, match=f"needs a tensor for its {role}"):
            Node("node", op, inputs, attrs, dict.fromkeys(spec.required - {role}, "t"))
    assert Node("node", op, inputs, attrs, dict.fromkeys(spec.required | spec.optional, "t")).op == op
    with pytest.raises(InputError, match="no attribute 'colour'"):
        Node("node", op, inputs, {**attrs, "colour": 1}, dict.fromkeys(spec.required, "t"))
    with pytest.raises(InputError, match="no parameter 'gain'"):
        Node("node", op, inputs, attrs, {**dict.fromkeys(spec.required, "t"), "gain": "t"})
    with pytest.raises(InputError, match=r"reads .* inputs, not 0"):
        Node("node", op, (), attrs, dict.fromkeys(spec.required, "t"))


@pytest.mark.parametrize(
    ("attrs", "words"),
    [
        ({"stride": 0}, "stride is 0, but it must be a whole number of at least 1"),
        ({"stride": (1, 2, 3)}, "or a pair"),
        ({"stride": True}, "stride is True"),
        ({"padding": -1}, "padding is -1"),
        ({"padding": "full"}, "'same' or 'valid'"),
        ({"groups": 1.5}, "groups is 1.5"),
        ({"padding_mode": "mirror"}, "one of 'zeros', 'reflect'"),
        ({"activation": "gelu"}, "one of None, 'relu'"),
    ],
)
def test_a_wrong_attribute_is_named_with_what_it_must_be(attrs, words):
    with pytest.raises(InputError, match=words):
        conv(**attrs)


def test_an_unknown_operation_is_named():
    with pytest.raises(InputError, match="no operation 'convolve'"):
        Node("x", "convolve", ("input",))


@pytest.mark.parametrize(
    ("shape", "nodes", "output", "words"),
    [
        ((3, 8), (), "input", "input_shape is"),
        ((3, 8, 0), (), "input", "input_shape is"),
        ((3, 8, True), (), "input", "input_shape is"),
        ((3, 8, 8), (conv(), conv()), "conv", "Two nodes of the graph are called 'conv'"),
        ((3, 8, 8), (conv("input"),), "input", "Two nodes"),
        ((3, 8, 8), (conv("a", "b"), conv("b")), "b", "'a' reads 'b', which no earlier node makes"),
        ((3, 8, 8), (conv("a", "a"),), "a", "no earlier node"),
        ((3, 8, 8), (conv(),), "logits", "output is 'logits'"),
    ],
)
def test_a_graph_that_cannot_run_is_refused(shape, nodes, output, words):
    with pytest.raises(InputError, match=words):
        Graph(shape, nodes, output)


NODE = {"name": "a", "op": "relu", "inputs": ["input"], "attrs": {}, "params": {}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda g: [], "must be a JSON object, not list"),
        (lambda g: None, "must be a JSON object"),
        (lambda g: {**g, "nodes": 3}, "needs a list under 'nodes'"),
        (lambda g: {**g, "input_shape": "3x8x8"}, "needs a list under 'input_shape'"),
        (lambda g: {**g, "output": 7}, "needs a text under 'output'"),
        (lambda g: {**g, "nodes": ["relu"]}, "Node 0 of the graph must be a JSON object"),
        (lambda g: {**g, "nodes": [{**NODE, "attrs": []}]}, "needs an object under 'attrs'"),
        (lambda g: {**g, "nodes": [{**NODE, "inputs": [1]}]}, "must be names"),
        (lambda g: {**g, "nodes": [{**NODE, "params": {"weight": 1}}]}, "must be names"),
        (lambda g: {**g, "nodes": [{**NODE, "op": "rely"}]}, "no operation 'rely'"),
        (lambda g: {**g, "input_shape": [1, 2, "3"]}, "input_shape is"),
        (lambda g: {**g, "input_shape": [1, 2, [3]]}, "input_shape is"),
    ],
)
def test_json_that_is_no_graph_is_refused_with_words(change, words):
    good = Graph((3, 8, 8), (Node("a", "relu", ("input",)),), "a").to_json()
    with pytest.raises(InputError, match=words):
        Graph.from_json(change(good))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=6,
)


@given(key=st.sampled_from(["name", "op", "inputs", "attrs", "params"]), value=json_values)
def test_nonsense_anywhere_is_an_input_error_and_nothing_else(key, value):
    node = {"name": "a", "op": "conv2d", "inputs": ["input"], "attrs": CONV, "params": {"weight": "w"}}
    graph = {"input": "input", "input_shape": [3, 8, 8], "output": "a", "nodes": [{**node, key: value}]}
    try:
        Graph.from_json(graph)
    except InputError:
        return
    assert value == node[key] or key in ("name", "params")


@given(name=st.sampled_from(sorted(OPS["conv2d"].attrs)), value=json_values)
def test_a_nonsense_attribute_is_an_input_error_and_nothing_else(name, value):
    try:
        node = conv(**{name: value})
    except InputError:
        return
    assert Graph.from_json(Graph((4, 64, 64), (node,), "conv").to_json()).nodes[0] == node


def chain(*ops):
    """Nodes one behind the other, each called as its operation."""
    sources = ("input", *ops)
    attrs = {"adaptive_avg_pool2d": {"output_size": 1}}
    nodes = tuple(Node(op, op, (source,), attrs.get(op, {})) for op, source in zip(ops, sources, strict=False))
    return Graph((3, 8, 8), nodes, sources[-1])


@pytest.mark.parametrize("behind", [(), ("flatten",), ("identity", "dropout", "flatten"), ("flatten", "dropout")])
@pytest.mark.parametrize("soft", ["softmax", "log_softmax"])
def test_scores_are_what_the_softmax_at_the_end_is_taken_of(soft, behind):
    assert chain("adaptive_avg_pool2d", soft, *behind).scores() == chain("adaptive_avg_pool2d", *behind)
    others = [op for op in behind if op != "flatten"]
    assert chain("flatten", soft, *others).scores() == chain("flatten", *others)


@pytest.mark.parametrize("ops", [(), ("flatten",), ("softmax",), ("relu", "softmax", "flatten"), ("softmax", "relu")])
def test_other_nets_give_their_scores_as_they_are(ops):
    graph = chain(*ops)
    assert graph.scores() is graph


def test_a_softmax_that_the_result_is_made_with_otherwise_stays():
    nodes = (*chain("flatten", "softmax").nodes, Node("gated", "mul", ("flatten", "softmax")))
    graph = Graph((3, 8, 8), nodes, "gated")
    assert graph.scores() is graph


def test_what_the_result_does_not_need_hides_no_softmax():
    graph = chain("adaptive_avg_pool2d", "softmax", "flatten")
    dead = (Node("dead", "relu", ("softmax",)), Node("deader", "add", ("dead", "softmax")))
    longer = Graph(graph.input_shape, (*graph.nodes, *dead), graph.output)
    assert longer.needed() == graph
    assert longer.scores() == graph.scores() == chain("adaptive_avg_pool2d", "flatten")


def test_tensor_names_come_once_and_in_order():
    nodes = (conv("b"), conv("a", "b"), Node("c", "conv2d", ("a",), CONV, {"weight": "b.weight"}))
    assert Graph((4, 8, 8), nodes, "c").tensor_names() == ("b.weight", "a.weight")
