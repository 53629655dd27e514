"""A graph in ONNX's words: for each of its operations one function, each result under its node's own name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from hapgop.export import pools
from hapgop.export.writer import Writer
from hapgop.program import Graph, Node
from hapgop.program.sizes import (
    Size,
    conv_shape,
    mean_axes,
    padded_otherwise,
    pair,
    result_sizes,
    transposed_shape,
)

Sizes = Mapping[str, Size]
Write = Callable[[Writer, Node, Sizes], Any]


def write_graph(writer: Writer, graph: Graph) -> str:
    """Adds a graph's nodes, on the value that is called as its input is; returns the name of its result.

    The tensors keep their names: those of `graph.tensor_names()` belong to the model. Raises InputError for a graph
    whose shapes do not fit.
    """
    sizes = result_sizes(graph)
    for node in graph.nodes:
        _WORDS[node.op](writer, node, sizes)
    return graph.output


def _conv(w: Writer, node: Node, sizes: Sizes) -> None:
    x, s = node.inputs[0], conv_shape(node, sizes[node.inputs[0]])
    padding = s.padding
    if padded_otherwise(node):
        x, padding = _padded(w, x, padding, node.attrs["padding_mode"]), (0, 0, 0, 0)
    top, bottom, left, right = padding
    _summed(
        w, node, "Conv", x, node.params["weight"],
        kernel_shape=[s.kh, s.kw], strides=[*s.stride], dilations=[*s.dilation], group=s.groups,
        pads=[top, left, bottom, right],
    )  # fmt: skip


def _conv_transpose(w: Writer, node: Node, sizes: Sizes) -> None:
    s = transposed_shape(node, sizes[node.inputs[0]])
    top, bottom, left, right = s.padding
    _summed(
        w, node, "ConvTranspose", node.inputs[0], node.params["weight"],
        kernel_shape=[s.kh, s.kw], strides=[*s.stride], dilations=[*s.dilation], group=s.groups,
        pads=[top, left, bottom, right], output_padding=[*pair(node.attrs["output_padding"])],
    )  # fmt: skip


def _padded(w: Writer, x: str, padding: tuple[int, int, int, int], mode: str) -> str:
    top, bottom, left, right = padding
    if mode != "circular":
        pads = w.constant([0, 0, top, left, 0, 0, bottom, right], np.int64)
        return w.add("Pad", [x, pads], mode={"replicate": "edge"}.get(mode, mode))
    # A word for this came with opset 19, which fewer runtimes read.
    for axis, before, after in ((2, top, bottom), (3, left, right)):
        parts = [w.sliced(x, axis, -before, np.iinfo(np.int64).max)] if before else []
        parts += [x, *([w.sliced(x, axis, 0, after)] if after else [])]
        x = w.add("Concat", parts, axis=axis)
    return x


def _linear(w: Writer, node: Node, sizes: Sizes) -> None:
    _summed(w, node, "Gemm", node.inputs[0], node.params["weight"], transB=1)


def _pointwise(w: Writer, node: Node, sizes: Sizes) -> None:
    weight = w.add("Unsqueeze", [node.params["weight"], w.constant([2, 3], np.int64)])
    _summed(w, node, "Conv", node.inputs[0], weight, kernel_shape=[1, 1])


def _summed(w: Writer, node: Node, op: str, x: str, weight: str, **attrs: Any) -> None:
    bias = [node.params["bias"]] if "bias" in node.params else []
    if node.attrs["activation"] is None:
        w.add(op, [x, weight, *bias], node.name, **attrs)
    else:
        w.add("Relu", [w.add(op, [x, weight, *bias], f"{node.name}:sum", **attrs)], node.name)


def _batch_norm(w: Writer, node: Node, sizes: Sizes) -> None:
    channels = sizes[node.inputs[0]][0]
    otherwise = {"weight": np.ones(channels), "bias": np.zeros(channels)}
    given = [node.params.get(role) or w.constant(values) for role, values in otherwise.items()]
    statistics = [node.params["running_mean"], node.params["running_var"]]
    w.add("BatchNormalization", [node.inputs[0], *given, *statistics], node.name, epsilon=float(node.attrs["eps"]))


def _layer_norm(w: Writer, node: Node, sizes: Sizes) -> None:
    x, size = node.inputs[0], sizes[node.inputs[0]]
    weight = node.params.get("weight") or w.constant(np.ones(size[0]))
    bias = [node.params["bias"]] if "bias" in node.params else []
    setting: dict[str, Any] = {"axis": -1, "epsilon": float(node.attrs["eps"])}
    if len(size) == 1:
        w.add("LayerNormalization", [x, weight, *bias], node.name, **setting)
        return
    last = w.add("Transpose", [x], perm=[0, 2, 3, 1])
    w.add("Transpose", [w.add("LayerNormalization", [last, weight, *bias], **setting)], node.name, perm=[0, 3, 1, 2])


def _scale(w: Writer, node: Node, sizes: Sizes) -> None:
    weight = node.params["weight"]
    if len(sizes[node.inputs[0]]) == 3:
        weight = w.add("Unsqueeze", [weight, w.constant([1, 2], np.int64)])
    w.add("Mul", [node.inputs[0], weight], node.name)


def _number(w: Writer, node: Node, sizes: Sizes) -> None:
    product = w.add("Mul", [node.inputs[0], w.constant(node.attrs["factor"])])
    w.add("Add", [product, w.constant(node.attrs["term"])], node.name)


def _relu6(w: Writer, node: Node, sizes: Sizes) -> None:
    w.add("Clip", [node.inputs[0], w.constant(0), w.constant(6)], node.name)


def _silu(w: Writer, node: Node, sizes: Sizes) -> None:
    w.add("Mul", [node.inputs[0], w.add("Sigmoid", [node.inputs[0]])], node.name)


def _gelu(w: Writer, node: Node, sizes: Sizes) -> None:
    x = node.inputs[0]
    if node.attrs["approximate"] == "tanh":
        cube = w.add("Mul", [w.add("Mul", [x, x]), x])
        inner = w.add("Add", [w.add("Mul", [cube, w.constant(0.044715)]), x])
        bent = w.add("Tanh", [w.add("Mul", [inner, w.constant(np.sqrt(2 / np.pi))])])
    else:
        bent = w.add("Erf", [w.add("Mul", [x, w.constant(np.sqrt(0.5))])])
    half = w.add("Mul", [x, w.constant(0.5)])
    w.add("Mul", [half, w.add("Add", [bent, w.constant(1)])], node.name)


def _mean(w: Writer, node: Node, sizes: Sizes) -> None:
    axes = mean_axes(node)
    if axes != {2, 3}:
        w.add("ReduceMean", [node.inputs[0], w.constant(sorted(axes), np.int64)], node.name, keepdims=1)
    elif node.attrs["keepdim"]:
        w.add("GlobalAveragePool", [node.inputs[0]], node.name)
    else:
        w.add("Flatten", [w.add("GlobalAveragePool", [node.inputs[0]])], node.name, axis=1)


def _as(op: str, *named: str, **attrs: Any) -> Write:
    """An operation that ONNX has as it is; named: a number of the node, and what it is called there."""

    def write(w: Writer, node: Node, sizes: Sizes) -> None:
        theirs = {named[1]: float(node.attrs[named[0]])} if named else {}
        w.add(op, node.inputs, node.name, **attrs, **theirs)

    return write


_WORDS: Final[Mapping[str, Write]] = {
    "conv2d": _conv,
    "conv_transpose2d": _conv_transpose,
    "linear": _linear,
    "pointwise": _pointwise,
    "max_pool2d": pools.write_pool,
    "avg_pool2d": pools.write_pool,
    "adaptive_avg_pool2d": pools.write_pool,
    "adaptive_max_pool2d": pools.write_pool,
    "batch_norm2d": _batch_norm,
    "layer_norm": _layer_norm,
    "scale": _scale,
    "number": _number,
    "relu": _as("Relu"),
    "relu6": _relu6,
    "leaky_relu": _as("LeakyRelu", "negative_slope", "alpha"),
    "elu": _as("Elu", "alpha", "alpha"),
    "silu": _silu,
    "gelu": _gelu,
    "hardswish": _as("HardSwish"),
    "hardsigmoid": _as("HardSigmoid", alpha=1 / 6, beta=0.5),
    "sigmoid": _as("Sigmoid"),
    "tanh": _as("Tanh"),
    "softmax": _as("Softmax", axis=1),
    "log_softmax": _as("LogSoftmax", axis=1),
    "add": _as("Add"),
    "mul": _as("Mul"),
    "concat": _as("Concat", axis=1),
    "flatten": _as("Flatten", axis=1),
    "mean": _mean,
    "dropout": _as("Identity"),
    "identity": _as("Identity"),
}
