"""A graph at work: node by node, channels last, the heavy ones through the engine."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hapgop.algorithms import Problem
from hapgop.engine import Refused, prepare
from hapgop.errors import InputError
from hapgop.oracle import avg_pool, conv, grad_x, max_pool
from hapgop.program.elementwise import UNARY, Array, layer_norm, scale_and_shift
from hapgop.program.graph import Graph, Node
from hapgop.program.sizes import (
    Size,
    adaptive_size,
    by,
    conv_shape,
    parameter_sizes,
    pool_shape,
    result_sizes,
    transposed_shape,
)
from hapgop.shape import ConvShape, PoolShape

Tensors = Mapping[str, NDArray[Any]]
Observe = Callable[[str, Array], None]

_PAD_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
_refused: Counter[str] = Counter()


def run(graph: Graph, tensors: Tensors, x: NDArray[Any], *, observe: Observe | None = None) -> Array:
    """The net's output for a batch: x (n, c, h, w) of floats to float32 (n, ...).

    observe: called with each node's name and result, in running order; the array is the net's own memory, so
    copy what is to be kept or changed. Each result is dropped as soon as no later node reads it.
    Raises InputError where x or a tensor does not fit the graph, naming it.
    """
    if x.ndim != 4 or x.shape[1:] != graph.input_shape or x.dtype.kind != "f":
        raise InputError(
            f"The net reads floats of shape (n, {', '.join(map(str, graph.input_shape))}), not {x.dtype} of {x.shape}."
        )
    sizes = check_tensors(graph, tensors)
    if x.shape[0] == 0:
        return np.zeros((0, *sizes[graph.output]), np.float32)
    last_reader = {name: node.name for node in graph.nodes for name in node.inputs}
    values: dict[str, Array] = {graph.input: _channels_last(x)}
    for node in graph.nodes:
        y = compute(node, [values[name] for name in node.inputs], tensors)
        values[node.name] = y
        if observe is not None:
            observe(node.name, y)
        for name in {*node.inputs, node.name}:
            if last_reader.get(name, node.name) == node.name and name != graph.output:
                del values[name]
    return values[graph.output]


def check_tensors(graph: Graph, tensors: Tensors) -> dict[str, Size]:
    """The shapes of all results, after every parameter was found with the shape that its node needs.

    Raises InputError naming the tensor and its node.
    """
    sizes = result_sizes(graph)
    for node in graph.nodes:
        for role, wanted in parameter_sizes(node, sizes[node.inputs[0]]).items():
            name = node.params[role]
            if name not in tensors:
                raise InputError(f"the tensor {name!r} ({role} of {node.op} {node.name!r}) is missing.")
            if tensors[name].shape != wanted:
                raise InputError(
                    f"the tensor {name!r} ({role} of {node.op} {node.name!r}) is {by(tensors[name].shape)},"
                    f" but {by(wanted)} is wanted."
                )
    return sizes


def refusals() -> dict[str, int]:
    """How often a problem that the engine refused was computed by its slow definition, by reason."""
    return dict(_refused)


def compute(node: Node, given: list[Array], tensors: Tensors) -> Array:
    """One node's result for a batch."""
    x, *rest = given
    if node.op in UNARY:
        return UNARY[node.op](x, node.attrs)
    if node.op == "add":
        return x + rest[0]
    if node.op == "mul":
        return x * rest[0]
    if node.op == "concat":
        return np.concatenate(given, axis=1)
    if node.op == "batch_norm2d":
        return _batch_norm(node, x, tensors)
    if node.op == "layer_norm":
        return layer_norm(x, node.attrs, *(_tensor(node, role, tensors) for role in ("weight", "bias")))
    if node.op == "scale":
        return x * tensors[node.params["weight"]].reshape(-1, *(1,) * (x.ndim - 2))
    if node.op == "pointwise":
        n, ic, h, w = x.shape
        return _conv(node, ConvShape(n, ic, h, w, node.attrs["out_features"], 1, 1), x, tensors)
    if node.op == "linear":
        n, features = x.shape
        shape = ConvShape(n, features, 1, 1, node.attrs["out_features"], 1, 1)
        return _conv(node, shape, x.reshape(n, features, 1, 1), tensors).reshape(n, -1)
    if node.op == "conv2d":
        return _conv(node, conv_shape(node, x.shape[1:], x.shape[0]), x, tensors)
    if node.op == "conv_transpose2d":
        return _conv_transpose(node, transposed_shape(node, x.shape[1:], x.shape[0]), x, tensors)
    pool = pool_shape(node, x.shape[1:], x.shape[0])
    return _adaptive(node, x) if pool is None else _pool(node, pool, x)


