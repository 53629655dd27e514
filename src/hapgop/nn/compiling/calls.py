"""The functions that take the place of PyTorch's in a compiled graph: the faster of theirs and ours."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.nn import functional as F

from hapgop.nn import functional
from hapgop.nn.accelerating.choosing import chosen
from hapgop.nn.accelerating.norms import normed

_Function = Callable[..., Any]


def conv2d(
    x: Tensor, w: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1, relu: bool = False,
) -> Tensor:  # fmt: skip
    """A convolution, and the ReLU after it."""
    setting = (stride, padding, dilation, groups, relu)
    name = "conv2d+relu" if relu else "conv2d"
    y: Tensor = chosen((), name, _conv2d, _torch_conv2d, (x, w, bias), setting)
    return y


def _conv2d(x: Tensor, w: Tensor, bias: Tensor | None, *setting: Any) -> Tensor:
    *rest, relu = setting
    return functional.conv2d(x, w, bias, *rest, activation="relu" if relu else None)


def _torch_conv2d(x: Tensor, w: Tensor, bias: Tensor | None, *setting: Any) -> Tensor:
    *rest, relu = setting
    y = F.conv2d(x, w, bias, *rest)
    return F.relu(y, inplace=True) if relu else y


def conv1d(x: Tensor, w: Tensor, bias: Tensor | None = None, *setting: Any) -> Any:
    return chosen((), "conv1d", functional.conv1d, F.conv1d, (x, w, bias), setting)


def conv_transpose2d(x: Tensor, w: Tensor, bias: Tensor | None = None, *setting: Any) -> Any:
    name = "conv_transpose2d"
    return chosen((), name, functional.conv_transpose2d, F.conv_transpose2d, (x, w, bias), setting)


def conv_transpose1d(x: Tensor, w: Tensor, bias: Tensor | None = None, *setting: Any) -> Any:
    name = "conv_transpose1d"
    return chosen((), name, functional.conv_transpose1d, F.conv_transpose1d, (x, w, bias), setting)


def max_pool2d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:  # fmt: skip
    setting = (kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    return chosen((), "max_pool2d", functional.max_pool2d, F.max_pool2d, (input,), setting)


def avg_pool2d(input: Tensor, *setting: Any) -> Any:
    return chosen((), "avg_pool2d", functional.avg_pool2d, F.avg_pool2d, (input,), setting)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Any:
    ours, theirs = functional.adaptive_avg_pool2d, F.adaptive_avg_pool2d
    return chosen((), "adaptive_avg_pool2d", ours, theirs, (input,), (output_size,))


def batch_norm(
    x: Tensor, mean: Tensor | None, var: Tensor | None, weight: Tensor | None, bias: Tensor | None, training: bool,
    share: float, eps: float, relu: bool = False, residual: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """In training, with the addition and the ReLU after it."""
    return normed((), x, (mean, var), weight, bias, share, eps, relu, residual)


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
        if node.op != "call_function":
            continue
        if node.target is F.batch_norm and len(node.args) == 8 and node.args[5] is True:
            changed = True
            node.target = batch_norm
            _with_relu(graph, _with_sum(graph, node))
            continue
        ours, names = _OURS.get(node.target, (None, frozenset()))
        if ours is None or not names >= set(node.kwargs):
            continue
        changed = True
        node.target = ours
        if ours is conv2d:
            _with_relu(graph, node)
    return fx.GraphModule(module, graph) if changed else module


_RELUS: Final = (F.relu, torch.relu, torch.relu_, "relu", "relu_")
_IN_PLACE: Final = (operator.iadd, "add_")
_SUMS: Final = (operator.add, torch.add, "add", *_IN_PLACE)


def _with_relu(graph: fx.Graph, node: fx.Node) -> None:
    """Where nobody else reads the result, its ReLU is done with it."""
    if len(node.users) != 1:
        return
    (relu,) = node.users
    if relu.target in _RELUS:
        node.kwargs = {**node.kwargs, "relu": True}
        relu.replace_all_uses_with(node)
        graph.erase_node(relu)


def _with_sum(graph: fx.Graph, norm: fx.Node) -> fx.Node:
    """Where nobody else reads the result, what is added to it is added with it: a node in the place of the sum."""
    if len(norm.users) != 1 or not isinstance(norm.args[0], fx.Node) or len(norm.args[0].users) != 1:
        return norm
    (total,) = norm.users
    others = [given for given in total.args if given is not norm]
    # Of a sum with itself both are the norm.
    if total.target not in _SUMS or total.kwargs or len(total.args) != 2 or len(others) != 1:
        return norm
    if total.target in _IN_PLACE and total.args[0] is not norm:
        return norm  # the other one is written over, and may have other names
    other = others[0]
    if not isinstance(other, fx.Node) or not _alike(other, norm):
        return norm
    if any(isinstance(running, fx.Node) and len(running.users) > 1 for running in norm.args[1:3]):
        return norm  # a norm that is called twice, and which moves its statistics in this order
    with graph.inserting_before(total):
        together = graph.call_function(batch_norm, norm.args, {"residual": other})
    together.meta = dict(total.meta)
    total.replace_all_uses_with(together)
    graph.erase_node(total)
    graph.erase_node(norm)
    return together


def _alike(a: fx.Node, b: fx.Node) -> bool:
    first, second = a.meta.get("example_value"), b.meta.get("example_value")
    if not isinstance(first, Tensor) or not isinstance(second, Tensor) or first.dim() != second.dim():
        return False
    sizes = zip(first.shape, second.shape, strict=True)
    return first.dtype == second.dtype and all(statically_known_true(m == n) for m, n in sizes)
