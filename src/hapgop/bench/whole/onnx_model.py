"""A graph as an ONNX model, for the peers that read those."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from hapgop.bench.peers.peer import library
from hapgop.errors import InputError
from hapgop.program import Node
from hapgop.program.sizes import Size, conv_shape, pool_shape, result_sizes

_OPSET, _IR = 17, 9


def onnx_model(task: Any) -> Any:
    """The model of a task, from `x` to `y`, in standard operators. Raises InputError for what it cannot say."""
    onnx = library("onnx")
    graph, sizes = task.graph, result_sizes(task.graph)
    writer = _Writer(onnx.helper, sizes)
    for node in graph.nodes:
        if node.op not in _WORDS:
            raise InputError(f"{node.name!r} ({node.op}): bench nets writes no ONNX for it")
        _WORDS[node.op](writer, node)
    writer.add("Identity", [graph.output], "y")
    names = [name for node in graph.nodes for name in node.params.values()]
    weights = [onnx.numpy_helper.from_array(np.ascontiguousarray(task.tensors[n]), n) for n in dict.fromkeys(names)]
    weights += [onnx.numpy_helper.from_array(array, name) for name, array in writer.constants.items()]
    n = task.batch
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [n, *size])
        for name, size in ((graph.input, graph.input_shape), ("y", sizes[graph.output]))
    ]
    made = onnx.helper.make_graph(writer.nodes, task.name, ends[:1], ends[1:], weights)
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", _OPSET)], ir_version=_IR)


class _Writer:
    def __init__(self, helper: Any, sizes: Mapping[str, Size]) -> None:
        self.helper, self.sizes = helper, sizes
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def add(self, op: str, inputs: list[str], output: str, **attrs: Any) -> None:
        self.nodes.append(self.helper.make_node(op, inputs, [output], **attrs))

    def number(self, value: float) -> str:
        name = f"number:{value!r}"
        self.constants[name] = np.array(value, np.float32)
        return name

    def conv(self, node: Node) -> None:
        s = conv_shape(node, self.sizes[node.inputs[0]])
        setting = {"kernel_shape": [s.kh, s.kw], "strides": [*s.stride], "dilations": [*s.dilation], "group": s.groups}
        self.sum(node, "Conv", **setting, pads=_pads(s.padding))

    def linear(self, node: Node) -> None:
        self.sum(node, "Gemm", transB=1)

    def sum(self, node: Node, op: str, **attrs: Any) -> None:
        roles = [node.params[role] for role in ("weight", "bias") if role in node.params]
        relu = node.attrs["activation"] == "relu"
        self.add(op, [node.inputs[0], *roles], f"{node.name}:sum" if relu else node.name, **attrs)
        if relu:
            self.add("Relu", [f"{node.name}:sum"], node.name)

    def norm(self, node: Node) -> None:
        roles = [node.params[role] for role in ("weight", "bias", "running_mean", "running_var")]
        self.add("BatchNormalization", [node.inputs[0], *roles], node.name, epsilon=node.attrs["eps"])

    def pool(self, node: Node) -> None:
        size = self.sizes[node.inputs[0]]
        s = pool_shape(node, size)
        if s is None:
            raise InputError(f"{node.name!r}: pools of windows of unequal size have no word in ONNX")
        if (s.kh, s.kw) == size[1:] and node.op != "max_pool2d":
            self.add("GlobalAveragePool", [node.inputs[0]], node.name)
            return
        setting: dict[str, Any] = {"kernel_shape": [s.kh, s.kw], "strides": [*s.stride], "pads": _pads(s.padding)}
        setting["ceil_mode"] = int(node.attrs.get("ceil_mode", False))
        if node.op == "max_pool2d":
            self.add("MaxPool", [node.inputs[0]], node.name, dilations=[*s.dilation], **setting)
        else:
            count = int(node.attrs.get("count_include_pad", True))
            self.add("AveragePool", [node.inputs[0]], node.name, count_include_pad=count, **setting)

    def relu6(self, node: Node) -> None:
        self.add("Clip", [node.inputs[0], self.number(0), self.number(6)], node.name)

    def times_and_plus(self, node: Node) -> None:
        self.add("Mul", [node.inputs[0], self.number(node.attrs["factor"])], f"{node.name}:product")
        self.add("Add", [f"{node.name}:product", self.number(node.attrs["term"])], node.name)

    def silu(self, node: Node) -> None:
        self.add("Sigmoid", [node.inputs[0]], f"{node.name}:gate")
        self.add("Mul", [node.inputs[0], f"{node.name}:gate"], node.name)

    def mean(self, node: Node) -> None:
        size = self.sizes[node.name]
        whole = f"{node.name}:mean" if len(size) == 1 else node.name
        self.add("GlobalAveragePool", [node.inputs[0]], whole)
        if len(size) == 1:
            self.add("Flatten", [whole], node.name, axis=1)


def _pads(padding: tuple[int, int, int, int]) -> list[int]:
    top, bottom, left, right = padding
    return [top, left, bottom, right]


def _as(op: str, **attrs: Any) -> Callable[[_Writer, Node], None]:
    return lambda writer, node: writer.add(op, [*node.inputs], node.name, **attrs)


_WORDS: Final[Mapping[str, Callable[[_Writer, Node], None]]] = {
    "conv2d": _Writer.conv,
    "linear": _Writer.linear,
    "batch_norm2d": _Writer.norm,
    "max_pool2d": _Writer.pool,
    "avg_pool2d": _Writer.pool,
    "adaptive_avg_pool2d": _Writer.pool,
    "relu6": _Writer.relu6,
    "silu": _Writer.silu,
    "number": _Writer.times_and_plus,
    "mean": _Writer.mean,
    "relu": _as("Relu"),
    "hardswish": _as("HardSwish"),
    "hardsigmoid": _as("HardSigmoid", alpha=1 / 6, beta=0.5),
    "sigmoid": _as("Sigmoid"),
    "tanh": _as("Tanh"),
    "softmax": _as("Softmax", axis=1),
    "add": _as("Add"),
    "mul": _as("Mul"),
    "concat": _as("Concat", axis=1),
    "flatten": _as("Flatten", axis=1),
    "dropout": _as("Identity"),
    "identity": _as("Identity"),
}
