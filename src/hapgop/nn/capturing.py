"""A module as a graph: traced by `torch.fx`, then each call put into the words of `hapgop.program`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import fx, nn

from hapgop.errors import InputError
from hapgop.nn import modules
from hapgop.nn.capture_calls import FUNCTIONS, METHODS
from hapgop.nn.capture_modules import MODULES
from hapgop.program import Graph, Node, check_tensors

__all__ = ["capture"]


class _Tracer(fx.Tracer):
    """Looks into modules until it meets one that has a word of its own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        ours = type(m).__module__.startswith(f"{modules.__name__}.")
        return ours or isinstance(m, tuple(MODULES)) or super().is_leaf_module(m, module_qualified_name)


def capture(module: nn.Module, input_shape: tuple[int, int, int]) -> Graph:
    """The graph of a module as it computes in eval mode, for images (c, h, w).

    Layers of hapgop and of `torch.nn`, and calls such as `F.relu`, `torch.flatten`, `+` and `torch.cat`, are known.
    Parameters are named as in the state dict. Raises InputError naming the layer or call that a graph cannot express,
    and ShapeError where the layers do not fit one another.

    >>> [node.op for node in capture(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), (1, 8, 8)).nodes]
    ['flatten', 'linear']
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        traced = _Tracer().trace(module)
    except InputError:
        raise
    except Exception as error:  # whatever a foreign forward does while it is traced
        raise InputError(
            f"{type(module).__name__} cannot be captured as a graph: its forward does what tracing cannot follow "
            f"({error}); loops and branches have to depend on settings, not on values"
        ) from None
    finally:
        # Each its own: a frozen batch norm stays frozen.
        for part, training in modes:
            part.training = training
    translation = _Translation(module, input_shape)
    graph = translation.graph(traced)
    # Only the shapes are looked at.
    shapes = {name: np.broadcast_to(np.float32(0), tuple(t.shape)) for name, t in module.state_dict().items()}
    translation.check(check_tensors(graph, shapes))
    return graph


class _Translation:
    def __init__(self, module: nn.Module, input_shape: tuple[int, int, int]) -> None:
        self.module, self.input_shape = module, input_shape
        self.nodes: list[Node] = []
        self.names: dict[fx.Node, str] = {}
        self.used: set[str] = set()
        self.output = "input"
        self.features: dict[str, int] = {}

    def graph(self, traced: fx.Graph) -> Graph:
        for node in traced.nodes:
            if node.op == "placeholder":
                if self.names:
                    raise InputError(f"{type(self.module).__name__} takes more than one input; a graph has one")
                self.names[node] = "input"
                self.used.add("input")
            elif node.op == "call_module":
                self.add_module(node)
            elif node.op in ("call_function", "call_method"):
                self.add_call(node)
            elif node.op == "output":
                self.output = self.result(node)
            else:
                raise InputError(
                    f"the net reads its own tensor {node.target!r} outside a layer; a graph has no word for it"
                )
        return Graph(self.input_shape, tuple(self.nodes), self.output)

    def check(self, sizes: Mapping[str, tuple[int, ...]]) -> None:
        """Raises InputError where a reshape is no flattening after all."""
        for name, wanted in self.features.items():
            if sizes[name] != (wanted,):
                raise InputError(
                    f"{name!r} makes rows of {wanted} numbers, but one image has {sizes[name][0]} there: "
                    f"a graph can only flatten. What would work: torch.flatten(x, 1), or {sizes[name][0]} for {wanted}"
                )

    def result(self, node: fx.Node) -> str:
        value = node.args[0]
        if not isinstance(value, fx.Node) or value not in self.names:
            raise InputError(f"{type(self.module).__name__} returns {value!r}; a graph returns one tensor")
        return self.names[value]

    def add_module(self, node: fx.Node) -> None:
        path = str(node.target)
        layer = self.module.get_submodule(path)
        kind = next((k for k in MODULES if isinstance(layer, k)), None)
        if kind is None:
            raise InputError(f"layer {path!r} is a {type(layer).__name__}, for which a graph has no word")
        op, attrs = MODULES[kind](path, layer)
        keys = dict(layer.named_parameters()) | dict(layer.named_buffers())
        params = {role: f"{path}.{role}" for role in keys if role != "num_batches_tracked"}
        self.add(node, path, op, [node.args[0]], attrs, params)
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

    def add_call(self, node: fx.Node) -> None:
        table = FUNCTIONS if node.op == "call_function" else METHODS
        translate = table.get(node.target)  # type: ignore[arg-type]
        what = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", repr(node.target))
        if translate is None:
            raise InputError(f"the call of {what} ({node.name}) is one for which a graph has no word")
        try:
            call = translate(*node.args, **node.kwargs)
        except TypeError as error:
            raise InputError(
                f"the call of {what} ({node.name}) has arguments that a graph cannot express: {error}"
            ) from None
        if call is not None:
            self.add(node, node.name, call.op, call.inputs, call.attrs, {})
            if call.features is not None:
                self.features[self.names[node]] = call.features

    def add(
        self, node: fx.Node, name: str, op: str, inputs: Any, attrs: dict[str, Any], params: dict[str, str]
    ) -> None:
        for given in inputs:
            if not isinstance(given, fx.Node) or given not in self.names:
                raise InputError(f"{name!r} ({op}) reads {given!r}, which is no result of an earlier layer")
        unique, number = name, 1
        while unique in self.used:
            number += 1
            unique = f"{name}:{number}"
        self.used.add(unique)
        self.nodes.append(Node(unique, op, tuple(self.names[i] for i in inputs), attrs, params))
        self.names[node] = unique
