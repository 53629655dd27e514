"""ONNX files node by node, as the standard allows them and PyTorch's older exporter does not write them."""

import numpy as np
import onnx
import pytest
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.reference import ReferenceEvaluator

from hapgop.errors import InputError
from hapgop.predict import read_onnx
from hapgop.program import run

IMAGE = (4, 3, 2)
ROW = np.arange(5, dtype=np.float32)
WEIGHT = np.arange(120, dtype=np.float32).reshape(24, 5) % 7 - 3
SIZES = {"zero": [0], "one": [1], "rest": [-1]}


def net(*nodes, batch="n", **constants):
    """A net of these nodes from x, images, to y, vectors."""
    pixels = onnx.TensorProto.FLOAT
    graph = make_graph(
        nodes,
        "net",
        [make_tensor_value_info("x", pixels, (batch, *IMAGE))],
        [make_tensor_value_info("y", pixels, ("rows", "columns"))],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return make_model(graph, opset_imports=[make_opsetid("", 19)])


def read(model, path):
    onnx.save(model, path / "net.onnx")
    return read_onnx(path / "net.onnx")


def read_as_it_is(model, path):
    """The graph, having given exactly what the standard's own reference gives."""
    onnx.checker.check_model(model, full_check=True)
    graph, tensors, _ = read(model, path)
    x = np.random.default_rng(1).integers(-4, 5, (2, *IMAGE)).astype(np.float32)
    wanted = ReferenceEvaluator(model).run(None, {"x": x})[0]
    assert np.array_equal(run(graph, tensors, x), wanted)
    return graph


def linear(bias, batch="n"):
    constants = {"w": WEIGHT, "b": np.asarray(bias, np.float32)}
    return net(
        make_node("Flatten", ["x"], ["flat"]), make_node("Gemm", ["flat", "w", "b"], ["y"]), batch=batch, **constants
    )


@pytest.mark.parametrize("bias", [ROW, ROW[None], [3], [[3]], 3], ids=lambda bias: str(np.shape(bias)))
def test_a_bias_of_any_shape_that_is_one_row(bias, tmp_path):
    read_as_it_is(linear(bias), tmp_path)


SHAPE, PART = make_node("Shape", ["x"], ["shape"]), make_node("Shape", ["x"], ["part"], start=0, end=1)
COUNT = make_node("Squeeze", ["part"], ["count"]), make_node("Reshape", ["count", "rest"], ["n"], allowzero=1)
# How many images there are, as files ask for it; the last is the dynamo exporter's way, with optimize=False.
BATCHES = {
    "slice": [SHAPE, make_node("Slice", ["shape", "zero", "one"], ["n"])],
    "slice with axes": [SHAPE, make_node("Slice", ["shape", "zero", "one", "zero"], ["n"])],
    "slice with steps alone": [SHAPE, make_node("Slice", ["shape", "zero", "one", "", "one"], ["n"])],
    "from the end": [make_node("Shape", ["x"], ["n"], end=-3)],
    "start and end": [make_node("Shape", ["x"], ["n"], start=0, end=1)],
    "a number": [PART, *COUNT],
}


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
def test_a_batch_of_any_size_is_flattened(batch, tmp_path):
    nodes = make_node("Concat", ["n", "rest"], ["sizes"], axis=0), make_node("Reshape", ["x", "sizes"], ["y"])
    graph = read_as_it_is(net(*batch, *nodes, **SIZES), tmp_path)
    assert [node.op for node in graph.nodes] == ["flatten"]


def test_squeezing_all_that_is_one(tmp_path):
    read_as_it_is(net(make_node("GlobalMaxPool", ["x"], ["top"]), make_node("Squeeze", ["top"], ["y"])), tmp_path)


def test_constants_are_added(tmp_path):
    bias, flat = make_node("Add", ["b", "c"], ["bias"]), make_node("Flatten", ["x"], ["flat"])
    constants = {"w": WEIGHT, "b": ROW, "c": np.float32(2)}
    read_as_it_is(net(bias, flat, make_node("Gemm", ["flat", "w", "bias"], ["y"]), **constants), tmp_path)


@pytest.mark.parametrize("name", ["node", "weight"])
def test_other_things_may_be_called_input(name, tmp_path):
    flat, weight = ("input", "w") if name == "node" else ("flat", "input")
    nodes = make_node("Flatten", ["x"], [flat]), make_node("MatMul", [flat, weight], ["y"])
    assert read_as_it_is(net(*nodes, **{weight: WEIGHT}), tmp_path).input == "x"


def pooled(dilations):
    pool = make_node("AveragePool", ["x"], ["means"], kernel_shape=[2, 2], dilations=dilations)
    return net(pool, make_node("Flatten", ["means"], ["y"]))


def test_means_with_a_dilation_of_one(tmp_path):
    read_as_it_is(pooled([1, 1]), tmp_path)


def test_what_the_output_does_not_need_is_not_read(tmp_path):
    nodes = [
        make_node("Flatten", ["x"], ["flat"]),
        make_node("MatMul", ["flat", "w"], ["scores"]),
        make_node("Softmax", ["scores"], ["y"]),
    ]
    wanted = read_as_it_is(net(nodes[0], nodes[1], make_node("Identity", ["scores"], ["y"]), w=WEIGHT), tmp_path)
    found = read(net(*nodes, make_node("Gemm", ["flat", "w"], ["dead"]), w=WEIGHT), tmp_path)
    assert found.graph == read(net(*nodes, w=WEIGHT), tmp_path).graph
    assert found.graph.scores() == wanted
    assert list(found.tensors) == ["scores:weight"]


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_weights_of_any_precision_become_float32(kind, tmp_path):
    nodes = make_node("Flatten", ["x"], ["flat"]), make_node("Gemm", ["flat", "w", "b"], ["y"])
    found = read(net(*nodes, w=WEIGHT.astype(kind), b=ROW.astype(kind)), tmp_path)
    assert {array.dtype for array in found.tensors.values()} == {np.dtype(np.float32)}
    assert np.array_equal(found.tensors["y:bias"], ROW)


def behind(node, **constants):
    """A net that flattens what a node gives."""
    return net(node, make_node("Flatten", [node.output[0]], ["y"]), batch=1, **constants)


EACH = {name: np.ones(4, np.float32) for name in "abcd"}
NORM = make_node("BatchNormalization", ["x", *EACH], ["normed", "mean", "var"], training_mode=1)
DROP = make_node("Dropout", ["x", "half", "on"], ["dropped"])
WIDER = make_node("Concat", ["x", "edge"], ["wider"], axis=1)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (pooled([2, 1]), r"'means' \(AveragePool\): means are known with dilations of 1 alone, not \(2, 1\)"),
        (linear(np.ones((2, 5)), batch=2), r"'y' \(Gemm\): a constant of shape \(2, 5\) is none for each of 5"),
        (behind(NORM, **EACH), r"'normed' \(BatchNormalization\): it is in training mode; export the net in eval"),
        (behind(DROP, half=np.float32(0.5), on=True), r"'dropped' \(Dropout\): it is in training mode; export"),
        (behind(WIDER, edge=np.ones((1, 1, *IMAGE[1:]), np.float32)), r"'wider' \(Concat\): 'edge' is a constant"),
    ],
    ids=["AveragePool", "Gemm", "BatchNormalization", "Dropout", "Concat"],
)
def test_what_the_standard_allows_and_a_graph_does_not_is_named(model, words, tmp_path):
    onnx.checker.check_model(model, full_check=True)
    with pytest.raises(InputError, match=rf"net\.onnx: node {words}"):
        read(model, tmp_path)


@pytest.mark.parametrize(
    "node",
    [
        make_node("Gather", ["one", "seven"], ["here"]),
        make_node("Slice", ["one", "zero"], ["here"]),
        make_node("Squeeze", ["one", "seven"], ["here"]),
        make_node("Reshape", ["x"], ["here"]),
        make_node("Shape", ["zero"], ["here"]),
    ],
    ids=lambda node: node.op_type,
)
def test_what_does_not_fit_is_named(node, tmp_path):
    with pytest.raises(InputError, match=rf"net\.onnx: node 'here' \({node.op_type}\): "):
        read(net(node, make_node("Flatten", ["x"], ["y"]), **SIZES, seven=[7]), tmp_path)
