"""A net from an ONNX file, as a graph: the operators that convolutional nets for pictures are exported with."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hapgop.errors import InputError
from hapgop.predict.onnx_shapes import SHAPE_OPS, shape_value
from hapgop.program import Graph, Node, check_tensors
from hapgop.program.sizes import Size, result_sizes

CONFIG_KEY: Final = "hapgop"  # of the metadata
OLDEST: Final = 13  # opset: since then axes of Squeeze and ReduceSum, and splits, are inputs
_DOMAINS: Final = ("", "ai.onnx")  # of the standard's own operators
_TRAINING: Final = "it is in training mode; export the net in evaluation mode"

Tensors = dict[str, NDArray[Any]]


class OnnxNet(NamedTuple):
    """What a file holds, as float32; config: the parts of a run's config.json where `hapgop export` wrote it."""

    graph: Graph
    tensors: Tensors
    config: Mapping[str, Any] | None = None


def read_onnx(path: str | os.PathLike[str]) -> OnnxNet:
    """The net in an ONNX file with opset 13 or newer, for nets from one image to one result.

    Of a file that was exported from a run it is the run's own: as the file says, without its preprocessing and softmax.
    Raises InputError naming the operator and the node that a graph cannot express, and for a file that is none.
    """
    path = Path(path)
    onnx = library(f"{path}: ONNX files are read")
    try:
        model = onnx.load(str(path))
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file.") from error
    except Exception as error:  # what protobuf raises differs from version to version
        raise InputError(f"{path}: damaged, or no ONNX file ({str(error).strip().partition(chr(10))[0]}).") from error
    opset = next((one.version for one in model.opset_import if one.domain in _DOMAINS), 0)
    if opset < OLDEST:
        raise InputError(f"{path}: its opset is {opset}; {OLDEST} or newer is wanted. Export it anew.")
    try:
        config = _config(model)
        reader = _Reader(model.graph, onnx.numpy_helper.to_array, onnx.helper.get_attribute_value)
        graph = reader.graph() if config is None else Graph.from_json(config.get("graph"))
        check_tensors(graph, reader.tensors)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    tensors = {name: reader.tensors[name].astype(np.float32, copy=False) for name in graph.tensor_names()}
    return OnnxNet(graph, tensors, config)


def library(what: str) -> Any:
    """The package onnx. Raises InputError where it is not installed; what: what is done with it."""
    if importlib.util.find_spec("onnx") is None:
        raise InputError(f"{what} with the package onnx: pip install 'hapgop[onnx]' brings it.")
    return importlib.import_module("onnx")


def _config(model: Any) -> Mapping[str, Any] | None:
    text = next((one.value for one in model.metadata_props if one.key == CONFIG_KEY), None)
    if text is None:
        return None
    try:
        config = json.loads(text)
    except ValueError as error:
        raise InputError(f"damaged, its metadata {CONFIG_KEY!r} are no JSON ({error}).") from error
    if not isinstance(config, dict):
        raise InputError(f"damaged, its metadata {CONFIG_KEY!r} must be a JSON object.")
    return config


