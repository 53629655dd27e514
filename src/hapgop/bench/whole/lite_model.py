"""A graph as a LiteRT model: its operators, channels last, as the flat buffer that the format is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hapgop.bench.peers.peer import library
from hapgop.errors import InputError
from hapgop.program import Node, fold
from hapgop.program.sizes import Size, conv_shape, pool_shape, result_sizes

_VERSION = 3
# What a sum of two maps, or of products, can end with in the same operator.
_ENDS: Final[Mapping[str, str]] = {"relu": "RELU", "relu6": "RELU6"}
_WITH_END = ("conv2d", "linear", "add")


def lite_model(task: Any) -> bytes:
    """The model of a task, batch norms folded. Raises InputError for what it cannot say."""
    graph, tensors = fold(task.graph, task.tensors)
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    writer = _Writer(result_sizes(graph), tensors, task.batch)
    writer.tensor(graph.input)
    # An activation that is the only reader of such a result is computed with it, as LiteRT's own converter has it.
    endless = {n.name for n in graph.nodes if n.op in _WITH_END and n.attrs.get("activation") is None}
    for node in graph.nodes:
        if node.op in _ENDS and node.inputs[0] in endless and readers[node.inputs[0]] == 1:
            writer.ends[node.inputs[0]] = node
    ended = {end.name for end in writer.ends.values()}
    for node in graph.nodes:
        if node.op not in _WORDS:
            raise InputError(f"{node.name!r} ({node.op}): bench nets has no LiteRT operator for it")
        if node.name not in ended:
            _WORDS[node.op](writer, node)
    return writer.written(graph.input, graph.output)


class _Writer:
    def __init__(self, sizes: Mapping[str, Size], tensors: Mapping[str, NDArray[Any]], batch: int) -> None:
        self.schema: Any = library("ai_edge_litert.schema_py_generated")
        self.sizes, self.weights, self.batch = sizes, tensors, batch
        self.ends: dict[str, Node] = {}
        self.indices: dict[str, int] = {}
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [self.schema.BufferT()]
        self.codes: list[str] = []
        self.operators: list[Any] = []
        # Vectors that are maps (c, h, w) one after another lie otherwise here, and the next linear layer's columns too.
        self.flattened: dict[str, Size] = {}

    def tensor(self, name: str, size: Sequence[int] | None = None) -> int:
        """The number of a result; its size is the graph's, channels last, where none is given."""
        if name not in self.indices:
            self.indices[name] = self._tensor(name, self.last(self.sizes[name]) if size is None else size, 0, "FLOAT32")
        return self.indices[name]

    def constant(self, name: str, array: NDArray[Any]) -> int:
        """The number of a tensor with values."""
        if name not in self.indices:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
            self.buffers.append(buffer)
            kind = {"float32": "FLOAT32", "int32": "INT32"}[str(array.dtype)]
            self.indices[name] = self._tensor(name, array.shape, len(self.buffers) - 1, kind)
        return self.indices[name]

    def _tensor(self, name: str, size: Sequence[int], buffer: int, kind: str) -> int:
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, [int(n) for n in size], buffer
        tensor.type = getattr(self.schema.TensorType, kind)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def last(self, size: Size) -> tuple[int, ...]:
        return (self.batch, *size[1:], size[0])

    def add(self, op: str, inputs: Sequence[int], output: int, kind: str | None = None, **options: Any) -> None:
        """One operator; kind: the name of its table of options, which `options` fill."""
        operator, schema = self.schema.OperatorT(), self.schema
        if op not in self.codes:
            self.codes.append(op)
        operator.opcodeIndex = self.codes.index(op)
        operator.inputs, operator.outputs = list(inputs), [output]
        if kind is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = getattr(schema, f"{kind}T")()
            for name, value in options.items():
                setattr(operator.builtinOptions, name, value)
        self.operators.append(operator)

    def end(self, node: Node) -> tuple[int, int]:
        """(the activation's code, the number of the result that has it)."""
        kinds, end = self.schema.ActivationFunctionType, self.ends.get(node.name)
        if end is not None:
            return getattr(kinds, _ENDS[end.op]), self.tensor(end.name)
        return kinds.RELU if node.attrs.get("activation") == "relu" else kinds.NONE, self.tensor(node.name)

    def padded(self, node: Node, padding: tuple[int, int, int, int], value: float = 0.0) -> int:
        """The number of the node's input with rows and columns around it."""
        source, size = node.inputs[0], self.last(self.sizes[node.inputs[0]])
        if not any(padding):
            return self.tensor(source)
        top, bottom, left, right = padding
        wide = self.tensor(f"{node.name}:padded", (size[0], size[1] + top + bottom, size[2] + left + right, size[3]))
        pads = self.constant(f"pads:{padding}", np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32))
        if value == 0:
            self.add("PAD", [self.tensor(source), pads], wide, "PadOptions")
        else:
            filling = self.constant(f"number:{value}", np.array([value], np.float32))
            self.add("PADV2", [self.tensor(source), pads, filling], wide, "PadV2Options")
        return wide

    def conv(self, node: Node) -> None:
        size = self.sizes[node.inputs[0]]
        s = conv_shape(node, size)
        weight, bias = self.weights[node.params["weight"]], self._bias(node, s.oc)
        code, result = self.end(node)
        options = {"strideH": s.stride[0], "strideW": s.stride[1], "fusedActivationFunction": code}
        options |= {"dilationHFactor": s.dilation[0], "dilationWFactor": s.dilation[1]}
        top, bottom, left, right = s.padding
        # "Same" puts the odd row last; with these the ends are even, and no map is copied to have a border.
        same = all(
            n == 1 and low == high and low + high == dilation * (k - 1)
            for n, low, high, dilation, k in zip(
                s.stride, (top, left), (bottom, right), s.dilation, (s.kh, s.kw), strict=True
            )
        )
        options["padding"] = self.schema.Padding.SAME if same else self.schema.Padding.VALID
        x = self.tensor(node.inputs[0]) if same else self.padded(node, s.padding)
        if s.groups == size[0] and s.groups > 1:
            w = self.constant(f"{node.name}:filters", weight.reshape(1, s.oc, s.kh, s.kw).transpose(0, 2, 3, 1))
            options["depthMultiplier"] = s.oc // s.groups
            self.add("DEPTHWISE_CONV_2D", [x, w, bias], result, "DepthwiseConv2DOptions", **options)
        else:
            w = self.constant(f"{node.name}:filters", weight.transpose(0, 2, 3, 1))
            self.add("CONV_2D", [x, w, bias], result, "Conv2DOptions", **options)

    def linear(self, node: Node) -> None:
        weight = self.weights[node.params["weight"]]
        if (size := self.flattened.get(node.inputs[0])) is not None:
            weight = weight.reshape(len(weight), *size).transpose(0, 2, 3, 1).reshape(len(weight), -1)
        code, result = self.end(node)
        inputs = [self.tensor(node.inputs[0]), self.constant(f"{node.name}:weight", weight)]
        inputs.append(self._bias(node, len(weight)))
        self.add("FULLY_CONNECTED", inputs, result, "FullyConnectedOptions", fusedActivationFunction=code)

    def _bias(self, node: Node, count: int) -> int:
        bias = node.params.get("bias")
        return self.constant(f"{node.name}:bias", np.zeros(count, np.float32) if bias is None else self.weights[bias])

    def pool(self, node: Node) -> None:
        size = self.sizes[node.inputs[0]]
        s = pool_shape(node, size)
        if s is None or node.attrs.get("ceil_mode"):
            raise InputError(f"{node.name!r}: bench nets has no LiteRT operator for windows of unequal size")
        average = node.op != "max_pool2d"
        if average and (s.kh, s.kw) == size[1:] and not any(s.padding):
            self.mean(node)
            return
        if average and any(s.padding) and not node.attrs.get("count_include_pad", True):
            raise InputError(f"{node.name!r}: bench nets has no LiteRT operator for means without the padding")
        options = {"filterHeight": s.kh, "filterWidth": s.kw, "strideH": s.stride[0], "strideW": s.stride[1]}
        x = self.padded(node, s.padding, 0.0 if average or node.inputs[0] in self._positive() else float("-inf"))
        options["padding"] = self.schema.Padding.VALID
        kind = "AVERAGE_POOL_2D" if average else "MAX_POOL_2D"
        self.add(kind, [x], self.tensor(node.name), "Pool2DOptions", **options)

    def _positive(self) -> set[str]:
        """The results that are never negative, as an activation ends them: zeros around them change no maximum."""
        kinds = self.schema.ActivationFunctionType
        ended = {
            operator.outputs[0]
            for operator in self.operators
            if getattr(operator.builtinOptions, "fusedActivationFunction", kinds.NONE) in (kinds.RELU, kinds.RELU6)
        }
        return {name for name, index in self.indices.items() if index in ended}

    def mean(self, node: Node) -> None:
        axes = self.constant("axes", np.array([1, 2], np.int32))
        keep = len(self.sizes[node.name]) == 3
        self.add("MEAN", [self.tensor(node.inputs[0]), axes], self.tensor(node.name), "ReducerOptions", keepDims=keep)

    def flatten(self, node: Node) -> None:
        size = self.sizes[node.inputs[0]]
        if len(size) == 3 and size[1:] != (1, 1):
            self.flattened[node.name] = size
        shape = self.last(self.sizes[node.name])
        inputs = [self.tensor(node.inputs[0]), self.constant(f"shape:{shape}", np.array(shape, np.int32))]
        self.add("RESHAPE", inputs, self.tensor(node.name), "ReshapeOptions", newShape=list(shape))

    def both(self, node: Node) -> None:
        code, result = self.end(node)
        kind = node.op.upper()
        inputs = [self.tensor(name) for name in node.inputs]
        self.add(kind, inputs, result, f"{kind.title()}Options", fusedActivationFunction=code)

    def silu(self, node: Node) -> None:
        x = self.tensor(node.inputs[0])
        gate = self.tensor(f"{node.name}:gate", self.last(self.sizes[node.name]))
        self.add("LOGISTIC", [x], gate)
        self.add("MUL", [x, gate], self.tensor(node.name), "MulOptions")

    def concat(self, node: Node) -> None:
        axis = len(self.sizes[node.name])
        inputs = [self.tensor(name) for name in node.inputs]
        self.add("CONCATENATION", inputs, self.tensor(node.name), "ConcatenationOptions", axis=axis)

    def softmax(self, node: Node) -> None:
        self.add("SOFTMAX", [self.tensor(node.inputs[0])], self.tensor(node.name), "SoftmaxOptions", beta=1.0)

    def same(self, node: Node) -> None:
        """What does nothing in prediction: its result is its input."""
        self.indices[node.name] = self.tensor(node.inputs[0])
        if (size := self.flattened.get(node.inputs[0])) is not None:
            self.flattened[node.name] = size

    def written(self, first: str, last: str) -> bytes:
        schema, flat = self.schema, library("flatbuffers")
        part = schema.SubGraphT()
        part.tensors, part.operators = self.tensors, self.operators
        part.inputs, part.outputs = [self.indices[first]], [self.indices[last]]
        model = schema.ModelT()
        model.version, model.subgraphs, model.buffers = _VERSION, [part], self.buffers
        model.operatorCodes = [self._code(op) for op in self.codes]
        builder = flat.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _code(self, op: str) -> Any:
        code = self.schema.OperatorCodeT()
        code.builtinCode = getattr(self.schema.BuiltinOperator, op)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        return code


def _as(op: str) -> Callable[[_Writer, Node], None]:
    return lambda writer, node: writer.add(op, [writer.tensor(node.inputs[0])], writer.tensor(node.name))


_WORDS: Final[Mapping[str, Callable[[_Writer, Node], None]]] = {
    "conv2d": _Writer.conv,
    "linear": _Writer.linear,
    "max_pool2d": _Writer.pool,
    "avg_pool2d": _Writer.pool,
    "adaptive_avg_pool2d": _Writer.pool,
    "mean": _Writer.mean,
    "flatten": _Writer.flatten,
    "add": _Writer.both,
    "mul": _Writer.both,
    "concat": _Writer.concat,
    "softmax": _Writer.softmax,
    "silu": _Writer.silu,
    "relu": _as("RELU"),
    "relu6": _as("RELU6"),
    "hardswish": _as("HARD_SWISH"),
    "sigmoid": _as("LOGISTIC"),
    "tanh": _as("TANH"),
    "dropout": _Writer.same,
    "identity": _Writer.same,
}
