"""A graph computed by PyTorch's own operators: what users of PyTorch run, and the reference in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hapgop.errors import InputError
from hapgop.program import Graph, Node

_UNARY: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {
    "relu": F.relu, "relu6": F.relu6, "silu": F.silu, "hardswish": F.hardswish, "hardsigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid, "tanh": torch.tanh,
}  # fmt: skip


_LAYERS: Final = (
    "conv2d", "linear", "pointwise", "gelu", "batch_norm2d", "layer_norm", "scale", "max_pool2d", "avg_pool2d",
    "adaptive_avg_pool2d",
)  # fmt: skip


class PlainNet(nn.Module):
    """The module; parameters are called as in the graph, with dots as underscores."""

    def __init__(self, graph: Graph, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.graph = graph
        for name, tensor in tensors.items():
            self.register_buffer(name.replace(".", "_"), tensor)
        for node in graph.nodes:
            if node.op not in (*_UNARY, *_OTHERS, *_LAYERS):
                raise InputError(f"{node.name!r} ({node.op}): bench nets does not know this operation")

    def forward(self, x: Tensor) -> Tensor:
        values = {self.graph.input: x}
        for node in self.graph.nodes:
            values[node.name] = self.node(node, *[values[name] for name in node.inputs])
        return values[self.graph.output]

    def tensor(self, node: Node, role: str) -> Tensor | None:
        name = node.params.get(role)
        tensor: Tensor | None = None if name is None else getattr(self, name.replace(".", "_"))
        return tensor

    def node(self, node: Node, x: Tensor, *rest: Tensor) -> Tensor:
        a = node.attrs
        if node.op in _UNARY:
            return _UNARY[node.op](x)
        if node.op == "gelu":
            return F.gelu(x, approximate=a["approximate"])
        if node.op in _OTHERS:
            return _OTHERS[node.op](a, x, *rest)
        weight, bias = self.tensor(node, "weight"), self.tensor(node, "bias")
        if node.op in ("conv2d", "linear", "pointwise"):
            assert weight is not None
            if node.op == "linear":
                y = F.linear(x, weight, bias)
            elif node.op == "pointwise":
                y = F.linear(x.movedim(1, -1), weight, bias).movedim(-1, 1)
            else:
                y = F.conv2d(x, weight, bias, a["stride"], a["padding"], a["dilation"], a["groups"])
            return F.relu(y) if a["activation"] == "relu" else y
        if node.op == "layer_norm":
            # Over the channels: the last axis for the while.
            return F.layer_norm(x.movedim(1, -1), x.shape[1:2], weight, bias, a["eps"]).movedim(-1, 1)
        if node.op == "scale":
            assert weight is not None
            return x * weight.reshape(-1, *(1,) * (x.dim() - 2))
        if node.op == "batch_norm2d":
            return F.batch_norm(
                x, self.tensor(node, "running_mean"), self.tensor(node, "running_var"), weight, bias, eps=a["eps"]
            )
        if node.op == "adaptive_avg_pool2d":
            return F.adaptive_avg_pool2d(x, a["output_size"])
        if node.op == "max_pool2d":
            return F.max_pool2d(x, a["kernel_size"], a["stride"], a["padding"], a["dilation"], a["ceil_mode"])
        return F.avg_pool2d(x, a["kernel_size"], a["stride"], a["padding"], a["ceil_mode"], a["count_include_pad"])


_OTHERS: Final[Mapping[str, Callable[..., Tensor]]] = {
    "add": lambda a, x, y: x + y,
    "mul": lambda a, x, y: x * y,
    "number": lambda a, x: x * a["factor"] + a["term"],
    "concat": lambda a, *xs: torch.cat(xs, a["dim"]),
    "flatten": lambda a, x: torch.flatten(x, 1),
    "mean": lambda a, x: x.mean(a["dim"], keepdim=a["keepdim"]),
    "softmax": lambda a, x: F.softmax(x, a["dim"]),
    "dropout": lambda a, x: x,
    "identity": lambda a, x: x,
}


def channels_last(net: Any) -> Any:
    """The net with its filters in that memory order, which its results then have too."""
    return net.to(memory_format=torch.channels_last)
