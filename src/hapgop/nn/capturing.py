"""A module as a graph: traced by `torch.fx`, then each call put into the words of `hapgop.program`."""

from __future__ import annotations

import operator
import random
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, Final

import numpy as np
import torch
from torch import fx, nn

from hapgop.errors import InputError
from hapgop.nn import modules
from hapgop.nn.accelerating import layers
from hapgop.nn.capture_modules import MODULES
from hapgop.nn.translation import Translation
from hapgop.program import Graph, check_tensors

__all__ = ["capture"]

# `torch.fx` replaces methods of `nn.Module` while it traces.
_tracing: Final = Lock()


class _Proxy(fx.Proxy):
    """Tells `y += x` from `y = y + x`: what else is called y's memory changes with it."""

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __imul__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})


class _Tracer(fx.Tracer):
    """Looks into modules until it meets one that has a word of its own."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if "forward" in m.__dict__ or "_conv_forward" in m.__dict__:
            return False  # replaced in this one alone
        if type(m).__module__.startswith((f"{modules.__name__}.", layers.__name__)):
            return True
        kind = next((k for k in MODULES if isinstance(m, k)), None)
        if kind is None:
            return super().is_leaf_module(m, module_qualified_name)
        # A class of the user's own that computes otherwise is looked into.
        return all(getattr(type(m), name, None) is getattr(kind, name, None) for name in ("forward", "_conv_forward"))


def capture(module: nn.Module, input_shape: tuple[int, int, int], training: bool = False) -> Graph:
    """The graph of a module as it computes in eval mode, for images (c, h, w); `training`: as it does in its own mode.

    Layers of hapgop and of `torch.nn`, and calls such as `F.relu`, `torch.flatten`, `+` and `torch.cat`, are known.
    Parameters are named as in the state dict. Raises InputError naming the layer or call that a graph cannot express,
    and ShapeError where the layers do not fit one another.

    >>> [node.op for node in capture(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), (1, 8, 8)).nodes]
    ['flatten', 'linear']
    """
    with _tracing, _as_it_was(module) as changed:
        if not training:
            module.eval()
        drawn = _drawn()
        try:
            traced = _Tracer().trace(module)
        except InputError:
            raise
        except Exception as error:  # whatever a foreign forward does while it is traced
            raise InputError(
                f"{type(module).__name__} cannot be captured as a graph: its forward does what tracing cannot follow "
                f"({error}); loops and branches have to depend on settings, not on values"
            ) from None
        if drawn != _drawn():
            raise InputError(f"{type(module).__name__} draws random numbers in its forward; a graph is always the same")
    if changed and training:
        raise InputError(f"the forward sets {changed[0]!r}; calls of a graph set nothing")
    state = module.state_dict(keep_vars=True)
    return _Capture(module, state).graph(traced, input_shape)


@contextmanager
def _as_it_was(module: nn.Module) -> Iterator[list[str]]:
    """Puts every attribute back in the end, and says in the list which ones a forward had set."""
    before = [(path, part, dict(vars(part))) for path, part in module.named_modules()]
    changed: list[str] = []
    try:
        yield changed
    finally:
        for path, part, known in before:
            now = vars(part)
            names = [name for name in now.keys() | known.keys() if now.get(name) is not known.get(name)]
            # `training` is ours to set. A frozen batch norm stays frozen.
            changed += [f"{path}.{name}".lstrip(".") for name in sorted(names) if name != "training"]
            if names:
                now.clear()
                now.update(known)


def _drawn() -> tuple[Any, ...]:
    """Where the generators are from which a forward may draw."""
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), repr(np.random.get_state())


class _Capture(Translation):
    """The nodes that a traced module has: besides calls, its inputs, layers and tensors."""

    def __init__(self, module: nn.Module, state: dict[str, torch.Tensor]) -> None:
        super().__init__({name: tuple(tensor.shape) for name, tensor in state.items()})
        self.module, self.output = module, "input"

    def graph(self, traced: fx.Graph, input_shape: tuple[int, int, int]) -> Graph:
        for node in traced.nodes:
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
        if getattr(layer, "inplace", False) and op != "dropout":
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
