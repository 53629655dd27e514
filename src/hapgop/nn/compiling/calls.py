"""The functions that take the place of PyTorch's in a compiled graph: the faster of theirs and ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from hapgop.nn import functional
from hapgop.nn.accelerating.choosing import chosen

_Function = Callable[..., Any]


def conv2d(
    x: Tensor, w: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1, relu: bool = False,
) -> Tensor:  # fmt: skip
    """A convolution, and the ReLU after it."""
    setting = (stride, padding, dilation, groups, relu)
    name = "conv2d+relu" if relu else "conv2d"
    y: Tensor = chosen(None, name, _conv2d, _torch_conv2d, (x, w, bias), setting)
    return y


def _conv2d(x: Tensor, w: Tensor, bias: Tensor | None, *setting: Any) -> Tensor:
    *rest, relu = setting
    return functional.conv2d(x, w, bias, *rest, activation="relu" if relu else None)


def _torch_conv2d(x: Tensor, w: Tensor, bias: Tensor | None, *setting: Any) -> Tensor:
    *rest, relu = setting
    y = F.conv2d(x, w, bias, *rest)
    return F.relu(y, inplace=True) if relu else y


def conv1d(x: Tensor, w: Tensor, bias: Tensor | None = None, *setting: Any) -> Any:
    return chosen(None, "conv1d", functional.conv1d, F.conv1d, (x, w, bias), setting)


def conv_transpose2d(x: Tensor, w: Tensor, bias: Tensor | None = None, *setting: Any) -> Any:
    name = "conv_transpose2d"
    return chosen(None, name, functional.conv_transpose2d, F.conv_transpose2d, (x, w, bias), setting)


def conv_transpose1d(x: Tensor, w: Tensor, bias: Tensor | None = None, *setting: Any) -> Any:
    name = "conv_transpose1d"
    return chosen(None, name, functional.conv_transpose1d, F.conv_transpose1d, (x, w, bias), setting)


def max_pool2d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:  # fmt: skip
    setting = (kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    return chosen(None, "max_pool2d", functional.max_pool2d, F.max_pool2d, (input,), setting)


def avg_pool2d(input: Tensor, *setting: Any) -> Any:
    return chosen(None, "avg_pool2d", functional.avg_pool2d, F.avg_pool2d, (input,), setting)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Any:
    ours, theirs = functional.adaptive_avg_pool2d, F.adaptive_avg_pool2d
    return chosen(None, "adaptive_avg_pool2d", ours, theirs, (input,), (output_size,))


# Dynamo writes the arguments of most of these by their places; a call with names that ours does not take stays theirs.
_OURS: Final[dict[Any, tuple[_Function, frozenset[str]]]] = {
    F.conv1d: (conv1d, frozenset()),
    F.conv2d: (conv2d, frozenset({"bias", "stride", "padding", "dilation", "groups"})),
    F.conv_transpose1d: (conv_transpose1d, frozenset()),
    F.conv_transpose2d: (conv_transpose2d, frozenset()),
    F.max_pool2d: (max_pool2d, frozenset({"kernel_size", "stride", "padding", "dilation", "ceil_mode"})),
    F.avg_pool2d: (avg_pool2d, frozenset()),
    F.adaptive_avg_pool2d: (adaptive_avg_pool2d, frozenset({"output_size"})),
}


def with_ours(module: fx.GraphModule) -> fx.GraphModule:
    """The same graph, a new one where anything in it can be ours."""
    graph = fx.Graph()
    values: dict[fx.Node, fx.Node] = {}
    output = graph.graph_copy(module.graph, values)
    graph.output(output)
    changed = False
    for node in list(graph.nodes):
        ours, names = _OURS.get(node.target, (None, frozenset())) if node.op == "call_function" else (None, frozenset())
        if ours is None or not names >= set(node.kwargs):
            continue
        changed = True
        node.target = ours
        if ours is conv2d and len(node.users) == 1:
            _with_relu(graph, node)
    return fx.GraphModule(module, graph) if changed else module


def _with_relu(graph: fx.Graph, conv: fx.Node) -> None:
    """Nobody else reads the convolution: its ReLU is done with it."""
    (relu,) = conv.users
    if relu.target in (F.relu, torch.relu, torch.relu_, "relu", "relu_"):
        conv.kwargs = {**conv.kwargs, "relu": True}
        relu.replace_all_uses_with(conv)
        graph.erase_node(relu)
