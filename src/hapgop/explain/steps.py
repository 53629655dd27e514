"""A graph in PyTorch's operators: for derivatives, which the engine's programs for prediction do not have."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from hapgop.program import Graph, Node
from hapgop.program.sizes import adaptive_size, conv_shape, mean_axes, pool_shape
from hapgop.shape import PoolShape

_PAD_MODES = {"reflect": "reflect", "replicate": "replicate", "circular": "circular"}

_UNARY: Final[Mapping[str, Callable[[Tensor, Mapping[str, Any]], Tensor]]] = {
    "relu": lambda x, a: F.relu(x),
    "relu6": lambda x, a: F.relu6(x),
    "leaky_relu": lambda x, a: F.leaky_relu(x, a["negative_slope"]),
    "elu": lambda x, a: F.elu(x, a["alpha"]),
    "silu": lambda x, a: F.silu(x),
    "gelu": lambda x, a: F.gelu(x, approximate=a["approximate"]),
    "hardswish": lambda x, a: F.hardswish(x),
    "hardsigmoid": lambda x, a: F.hardsigmoid(x),
    "sigmoid": lambda x, a: torch.sigmoid(x),
    "tanh": lambda x, a: torch.tanh(x),
    "softmax": lambda x, a: torch.softmax(x, a["dim"]),
    "log_softmax": lambda x, a: torch.log_softmax(x, a["dim"]),
    "flatten": lambda x, a: torch.flatten(x, 1),
    "dropout": lambda x, a: x,
    "identity": lambda x, a: x,
}


class Step(nn.Module):
    """One node, as a module, so that hooks and attribution methods can get hold of its result."""

    def __init__(self, node: Node, tensors: Mapping[str, NDArray[Any]]) -> None:
        super().__init__()
        self.node = node
        for role, name in node.params.items():
            # A copy: what is on disk is often mapped for reading only.
            self.register_buffer(role, torch.tensor(np.array(tensors[name], np.float32)))

    def forward(self, *given: Tensor) -> Tensor:
        node, x = self.node, given[0]
        if node.op in _UNARY:
            return _UNARY[node.op](x, node.attrs)
        if node.op == "add":
            return x + given[1]
        if node.op == "mul":
            return x * given[1]
        if node.op == "concat":
            return torch.cat(given, 1)
        if node.op == "mean":
            return x.mean(tuple(mean_axes(node)), keepdim=node.attrs["keepdim"])
        if node.op == "batch_norm2d":
            mean, var = self.get_buffer("running_mean"), self.get_buffer("running_var")
            return F.batch_norm(x, mean, var, self._maybe("weight"), self._maybe("bias"), eps=node.attrs["eps"])
        if node.op == "linear":
            return self._activated(F.linear(x, self.get_buffer("weight"), self._maybe("bias")))
        if node.op == "pointwise":
            weight = self.get_buffer("weight")[:, :, None, None]
            return self._activated(F.conv2d(x, weight, self._maybe("bias")))
        if node.op == "scale":
            return x * self.get_buffer("weight").reshape(-1, *(1,) * (x.ndim - 2))
        if node.op == "number":
            return x * node.attrs["factor"] + node.attrs["term"]
        if node.op == "layer_norm":
            affine = self._maybe("weight"), self._maybe("bias")
            return F.layer_norm(x.movedim(1, -1), x.shape[1:2], *affine, node.attrs["eps"]).movedim(-1, 1)
        if node.op == "conv2d":
            return self._activated(self._conv(x))
        if node.op == "conv_transpose2d":
            a, weight = node.attrs, self.get_buffer("weight")
            setting = (a["stride"], a["padding"], a["output_padding"], a["groups"], a["dilation"])
            return self._activated(F.conv_transpose2d(x, weight, self._maybe("bias"), *setting))
        size = tuple(x.shape[1:])
        if node.op == "adaptive_avg_pool2d":
            return F.adaptive_avg_pool2d(x, adaptive_size(node, size))
        if node.op == "adaptive_max_pool2d":
            return F.adaptive_max_pool2d(x, adaptive_size(node, size))
        shape = pool_shape(node, size)
        assert shape is not None
        return _max_pool(x, shape) if node.op == "max_pool2d" else _avg_pool(x, shape, node.attrs["count_include_pad"])

    def _maybe(self, role: str) -> Tensor | None:
        return self.get_buffer(role) if role in self.node.params else None

    def _activated(self, y: Tensor) -> Tensor:
        name = self.node.attrs["activation"]
        return y if name is None else _UNARY[name](y, {})

    def _conv(self, x: Tensor) -> Tensor:
        a = self.node.attrs
        top, bottom, left, right = conv_shape(self.node, tuple(x.shape[1:])).padding
        x = F.pad(x, (left, right, top, bottom), mode=_PAD_MODES.get(a["padding_mode"], "constant"))
        weight, bias = self.get_buffer("weight"), self._maybe("bias")
        return F.conv2d(x, weight, bias, a["stride"], 0, a["dilation"], a["groups"])


class Steps(nn.Module):
    """The whole graph; `steps[i]` is its node i. Called on (n, c, h, w), it gives the graph's output."""

    def __init__(self, graph: Graph, tensors: Mapping[str, NDArray[Any]]) -> None:
        super().__init__()
        self.graph = graph
        self.steps = nn.ModuleList(Step(node, tensors) for node in graph.nodes)

    def forward(self, x: Tensor) -> Tensor:
        return self.until(x, self.graph.output)[self.graph.output]

    def until(self, x: Tensor, layer: str) -> dict[str, Tensor]:
        """Every result up to `layer`."""
        values = {self.graph.input: x}
        for node, step in zip(self.graph.nodes, self.steps, strict=True):
            values[node.name] = step(*(values[name] for name in node.inputs))
            if node.name == layer:
                break
        return values


def _covered(x: Tensor, shape: PoolShape, before: tuple[int, int], value: float) -> Tensor:
    """With `before` (top, left) more, and padded or cut at the far edges to exactly what the windows cover."""
    top, left = before
    rows = (shape.oh - 1) * shape.stride[0] + (shape.kh - 1) * shape.dilation[0] + 1
    columns = (shape.ow - 1) * shape.stride[1] + (shape.kw - 1) * shape.dilation[1] + 1
    return F.pad(x, (left, columns - left - x.shape[3], top, rows - top - x.shape[2]), value=value)


def _max_pool(x: Tensor, shape: PoolShape) -> Tensor:
    covered = _covered(x, shape, (shape.padding[0], shape.padding[2]), -float("inf"))
    return F.max_pool2d(covered, (shape.kh, shape.kw), shape.stride, dilation=shape.dilation)


def _avg_pool(x: Tensor, shape: PoolShape, count_include_pad: bool) -> Tensor:
    """Sums over counts: what counts is the input, and the padding too where the layer says so."""
    kernel, (top, bottom, left, right) = (shape.kh, shape.kw), shape.padding
    counted = F.pad(torch.ones(1, 1, *x.shape[2:]), (left, right, top, bottom), value=1.0 if count_include_pad else 0.0)
    sums = F.avg_pool2d(_covered(x, shape, (top, left), 0.0), kernel, shape.stride, divisor_override=1)
    return sums / F.avg_pool2d(_covered(counted, shape, (0, 0), 0.0), kernel, shape.stride, divisor_override=1)
