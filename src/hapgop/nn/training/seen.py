"""What of a net has to stay as it is for a plan of its step to hold."""

from __future__ import annotations

from typing import Final

from torch import nn

_HOOKS: Final = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_NORMS: Final = nn.modules.batchnorm._BatchNorm
_DROPOUTS: Final = nn.modules.dropout._DropoutNd


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
        self._hooks = [getattr(module, kind) for module in modules for kind in _HOOKS]
        self._norms = {path: module for path, module in self.modules.items() if isinstance(module, _NORMS)}
        self._training = [net, *(m for m in modules if isinstance(m, _NORMS | _DROPOUTS))]
        self.parameters = dict(net.named_parameters())
        self.tensors = self.parameters | dict(net.named_buffers())
        counts = [norm.num_batches_tracked for norm in self._norms.values()]
        self.tracked = [count for count in counts if count is not None]
        self._addresses = self._places()

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
        """Whether every module and tensor is still the one that it was, and every tensor where it was."""
        return all(held.get(name) is value for held, name, value in self._parts) and self._addresses == self._places()

    def refused(self) -> str | None:
        """Why the net cannot be called in one just now."""
        if any(self._hooks) or nn.modules.module._has_any_global_hook():
            return "a module with hooks"
        if not all(module.training for module in self._training):
            return "a net, or a layer of it, that is not in training"
        if None in self.momenta:
            return "a batch norm without momentum"
        return None

    def _places(self) -> list[int]:
        return [tensor.data_ptr() for tensor in self.tensors.values()]
