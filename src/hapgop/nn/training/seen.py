"""What of a net has to stay as it is for a plan of its step to hold."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import is_dataclass
from types import SimpleNamespace
from typing import Any, Final

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_HOOKS: Final = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_NORMS: Final = nn.modules.batchnorm._BatchNorm
_DROPOUTS: Final = nn.modules.dropout._DropoutNd
# Attributes of a module that are looked at in other ways.
_KNOWN: Final = frozenset((*vars(nn.Module()), "momentum")) - {"training"}


class Seen:
    """A net's modules and tensors as they were when they were looked at."""

    def __init__(self, net: nn.Module) -> None:
        self.modules = dict(net.named_modules())
        modules = list(self.modules.values())
        self._parts = [
            (held, name, value)
            for module in modules
            for held in (module._modules, module._parameters, module._buffers)
            for name, value in held.items()
        ]
        self._sizes = [(held, len(held)) for m in modules for held in (m._modules, m._parameters, m._buffers)]
        self.look_at_settings()
        self._hooks = [getattr(module, kind) for module in modules for kind in _HOOKS]
        self._norms = {path: module for path, module in self.modules.items() if isinstance(module, _NORMS)}
        self._training = [net, *(m for m in modules if isinstance(m, _NORMS | _DROPOUTS))]
        self.parameters = dict(net.named_parameters())
        self.tensors = self.parameters | dict(net.named_buffers())
        self._lazy = any(map(is_lazy, self.tensors.values()))
        self._places = [] if self._lazy else self._where()

    @property
    def learned(self) -> tuple[bool, ...]:
        """Of each parameter, whether it is learned."""
        return tuple(p.requires_grad for p in self.parameters.values())

    @property
    def momenta(self) -> tuple[float | None, ...]:
        """By how much a step moves each batch norm's running statistics."""
        return tuple(norm.momentum for norm in self._norms.values())

    @property
    def shares(self) -> dict[str, float]:
        """The same by the names of the running means."""
        paths = zip(self._norms, self.momenta, strict=True)
        return {f"{path}.running_mean".lstrip("."): share for path, share in paths if share is not None}

    def unchanged(self) -> bool:
        """Whether every module and tensor is still the one that it was, and every tensor where and as it was."""
        return (
            not self._lazy
            and all(held.get(name) is value for held, name, value in self._parts)
            and all(len(held) == size for held, size in self._sizes)
            and self._places == self._where()
        )

    def look_at_settings(self) -> None:
        """Remembers what layers and forwards are told by: numbers, flags, a forward of one's own, and what is in lists,
        dicts and namespaces."""
        held = [vars(module) for module in self.modules.values()]
        self._settings = [(h, name, value) for h in held for name, value in h.items() if name not in _KNOWN]
        self._numbers = [(h, len(h)) for h in held]
        contents = [(value, _contents(value)) for _, _, value in self._settings]
        self._contents = [(value, inside) for value, inside in contents if inside is not None]

    def set_alike(self) -> bool:
        """Whether these are still what they were."""
        return (
            all(len(held) == number for held, number in self._numbers)
            and all(held.get(name) is value or _same(held.get(name), value) for held, name, value in self._settings)
            and all(_same(_contents(value), inside) for value, inside in self._contents)
        )

    def refused(self) -> str | None:
        """Why the net cannot be called in one just now."""
        if self._lazy:
            return "a layer whose sizes are not known before its first call"
        if any(self._hooks) or nn.modules.module._has_any_global_hook():
            return "a module with hooks"
        if not all(module.training for module in self._training):
            return "a net, or a layer of it, that is not in training"
        if None in self.momenta:
            return "a batch norm without momentum"
        if not all(norm.track_running_stats for norm in self._norms.values()):
            return "a batch norm that keeps no statistics"
        return None

    def _where(self) -> list[list[Any]]:
        """Where each tensor's numbers are, and how they lie there."""
        tensors = self.tensors.values()
        return [[*map(asked, tensors)] for asked in (Tensor.data_ptr, Tensor.size, Tensor.stride)]


def _contents(value: Any) -> tuple[Any, ...] | None:
    """What may change in an object that stays the same one; None: nothing, or what is not looked at."""
    if isinstance(value, list | set):
        return tuple(value)
    if isinstance(value, Tensor):
        return None if value.is_inference() else (value._version,)
    if isinstance(value, SimpleNamespace | Namespace) or is_dataclass(value):
        value = getattr(value, "__dict__", None)
    return (*value, *value.values()) if isinstance(value, dict) else None


def _same(a: Any, b: Any) -> bool:
    """Of numbers and words, and of tuples, it counts what they are; of anything else, that it is the same object."""
    if a is b:
        return True
    if isinstance(a, tuple) and type(a) is type(b):
        return len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and isinstance(a, int | float | str) and bool(a == b)