def _conv(node: Node, shape: ConvShape, x: Array, tensors: Tensors) -> Array:
    mode = _PAD_MODES.get(node.attrs.get("padding_mode", "zeros"))
    if mode is not None and any(shape.padding):
        top, bottom, left, right = shape.padding
        x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), mode=mode)  # type: ignore[call-overload]
        shape = ConvShape.of(x.shape, shape.w_shape, stride=shape.stride, dilation=shape.dilation, groups=shape.groups)
    x = _channels_last(x)
    w = np.ascontiguousarray(tensors[node.params["weight"]], np.float32).reshape(shape.w_shape)
    name = node.params.get("bias")
    bias = None if name is None else np.ascontiguousarray(tensors[name], np.float32)
    y = _empty(shape.y_shape)
    activation = node.attrs["activation"]
    problem = Problem("conv", shape, bias=bias is not None, activation=activation)
    try:
        prepared = prepare(problem)
    except Refused as reason:
        _refused[f"conv: {reason}"] += 1
        y[...] = conv(x, w, bias, shape=shape)
        return np.maximum(y, np.float32(0), out=y) if activation == "relu" else y
    prepared(x.ctypes.data, w.ctypes.data, 0 if bias is None else bias.ctypes.data, y.ctypes.data)
    return y


def _conv_transpose(node: Node, shape: ConvShape, x: Array, tensors: Tensors) -> Array:
    x = _channels_last(x)
    w = np.ascontiguousarray(tensors[node.params["weight"]], np.float32)
    bias = _tensor(node, "bias", tensors)
    addends = [] if bias is None else [np.ascontiguousarray(bias, np.float32)]
    y = _empty(shape.x_shape)
    problem = Problem("grad_x", shape, bias=bias is not None, activation=node.attrs["activation"])
    try:
        prepared = prepare(problem)
    except Refused as reason:
        _refused[f"grad_x: {reason}"] += 1
        y[...] = grad_x(x, w, shape=shape)
        for one in addends:
            y += one[:, None, None]
        return np.maximum(y, np.float32(0), out=y) if node.attrs["activation"] == "relu" else y
    prepared(x.ctypes.data, w.ctypes.data, *(one.ctypes.data for one in addends), y.ctypes.data)
    return y


def _pool(node: Node, shape: PoolShape, x: Array) -> Array:
    x, y = _channels_last(x), _empty(shape.y_shape)
    largest = node.op.endswith("max_pool2d")
    count = bool(node.attrs.get("count_include_pad", True))
    if largest:
        problem = Problem("max_pool", shape, winners=False)
    else:
        problem = Problem("avg_pool", shape, count_include_pad=count)
    try:
        prepared = prepare(problem)
    except Refused as reason:
        _refused[f"{problem.op}: {reason}"] += 1
        y[...] = max_pool(x, shape)[0] if largest else avg_pool(x, shape, count)
        return y
    prepared(x.ctypes.data, y.ctypes.data, *([0] if largest else []))
    return y


def _adaptive(node: Node, x: Array) -> Array:
    """Windows from floor(i * h / oh) to ceil((i + 1) * h / oh), as in PyTorch."""
    (oh, ow), (h, w) = adaptive_size(node, x.shape[1:]), x.shape[2:]
    largest = node.op == "adaptive_max_pool2d"
    y = _empty((*x.shape[:2], oh, ow))
    for i in range(oh):
        rows = x[:, :, i * h // oh : -(-(i + 1) * h // oh)]
        for j in range(ow):
            window = rows[..., j * w // ow : -(-(j + 1) * w // ow)]
            y[:, :, i, j] = window.max((2, 3)) if largest else window.mean((2, 3), dtype=np.float64)
    return y


def _batch_norm(node: Node, x: Array, tensors: Tensors) -> Array:
    mean, var = tensors[node.params["running_mean"]], tensors[node.params["running_var"]]
    weight, bias = (_tensor(node, role, tensors) for role in ("weight", "bias"))
    scale, shift = scale_and_shift(mean, var, weight, bias, node.attrs["eps"])
    one_each = (-1, *(1,) * (x.ndim - 2))
    y: Array = x * scale.astype(np.float32).reshape(one_each)
    y += shift.astype(np.float32).reshape(one_each)
    return y


def _tensor(node: Node, role: str, tensors: Tensors) -> NDArray[Any] | None:
    return tensors[node.params[role]] if role in node.params else None


def _empty(shape: tuple[int, int, int, int]) -> Array:
    n, c, h, w = shape
    return np.empty((n, h, w, c), np.float32).transpose(0, 3, 1, 2)


def _channels_last(x: NDArray[Any]) -> Array:
    """The same values as float32, dense with channels last in memory; no copy where they are so already."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1), np.float32).transpose(0, 3, 1, 2)
