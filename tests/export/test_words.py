"""Every operation of a graph in ONNX's words: what the format's own reference makes of them is what the graph says."""

import numpy as np
import onnx
import pytest

from hapgop.export import Value, Writer, write_graph
from hapgop.nn import capture, nets
from hapgop.predict import read_onnx
from hapgop.program import Graph, Node, run
from hapgop.program.ops import OPS
from hapgop.program.sizes import parameter_sizes, result_sizes

IMAGE, VECTOR = (4, 9, 7), (6,)
WIDER = {"stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2), "dilation": (2, 1)}
UNEVEN = {"stride": 3, "padding": 1, "ceil_mode": True}
NORM = ("weight", "bias", "running_mean", "running_var")
CASES = [
    ("conv2d", IMAGE, {"out_channels": 6, "kernel_size": (3, 2), "stride": (2, 1), "padding": (0, 2, 1, 0)}, NORM[:1]),
    ("conv2d", IMAGE, {"out_channels": 8, "kernel_size": 3, "groups": 4, "dilation": 2, "padding": "same"}, NORM[:2]),
    ("conv2d", IMAGE, {"out_channels": 2, "kernel_size": 1, "activation": "relu"}, NORM[:2]),
    *(
        ("conv2d", IMAGE, {"out_channels": 2, "kernel_size": 3, "padding": padding, "padding_mode": mode}, NORM[:2])
        for mode in ("reflect", "replicate", "circular")
        for padding in (2, (2, 0), (0, 1))
    ),
    ("conv_transpose2d", IMAGE, {"out_channels": 6, "kernel_size": 3, "stride": 2, "padding": 1}, NORM[:2]),
    ("conv_transpose2d", IMAGE, {"out_channels": 6, "kernel_size": (4, 2), **WIDER, "activation": "relu"}, NORM[:1]),
    ("linear", VECTOR, {"out_features": 3}, NORM[:2]),
    ("linear", VECTOR, {"out_features": 3, "activation": "relu"}, ("weight",)),
    ("pointwise", IMAGE, {"out_features": 5, "activation": "relu"}, NORM[:2]),
    ("max_pool2d", IMAGE, {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2}, ()),
    ("max_pool2d", IMAGE, {"kernel_size": 2, "ceil_mode": True}, ()),
    ("max_pool2d", IMAGE, {"kernel_size": (9, 7)}, ()),
    ("avg_pool2d", IMAGE, {"kernel_size": 3, "stride": 2, "padding": 1}, ()),
    *(
        ("avg_pool2d", IMAGE, {"kernel_size": k, **UNEVEN, "count_include_pad": c}, ())
        for k in (2, 4)
        for c in (True, False)
    ),
    ("avg_pool2d", IMAGE, {"kernel_size": (9, 7)}, ()),
    ("adaptive_avg_pool2d", IMAGE, {"output_size": 1}, ()),
    ("adaptive_avg_pool2d", IMAGE, {"output_size": (4, 3)}, ()),
    ("adaptive_max_pool2d", IMAGE, {"output_size": (3, 1)}, ()),
    ("adaptive_max_pool2d", IMAGE, {"output_size": (4, None)}, ()),
    ("batch_norm2d", IMAGE, {"eps": 0.01}, NORM),
    ("batch_norm2d", VECTOR, {}, NORM[2:]),
    ("batch_norm2d", IMAGE, {"eps": 0}, NORM),
    ("layer_norm", IMAGE, {"eps": 0.01}, NORM[:2]),
    ("layer_norm", VECTOR, {}, ()),
    ("layer_norm", VECTOR, {"eps": 0}, ()),
    ("scale", IMAGE, {}, ("weight",)),
    ("scale", VECTOR, {}, ("weight",)),
    ("number", IMAGE, {"factor": -2.0, "term": 0.5}, ()),
    ("leaky_relu", IMAGE, {"negative_slope": 0.2}, ()),
    ("leaky_relu", IMAGE, {"negative_slope": 2}, ()),
    ("elu", IMAGE, {"alpha": 0.5}, ()),
    ("elu", IMAGE, {"alpha": 2}, ()),
    ("gelu", IMAGE, {"approximate": "none"}, ()),
    ("gelu", IMAGE, {"approximate": "tanh"}, ()),
    ("softmax", IMAGE, {}, ()),
    ("log_softmax", VECTOR, {}, ()),
    ("add", IMAGE, {}, ()),
    ("mul", IMAGE, {}, ()),
    ("concat", IMAGE, {}, ()),
    ("flatten", IMAGE, {}, ()),
    ("flatten", VECTOR, {}, ()),
    ("mean", IMAGE, {"dim": (2, 3)}, ()),
    ("mean", IMAGE, {"dim": (-1, -2), "keepdim": True}, ()),
    ("mean", IMAGE, {"dim": 2, "keepdim": True}, ()),
    *((op, IMAGE, {}, ()) for op in ("relu", "relu6", "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh")),
    *((op, IMAGE, {}, ()) for op in ("dropout", "identity")),
]


def test_every_operation_is_here():
    assert {op for op, *_ in CASES} == OPS.keys()


def written(graph, tensors):
    writer = Writer()
    result = write_graph(writer, graph)
    takes = Value(graph.input, np.float32, ("n", *graph.input_shape))
    gives = Value(result, np.float32, ("n", *result_sizes(graph)[result]))
    return writer.model("net", takes, gives, tensors)


def drawn(shapes):
    chance = np.random.default_rng(3)
    # Variances among them, which are positive.
    return {name: chance.uniform(0.2, 2, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize(("op", "size", "attrs", "roles"), CASES)
def test_the_reference_gives_what_the_graph_says(op, size, attrs, roles, answered):
    # A vector comes from an image, as everything in a graph does.
    before = (Node("flat", "flatten", ("input",)),) if len(size) == 1 else ()
    source = before[-1].name if before else "input"
    inputs = (source, source) if op in ("add", "mul", "concat") else (source,)
    node = Node("here", op, inputs, attrs, {role: f"here.{role}" for role in roles})
    graph = Graph(size if len(size) == 3 else (size[0], 1, 1), (*before, node), "here")
    tensors = drawn({f"here.{role}": shape for role, shape in parameter_sizes(node, size).items()})
    x = 3 * np.random.default_rng(4).standard_normal((2, *graph.input_shape), np.float32)
    found, wanted = answered(written(graph, tensors), x), run(graph, tensors, x)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 2e-5 * max(1, np.abs(wanted).max())


def test_a_gate_for_each_channel_is_spread_over_the_image(answered):
    nodes = (Node("gate", "mean", ("input",), {"dim": (2, 3), "keepdim": True}), Node("y", "mul", ("input", "gate")))
    graph = Graph(IMAGE, nodes, "y")
    x = np.random.default_rng(5).standard_normal((2, *IMAGE), np.float32)
    assert np.abs(answered(written(graph, {}), x) - run(graph, {}, x)).max() < 1e-5


@pytest.mark.parametrize(
    ("name", "shape"), [("lenet5", (1, 28, 28)), ("airbench", (3, 32, 32)), ("resnet20", (3, 8, 8))]
)
def test_nets_that_ship(name, shape, answered):
    module = nets.build(name, classes=5, input_shape=shape).eval()
    graph = capture(module, shape)
    tensors = {key: module.state_dict()[key].numpy() for key in graph.tensor_names()}
    x = np.random.default_rng(6).standard_normal((2, *shape), np.float32)
    found, wanted = answered(written(graph, tensors), x), run(graph, tensors, x)
    assert np.abs(found - wanted).max() <= 1e-4 * max(1, np.abs(wanted).max())


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_a_constant_in_a_file_of_others_is_written_again(op, answered, tmp_path):
    theirs = Writer()
    theirs.add(op, ["x", theirs.constant([[[1]], [[-2]], [[3]], [[0.5]]])], "y")
    model = theirs.model("theirs", *(Value(name, np.float32, ("n", *IMAGE)) for name in "xy"), {})
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    graph, tensors, _ = read_onnx(tmp_path / "net.onnx")
    x = np.random.default_rng(8).integers(-4, 5, (2, *IMAGE)).astype(np.float32)
    assert (answered(written(graph, tensors), x) == answered(model, x)).all()


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_a_file_of_another_precision_is_written_as_float32(kind, answered, tmp_path):
    theirs = Writer()
    theirs.add("Conv", ["x", "w"], "y", kernel_shape=[1, 1])
    values = Value("x", kind, ("n", *IMAGE)), Value("y", kind, ("n", 2, *IMAGE[1:]))
    model = theirs.model("theirs", *values, {"w": np.arange(8).reshape(2, 4, 1, 1).astype(kind)})
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    graph, tensors, _ = read_onnx(tmp_path / "net.onnx")
    ours = written(graph, tensors)
    assert {one.data_type for one in ours.graph.initializer} == {onnx.TensorProto.FLOAT}
    x = np.random.default_rng(9).integers(-4, 5, (2, *IMAGE)).astype(np.float32)
    assert (answered(ours, x) == run(graph, tensors, x)).all()


def test_groups_of_transposed_convolutions(tmp_path):
    """Of which the reference knows one alone: read back by what reads the files of others."""
    node = Node("here", "conv_transpose2d", ("input",), {"out_channels": 6, "kernel_size": 3, **WIDER, "groups": 2},
                {"weight": "w", "bias": "b"})  # fmt: skip
    graph = Graph(IMAGE, (node,), "here")
    tensors = drawn({"w": (4, 3, 3, 3), "b": (6,)})
    (tmp_path / "net.onnx").write_bytes(written(graph, tensors).SerializeToString())
    again, read, _ = read_onnx(tmp_path / "net.onnx")
    x = np.random.default_rng(7).standard_normal((2, *IMAGE), np.float32)
    assert again.nodes[0].attrs["groups"] == 2
    assert (run(again, read, x) == run(graph, tensors, x)).all()


def test_equal_constants_are_written_once():
    writer = Writer()
    assert writer.constant([1, 2]) == writer.constant(np.array([1.0, 2.0]))
    assert len({writer.constant([1, 2]), writer.constant([1, 2], np.int64), writer.constant([[1, 2]])}) == 3
