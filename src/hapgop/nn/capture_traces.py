"""A module's forward, written down by `torch.fx`; the module stays as it was."""

from __future__ import annotations

import operator
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from threading import Lock
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy

from hapgop.errors import InputError
from hapgop.nn import modules
from hapgop.nn.accelerating import layers
from hapgop.nn.capture_modules import MODULES

# `torch.fx` replaces methods of `nn.Module` while it traces.
_tracing: Final = Lock()
# What a buffer tells of itself without its numbers.
_LIKENESS: Final = frozenset(("shape", "size", "dim", "ndim", "numel", "dtype", "device"))


def traced(module: nn.Module, training: bool) -> fx.Graph:
    """Its calls in eval mode; `training`: in its own mode.

    Raises InputError where tracing would miss something, or where one call of the forward is not like the next.
    """
    _check(module)
    with _tracing, _as_it_was(module) as changed:
        if not training:
            module.eval()
        drawn = _drawn(module)
        try:
            # A training step finds other numbers in the buffers than are there now.
            graph = _Tracer(dict(module.named_buffers()) if training else {}).trace(module)
        except InputError:
            raise
        except Exception as error:  # whatever a foreign forward does while it is traced
            raise InputError(
                f"{type(module).__name__} cannot be captured as a graph: its forward does what tracing cannot follow "
                f"({error}); loops and branches have to depend on settings, not on values"
            ) from None
        if drawn != _drawn(module):
            raise InputError(f"{type(module).__name__} draws random numbers in its forward; a graph is always the same")
    if changed and training:
        raise InputError(f"the forward sets {changed[0]!r}; calls of a graph set nothing")
    return graph


def _check(module: nn.Module) -> None:
    """Tracing begins with the forward of the module's class: it passes over what was done to this object alone."""
    name = type(module).__name__
    inside = "nn.Sequential(net), in which it is a layer, can be captured"
    if "forward" in vars(module):
        raise InputError(f"the forward of this {name} alone was replaced, and that of its class is traced; {inside}")
    if module._forward_hooks or module._forward_pre_hooks:
        raise InputError(f"this {name} has hooks of its own, and its forward is traced without them; {inside}")
    for path, tensor in chain(module.named_parameters(), module.named_buffers()):
        if is_lazy(tensor):
            raise InputError(f"{path!r} has no size yet; a first call of the net on images gives it one")


class _Proxy(fx.Proxy):
    """Tells `y += x` from `y = y + x`: what else is called y's memory changes with it."""

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __imul__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})


class _Buffer(_Proxy):
    """A buffer whose numbers nobody may read or write while its net is traced."""

    def __init__(self, node: fx.Node, tracer: fx.Tracer, tensor: Tensor) -> None:
        super().__init__(node, tracer)
        self.tensor = tensor

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tensor, name) if name in _LIKENESS else super().__getattr__(name)


class _Tracer(fx.Tracer):
    """Looks into modules until it meets one that has a word of its own. buffers: those that it does not look into."""

    def __init__(self, buffers: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.buffers, self.proxy_buffer_attributes = buffers, bool(buffers)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        buffer = self.buffers.get(str(node.target)) if node.op == "get_attr" else None
        return _Proxy(node, self) if buffer is None else _Buffer(node, self, buffer)

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


@contextmanager
def _as_it_was(module: nn.Module) -> Iterator[list[str]]:
    """Puts every attribute and buffer back in the end, and says in the list which ones a forward had set."""
    before = [
        (path, held, dict(held))
        for path, part in module.named_modules()
        for held in (vars(part), part._modules, part._parameters, part._buffers)
    ]
    # A tensor made in inference mode counts no writing.
    buffers = {name: buffer for name, buffer in module.named_buffers() if not buffer.is_inference()}
    numbers = {name: (buffer._version, buffer.detach().clone()) for name, buffer in buffers.items()}
    changed: list[str] = []
    try:
        yield changed
    finally:
        for path, held, known in before:
            names = [name for name in held.keys() | known.keys() if held.get(name) is not known.get(name)]
            # `training` is ours to set. A frozen batch norm stays frozen.
            changed += [f"{path}.{name}".lstrip(".") for name in sorted(names) if name != "training"]
            if names:
                held.clear()
                held.update(known)
        for name, (version, copy) in numbers.items():
            if buffers[name]._version != version:
                changed.append(name)
                with torch.no_grad():
                    buffers[name].copy_(copy)


def _drawn(module: nn.Module) -> list[Any]:
    """Where the generators are from which a forward may draw: everybody's, and those that its modules hold."""
    found = [torch.get_rng_state().numpy().tobytes(), random.getstate(), repr(np.random.get_state())]
    for held in (value for part in module.modules() for value in vars(part).values()):
        if isinstance(held, random.Random):
            found.append(held.getstate())
        elif isinstance(held, torch.Generator):
            found.append(held.get_state().numpy().tobytes())
        elif isinstance(held, np.random.Generator):
            found.append(repr(held.bit_generator.state))
        elif isinstance(held, np.random.RandomState):
            found.append(repr(held.get_state()))
    return found
