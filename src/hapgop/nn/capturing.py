"""A module as a graph: its forward is traced, then each call put into the words of `hapgop.program`."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F

from hapgop.errors import InputError
from hapgop.nn.capture_modules import MODULES
from hapgop.nn.capture_traces import traced
from hapgop.nn.translation import Translation
from hapgop.program import Graph, check_tensors

__all__ = ["capture"]

# Calls that are told by an argument whether they compute as in training.
_BY_MODE: Final = (F.batch_norm, F.dropout)


def capture(module: nn.Module, input_shape: tuple[int, int, int], training: bool = False) -> Graph:
    """The graph of a module as it computes in eval mode, for images (c, h, w); `training`: as it does in its own mode.

    Layers of hapgop and of `torch.nn`, and calls such as `F.relu`, `torch.flatten`, `+` and `torch.cat`, are known.
    Parameters are named as in the state dict. Raises InputError naming the layer or call that a graph cannot express,
    and ShapeError where the layers do not fit one another.

    >>> [node.op for node in capture(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), (1, 8, 8)).nodes]
    ['flatten', 'linear']
    """
    trace = traced(module, training)
    return _Capture(module, module.state_dict(keep_vars=True), training).graph(trace, input_shape)


class _Capture(Translation):
    """The nodes that a traced module has: besides calls, its inputs, layers and tensors."""

    def __init__(self, module: nn.Module, state: dict[str, torch.Tensor], training: bool) -> None:
        super().__init__({name: tuple(tensor.shape) for name, tensor in state.items()})
        self.module, self.training, self.output = module, training, "input"

    def graph(self, trace: fx.Graph, input_shape: tuple[int, int, int]) -> Graph:
        for node in trace.nodes:
            if node.op == "placeholder":
                if self.names:
                    raise InputError(f"{type(self.module).__name__} takes more than one input; a graph has one")
                self.add_input(node)
            elif node.op == "call_module":
                self.add_module(node)
            elif node.op in ("call_function", "call_method"):
                self.add_call(node)
            elif node.op == "output":
                self.output = self.result(node)
            elif str(node.target) in self.shapes:
                self.keys[node] = str(node.target)
            else:
                raise InputError(f"the net reads {node.target!r}, which is no tensor of its state dict")
        graph = Graph(input_shape, tuple(self.nodes), self.output)
        # Only the shapes are looked at.
        shapes = {name: np.broadcast_to(np.float32(0), shape) for name, shape in self.shapes.items()}
        self.check(check_tensors(graph, shapes))
        return graph

    def result(self, node: fx.Node) -> str:
        value = node.args[0]
        if not isinstance(value, fx.Node) or value not in self.names or value in self.turned:
            raise InputError(f"{type(self.module).__name__} returns {value!r}; a graph returns one tensor")
        return self.names[value]

    def add_call(self, node: fx.Node) -> None:
        if self.training and node.target in _BY_MODE:
            name = getattr(node.target, "__name__", node.target)
            raise InputError(
                f"the call of {name} ({node.name}) has a mode of its own; in a training step only layers have one: "
                f"nn.BatchNorm2d, nn.Dropout"
            )
        super().add_call(node)

    def add_module(self, node: fx.Node) -> None:
        path = str(node.target)
        layer = self.module.get_submodule(path)
        kind = next((k for k in MODULES if isinstance(layer, k)), None)
        if kind is None:
            raise InputError(f"layer {path!r} is a {type(layer).__name__}, for which a graph has no word")
        if layer._forward_hooks or layer._forward_pre_hooks:
            raise InputError(f"layer {path!r} has hooks, of which a graph knows nothing")
        op, attrs = MODULES[kind](path, layer)
        if op == "conv_transpose2d" and (len(node.args) > 1 or node.kwargs.get("output_size") is not None):
            raise InputError(f"layer {path!r} is given an output_size; in a graph sizes follow from settings alone")
        given = node.args[0] if node.args else node.kwargs.get("input")
        keys = dict(layer.named_parameters()) | dict(layer.named_buffers())
        params = {role: f"{path}.{role}" for role in keys if role != "num_batches_tracked"}
        self.add(node, path, op, [given], attrs, params)
        changes = op != "dropout" or (self.training and layer.training)
        if getattr(layer, "inplace", False) and changes:
            self.overwrite(given, node)  # type: ignore[arg-type]
        if op == "batch_norm2d":
            self.add_after_norm(node, path, layer)
        pool = getattr(layer, "pool", None)
        if pool is not None:
            # A layer of ours that pools: in a graph a node of its own.
            self.add(node, f"{path}.pool", "max_pool2d", [node], {"kernel_size": pool}, {})

    def add_after_norm(self, node: fx.Node, path: str, layer: nn.Module) -> None:
        """What a batch norm of ours does beyond PyTorch's: in a graph, nodes of their own."""
        residual = node.args[1] if len(node.args) > 1 else node.kwargs.get("residual")
        if residual is not None:
            self.add(node, f"{path}.add", "add", [node, residual], {}, {})
        if getattr(layer, "activation", None) == "relu":
            self.add(node, f"{path}.relu", "relu", [node], {}, {})