class _Reader:
    def __init__(self, source: Any, to_array: Callable[[Any], NDArray[Any]], value: Callable[[Any], Any]) -> None:
        self.source, self.to_array, self.value = source, to_array, value
        self.tensors: Tensors = {one.name: to_array(one) for one in source.initializer}
        self.nodes: list[Node] = []
        self.names: dict[str, str] = {}  # of ONNX values: the graph's node
        self.shape: tuple[int, int, int] = (1, 1, 1)
        self.input = "input"

    def graph(self) -> Graph:
        inputs = [one for one in self.source.input if one.name not in self.tensors]
        if len(inputs) != 1 or len(self.source.output) != 1:
            raise InputError(
                f"it has {len(inputs)} inputs and {len(self.source.output)} outputs; one of each is wanted."
            )
        sides = [side.dim_value for side in inputs[0].type.tensor_type.shape.dim]
        if len(sides) != 4 or min(sides[1:]) < 1:
            raise InputError(f"its input {inputs[0].name!r} is {sides}; fixed (n, channels, height, width) is wanted.")
        self.shape = (sides[1], sides[2], sides[3])
        if self.input in {*self.tensors, *(name for node in self.source.node for name in node.output)}:
            self.input = inputs[0].name  # which no node has by the standard
        self.names[inputs[0].name] = self.input
        for node in self.source.node:
            self.node(node)
        output = self.source.output[0].name
        if output not in self.names:
            raise InputError(f"its output {output!r} does not depend on the input.")
        return Graph(self.shape, tuple(self.nodes), self.names[output], self.input).needed()

    def node(self, node: Any) -> None:
        where = f"node {node.name or node.output[0]!r}"
        attrs = {one.name: self.value(one) for one in node.attribute}
        op = node.op_type if node.domain in _DOMAINS else f"{node.domain}.{node.op_type}"
        computed = op in SHAPE_OPS and all(not i or i in self.tensors for i in node.input)
        if not computed and op not in _WORDS:
            raise InputError(f"{where}: the operator {op} is not known here; known are {', '.join(sorted(_WORDS))}.")
        try:
            if computed:
                given = [self.tensors[i] if i else None for i in node.input]
                self.tensors[node.output[0]] = shape_value(op, attrs, given)
            else:
                _WORDS[op](self, node, attrs)
        except (LookupError, TypeError, ValueError) as error:  # InputError is one; the others are NumPy's
            raise InputError(f"{where} ({op}): {error}") from error

    def size(self, name: str) -> Size:
        """Of one image's value."""
        if name not in self.names:
            raise InputError(f"{name!r} is a constant where a value of the net is wanted")
        return result_sizes(Graph(self.shape, tuple(self.nodes), self.names[name], self.input))[self.names[name]]

    def add(self, node: Any, op: str, attrs: Mapping[str, Any] | None = None, **params: str) -> None:
        """A graph's node, on those of the ONNX node's inputs that are values."""
        inputs = tuple(self.names[name] for name in node.input if name in self.names)
        name = node.output[0]
        self.nodes.append(Node(name, op, inputs, attrs or {}, params))
        self.names[name] = name

    def same(self, node: Any) -> None:
        self.names[node.output[0]] = self.names[node.input[0]]

    def constant(self, node: Any, i: int, default: float | None = None) -> Any:
        """The number that an input of the node is."""
        name = node.input[i] if len(node.input) > i else ""
        if not name:
            return default
        if name not in self.tensors:
            raise InputError(f"its input {name!r} has to be a constant")
        return self.tensors[name]

    # Operators

    def literal(self, node: Any, attrs: dict[str, Any]) -> None:
        whole = attrs.get("value")
        self.tensors[node.output[0]] = np.array(*attrs.values()) if whole is None else self.to_array(whole)

    def shape_of(self, node: Any, attrs: dict[str, Any]) -> None:
        """Of a batch of one."""
        sides = (1, *self.size(node.input[0]))
        self.tensors[node.output[0]] = np.array(sides[attrs.get("start", 0) : attrs.get("end")], np.int64)

    def conv(self, node: Any, attrs: dict[str, Any]) -> None:
        weight = self.constant(node, 1)
        if weight is None or weight.ndim != 4:
            raise InputError("only convolutions of images, with constant filters, are known")
        sizes = {
            "out_channels": weight.shape[0],
            "kernel_size": weight.shape[2:],
            "stride": tuple(attrs.get("strides", (1, 1))),
            "padding": _padding(attrs, weight.shape[2:]),
            "dilation": tuple(attrs.get("dilations", (1, 1))),
            "groups": attrs.get("group", 1),
        }
        bias = {"bias": node.input[2]} if len(node.input) > 2 and node.input[2] else {}
        self.add(node, "conv2d", sizes, weight=node.input[1], **bias)

    def conv_transpose(self, node: Any, attrs: dict[str, Any]) -> None:
        weight = self.constant(node, 1)
        if weight is None or weight.ndim != 4:
            raise InputError("only transposed convolutions of images, with constant filters, are known")
        top, bottom, left, right = _padding(attrs, weight.shape[2:])
        if attrs.get("output_shape") or (top, left) != (bottom, right):
            raise InputError("its pads have to be the same on both sides, and output_shape left out")
        groups = attrs.get("group", 1)
        sizes = {
            "out_channels": weight.shape[1] * groups,
            "kernel_size": weight.shape[2:],
            "stride": tuple(attrs.get("strides", (1, 1))),
            "padding": (top, left),
            "output_padding": tuple(attrs.get("output_padding", (0, 0))),
            "dilation": tuple(attrs.get("dilations", (1, 1))),
            "groups": groups,
        }
        bias = {"bias": node.input[2]} if len(node.input) > 2 and node.input[2] else {}
        self.add(node, "conv_transpose2d", sizes, weight=node.input[1], **bias)

    def gemm(self, node: Any, attrs: dict[str, Any]) -> None:
        if attrs.get("alpha", 1.0) != 1 or attrs.get("beta", 1.0) != 1 or attrs.get("transA", 0):
            raise InputError("alpha and beta have to be 1, and transA 0")
        weight, bias = self.constant(node, 1), self.constant(node, 2)
        self.linear(node, weight if attrs.get("transB", 0) else weight.T, bias)

    def matmul(self, node: Any, attrs: dict[str, Any]) -> None:
        weight = self.constant(node, 1)
        if weight is None or weight.ndim != 2:
            raise InputError("only with a constant matrix on the right")
        self.linear(node, weight.T, None)

    def linear(self, node: Any, weight: NDArray[Any], bias: NDArray[Any] | None) -> None:
        name = node.output[0]
        params = {"weight": f"{name}:weight"}
        self.tensors[params["weight"]] = np.ascontiguousarray(weight)
        if bias is not None:
            params["bias"] = f"{name}:bias"
            self.tensors[params["bias"]] = _for_each_channel(bias, (1, weight.shape[0]))
        self.add(node, "linear", {"out_features": weight.shape[0]}, **params)

    def norm(self, node: Any, attrs: dict[str, Any]) -> None:
        if attrs.get("training_mode", 0):
            raise InputError(_TRAINING)
        roles = ("weight", "bias", "running_mean", "running_var")
        params = dict(zip(roles, list(node.input)[1:5], strict=True))
        self.add(node, "batch_norm2d", {"eps": float(attrs.get("epsilon", 1e-5))}, **params)

    def pool(self, node: Any, attrs: dict[str, Any]) -> None:
        kernel = tuple(attrs["kernel_shape"])
        wanted: dict[str, Any] = {
            "kernel_size": kernel,
            "stride": tuple(attrs.get("strides", (1,) * len(kernel))),
            "padding": _padding(attrs, kernel),
            "ceil_mode": bool(attrs.get("ceil_mode", 0)),
        }
        dilation = tuple(attrs.get("dilations", (1, 1)))
        if node.op_type == "MaxPool":
            self.add(node, "max_pool2d", {**wanted, "dilation": dilation})
        elif dilation != (1, 1):
            raise InputError(f"means are known with dilations of 1 alone, not {dilation}")
        else:
            self.add(node, "avg_pool2d", {**wanted, "count_include_pad": bool(attrs.get("count_include_pad", 0))})

    def clip(self, node: Any, attrs: dict[str, Any]) -> None:
        low, high = (float(np.asarray(self.constant(node, i, d))) for i, d in ((1, -np.inf), (2, np.inf)))
        if low != 0 or high not in (6.0, np.inf):
            raise InputError(f"only bounds 0 and 6, or 0 and none, are known, not {low:g} and {high:g}")
        self.add(node, "relu6" if high == 6 else "relu")

    def meet(self, node: Any, attrs: dict[str, Any]) -> None:
        """A sum or product of two values, or of a value and a constant for each channel."""
        constants = [name for name in node.input if name in self.tensors]
        if not constants:
            self.add(node, node.op_type.lower())
            return
        value = next(name for name in node.input if name not in self.tensors)
        size, constant = self.size(value), self.tensors[constants[0]]
        row = _for_each_channel(constant, (1, size[0], *(1,) * (len(size) - 1))).astype(np.float32)
        name = node.output[0]
        ones, zeros = np.ones(size[0], np.float32), np.zeros(size[0], np.float32)
        weight, bias = (row, zeros) if node.op_type == "Mul" else (ones, row)
        roles = {"weight": weight, "bias": bias, "running_mean": zeros, "running_var": ones}
        for role, tensor in roles.items():
            self.tensors[f"{name}:{role}"] = tensor
        self.add(node, "batch_norm2d", {"eps": 0.0}, **{role: f"{name}:{role}" for role in roles})

    def softmax(self, node: Any, attrs: dict[str, Any]) -> None:
        rank = len(self.size(node.input[0])) + 1
        op = "softmax" if node.op_type == "Softmax" else "log_softmax"
        self.add(node, op, {"dim": attrs.get("axis", -1) % rank})

    def reshape(self, node: Any, attrs: dict[str, Any]) -> None:
        """Only what flattens, or changes nothing."""
        size = self.size(node.input[0])
        wanted = [int(side) for side in self.constant(node, 1)]
        count = int(np.prod(size))
        if len(wanted) == 2 and wanted[1] == -1 and wanted[0] > 1:
            raise InputError(f"rows of {wanted[0]} images are no flattening; known are 0, 1 or -1 for the batch")
        if len(wanted) == 2 and wanted[1] in (-1, count):
            if len(size) == 1:
                self.same(node)
            else:
                self.add(node, "flatten")
        elif tuple(wanted[1:]) == size:
            self.same(node)
        else:
            raise InputError(f"only what flattens an image is known, not {size} to {wanted}")

    def squeeze(self, node: Any, attrs: dict[str, Any]) -> None:
        size = self.size(node.input[0])
        axes = self.constant(node, 1)
        if axes is None:  # all that are 1, without the batch: that may be of any size
            axes = [axis for axis, side in enumerate(size, 1) if side == 1]
        axes = sorted(int(axis) % (len(size) + 1) for axis in axes)
        if axes != [2, 3] or size[1:] != (1, 1):
            raise InputError(f"only height and width of 1 are known, not axes {axes} of {size}")
        self.add(node, "flatten")

    def mean(self, node: Any, attrs: dict[str, Any]) -> None:
        axes = attrs.get("axes", self.constant(node, 1))
        if axes is None or sorted(int(axis) % 4 for axis in axes) != [2, 3]:
            raise InputError("only means over height and width are known")
        self.add(node, "mean", {"dim": (2, 3), "keepdim": bool(attrs.get("keepdims", 1))})

    def hardsigmoid(self, node: Any, attrs: dict[str, Any]) -> None:
        alpha, beta = attrs.get("alpha", 0.2), attrs.get("beta", 0.5)
        if abs(alpha - 1 / 6) > 1e-6 or beta != 0.5:
            raise InputError(f"only alpha 1/6 and beta 0.5 are known, not {alpha:g} and {beta:g}")
        self.add(node, "hardsigmoid")

    def concat(self, node: Any, attrs: dict[str, Any]) -> None:
        constant = next((name for name in node.input if name not in self.names), None)
        if constant is not None:
            raise InputError(f"{constant!r} is a constant where a value of the net is wanted")
        self.add(node, "concat", {"dim": attrs["axis"]})

    def leaky(self, node: Any, attrs: dict[str, Any]) -> None:
        self.add(node, "leaky_relu", {"negative_slope": float(attrs.get("alpha", 0.01))})

    def elu(self, node: Any, attrs: dict[str, Any]) -> None:
        self.add(node, "elu", {"alpha": float(attrs.get("alpha", 1.0))})

    def flatten(self, node: Any, attrs: dict[str, Any]) -> None:
        if attrs.get("axis", 1) != 1:
            raise InputError(f"only axis 1 is known, not {attrs['axis']}")
        if len(self.size(node.input[0])) == 1:
            self.same(node)
        else:
            self.add(node, "flatten")

    def global_pool(self, node: Any, attrs: dict[str, Any]) -> None:
        kind = "max" if node.op_type == "GlobalMaxPool" else "avg"
        self.add(node, f"adaptive_{kind}_pool2d", {"output_size": 1})

    def identity(self, node: Any, attrs: dict[str, Any]) -> None:
        """And dropout, unless its third input says that it drops."""
        if np.any(self.constant(node, 2, 0.0)):
            raise InputError(_TRAINING)
        self.same(node)


