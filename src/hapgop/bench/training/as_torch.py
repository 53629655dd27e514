"""The same net by PyTorch's own operators: a graph, run in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hapgop.errors import InputError
from hapgop.program import Graph, Node

_MOMENTUM = 0.1  # PyTorch's default, and ours


class GraphNet(nn.Module):
    """A captured net, computed by `torch.nn.functional`; its tensors are copies of those given."""

    def __init__(self, graph: Graph, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.graph = graph
        for name in graph.tensor_names():
            copy = tensors[name].detach().clone(memory_format=torch.contiguous_format)
            if "running" in name:
                self.register_buffer(_attribute(name), copy)
            else:
                self.register_parameter(_attribute(name), nn.Parameter(copy))

    def forward(self, x: Tensor) -> Tensor:
        values = {self.graph.input: x}
        for node in self.graph.nodes:
            own = {role: getattr(self, _attribute(name)) for role, name in node.params.items()}
            values[node.name] = _COMPUTE[node.op](node, *(values[name] for name in node.inputs), **own)
        return values[self.graph.output]


def checked(graph: Graph) -> Graph:
    """The graph itself. Raises InputError where it has an operation that is not trained here."""
    missing = sorted({node.op for node in graph.nodes} - set(_COMPUTE))
    if missing:
        raise InputError(f"the net has {', '.join(missing)}, which this benchmark cannot train")
    return graph


def _attribute(name: str) -> str:
    return name.replace(".", "__")


def _conv(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    a = node.attrs
    y = F.conv2d(x, weight, bias, a["stride"], a["padding"], a["dilation"], a["groups"])
    return F.relu_(y) if a["activation"] == "relu" else y


def _linear(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    y = F.linear(x, weight, bias)
    return F.relu_(y) if node.attrs["activation"] == "relu" else y


def _norm(node: Node, x: Tensor, running_mean: Tensor, running_var: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.batch_norm(x, running_mean, running_var, weight, bias, True, _MOMENTUM, node.attrs["eps"])


def _max_pool(node: Node, x: Tensor) -> Tensor:
    a = node.attrs
    y: Tensor = F.max_pool2d(x, a["kernel_size"], a["stride"], a["padding"])
    return y


_COMPUTE: Final[Mapping[str, Callable[..., Any]]] = {
    "conv2d": _conv,
    "linear": _linear,
    "batch_norm2d": _norm,
    "max_pool2d": _max_pool,
    "adaptive_avg_pool2d": lambda node, x: F.adaptive_avg_pool2d(x, node.attrs["output_size"]),
    "relu": lambda node, x: F.relu_(x),
    "add": lambda node, x, y: x + y,
    "flatten": lambda node, x: torch.flatten(x, 1),
    "dropout": lambda node, x: x,
    "identity": lambda node, x: x,
}