def _padding(attrs: Mapping[str, Any], kernel: tuple[int, ...]) -> tuple[int, ...]:
    auto = attrs.get("auto_pad", b"NOTSET")
    if auto not in (b"NOTSET", b"VALID"):
        raise InputError(f"auto_pad {auto.decode()} is not known; export with explicit pads")
    if len(kernel) != 2:
        raise InputError("only images, with height and width, are known")
    top, left, bottom, right = attrs.get("pads", (0, 0, 0, 0))
    return (top, bottom, left, right)


def _for_each_channel(constant: NDArray[Any], shape: Size) -> NDArray[Any]:
    """One number for each channel; shape: (1, channels), with a 1 for each further axis of the value."""
    try:
        return np.broadcast_to(constant, shape).flatten()
    except ValueError:
        raise InputError(f"a constant of shape {constant.shape} is none for each of {shape[1]} channels") from None


def _plain(op: str) -> Callable[[_Reader, Any, dict[str, Any]], None]:
    return lambda reader, node, attrs: reader.add(node, op)


_WORDS: Final[Mapping[str, Callable[[_Reader, Any, dict[str, Any]], None]]] = {
    "Constant": _Reader.literal,
    "Shape": _Reader.shape_of,
    "Conv": _Reader.conv,
    "ConvTranspose": _Reader.conv_transpose,
    "Gemm": _Reader.gemm,
    "MatMul": _Reader.matmul,
    "BatchNormalization": _Reader.norm,
    "MaxPool": _Reader.pool,
    "AveragePool": _Reader.pool,
    "GlobalAveragePool": _Reader.global_pool,
    "GlobalMaxPool": _Reader.global_pool,
    "ReduceMean": _Reader.mean,
    "Relu": _plain("relu"),
    "Clip": _Reader.clip,
    "LeakyRelu": _Reader.leaky,
    "Elu": _Reader.elu,
    "Sigmoid": _plain("sigmoid"),
    "Tanh": _plain("tanh"),
    "HardSwish": _plain("hardswish"),
    "HardSigmoid": _Reader.hardsigmoid,
    "Softmax": _Reader.softmax,
    "LogSoftmax": _Reader.softmax,
    "Add": _Reader.meet,
    "Mul": _Reader.meet,
    "Concat": _Reader.concat,
    "Flatten": _Reader.flatten,
    "Reshape": _Reader.reshape,
    "Squeeze": _Reader.squeeze,
    "Dropout": _Reader.identity,
    "Identity": _Reader.identity,
}
