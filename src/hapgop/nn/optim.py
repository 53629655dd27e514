"""Gradient descent with momentum: that of torch.optim, all parameters in one native call."""

from __future__ import annotations

from collections.abc import Callable
from inspect import unwrap
from operator import is_
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch._C._autograd import _profiler_enabled
from torch.autograd.graph import increment_version
from torch.nn import Parameter
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from hapgop import engine
from hapgop.algorithms.descent import Descent
from hapgop.nn.outputs import lasting


class SGD(torch.optim.SGD):
    """`torch.optim.SGD`, with the same arguments and the same state; a step with momentum is one call of ours.

    That is where parameters and gradients are plain tensors of float32 on the CPU that lie alike, and from the second
    step on: the first makes the momentum. Every other step is PyTorch's own.

    >>> layer = torch.nn.Linear(2, 1)
    >>> descent = SGD(layer.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    >>> for _ in range(3):
    ...     descent.zero_grad()
    ...     layer(torch.ones(1, 2)).sum().backward()
    ...     _ = descent.step()
    """

    _call: _Call | None = None

    # Around each of PyTorch's own is one for torch.compile, whose import takes most of a second.
    add_param_group = unwrap(torch.optim.SGD.add_param_group)
    _their_zero_grad = unwrap(torch.optim.SGD.zero_grad)
    _their_step = unwrap(torch.optim.SGD.step)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of all parameters, or makes them zero."""
        if not set_to_none or _profiler_enabled():
            self._their_zero_grad(set_to_none)
            return
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient; `closure` computes the loss anew, and is PyTorch's."""
        hooks = self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks
        if hooks or _global_optimizer_pre_hooks or _global_optimizer_post_hooks:
            return _heard(self, closure)
        return _heard(self, closure) if _profiler_enabled() else self._step(closure)

    # PyTorch would put its hooks and its profiler's name around every call: as long as the update of a small net.
    step.hooked = True  # type: ignore[attr-defined]

    def _step(self, closure: Callable[[], float] | None) -> float | None:
        addresses = self._addresses() if closure is None else None
        if addresses is None:
            with torch.set_grad_enabled(self.defaults["differentiable"]):
                return self._their_step(closure)
        if self._call is not None:
            self._call(self.param_groups, addresses)
        return None

    def _addresses(self) -> list[int] | None:
        """Those of gradient, parameter and momentum of all that learn, with the call for them made; None: not for us.

        What was seen of parameter and momentum in the last step is not looked at again: a step of a small net takes as
        long as looking at its tensors.
        """
        if hasattr(self, "grad_scale") or hasattr(self, "found_inf"):
            return None  # mixed precision's scaler wants a say
        call, addresses, i = self._call, list[int](), 0
        learned: list[_Learned] = []
        kinds = []
        for group in self.param_groups:
            if not group["momentum"] or group["maximize"] or group["differentiable"] or type(group["lr"]) is not float:
                return None
            kinds.append((group["nesterov"], group["weight_decay"] != 0))
            for p in group["params"]:
                g = p.grad
                if g is None:
                    continue
                m = self.state[p].get("momentum_buffer")
                known = call.learned[i] if call is not None and i < len(call.learned) else None
                places = p.data_ptr(), 0 if m is None else m.data_ptr()
                if known is None or known.p is not p or known.m is not m or known[3:] != (places, len(kinds) - 1):
                    if m is not None:
                        m = self.state[p]["momentum_buffer"] = lasting(m)
                        places = p.data_ptr(), m.data_ptr()
                    known = _seen(p, m, places, len(kinds) - 1)
                if known is None or not _lies(g, *known.form):
                    return None
                learned.append(known)
                addresses += g.data_ptr(), *places
                i += 1
        if call is None or not call.fits(learned, kinds):
            self._call = _Call(learned, kinds)
        return addresses


# A step with hooks around it, under its name in the profiler.
_heard: Callable[[SGD, Callable[[], float] | None], float | None] = SGD.profile_hook_step(SGD._step)


class _Learned(NamedTuple):
    """A parameter, its momentum, what they were when they were looked at, and the group's number."""

    p: Tensor
    m: Tensor
    form: tuple[torch.Size, torch.memory_format]
    places: tuple[int, int]
    group: int


class _Call:
    """The native call for some parameters; `kinds` are (Nesterov's, decays) of each group."""

    def __init__(self, learned: list[_Learned], kinds: list[tuple[bool, bool]]) -> None:
        self.learned, self.kinds, self.threads = learned, kinds, torch.get_num_threads()
        self._settings = [np.empty(4, np.float32) for _ in kinds]
        self._written = [tensor for one in learned for tensor in (one.p, one.m)]
        calls, seconds = [], 0.0
        for i, one in enumerate(learned):
            update = engine.prepare_descent(Descent(one.form[0].numel(), *kinds[one.group]))
            g, p, m = (engine.Outside(3 * i + place) for place in range(3))
            calls.append(engine.Call(update, (engine.address(self._settings[one.group]), g, p, m), False, False))
            seconds += update.seconds
        self._run = engine.Sequence(calls, engine.most_threads(seconds, self.threads), 0)

    def fits(self, learned: list[_Learned], kinds: list[tuple[bool, bool]]) -> bool:
        """Whether it is for these."""
        same = len(learned) == len(self.learned) and all(map(is_, learned, self.learned))
        return same and kinds == self.kinds and self.threads == torch.get_num_threads()

    def __call__(self, groups: list[dict[str, Any]], addresses: list[int]) -> None:
        for settings, group in zip(self._settings, groups, strict=True):
            settings[:] = group["lr"], group["momentum"], 1 - group["dampening"], group["weight_decay"]
        self._run(*addresses)
        increment_version(self._written)


def _seen(p: Tensor, m: Tensor | None, places: tuple[int, int], group: int) -> _Learned | None:
    """A parameter and its momentum, if they are plain, dense and lie alike."""
    if m is not None and type(p) in (Tensor, Parameter):
        for order in (torch.contiguous_format, torch.channels_last):
            if _lies(p.detach(), p.shape, order) and _lies(m, p.shape, order):
                return _Learned(p, m, (p.shape, order), places, group)
    return None


def _lies(tensor: Tensor, shape: torch.Size, order: torch.memory_format) -> bool:
    """Whether it is a plain tensor of this shape in this order."""
    if type(tensor) is not Tensor or tensor.dtype is not torch.float32 or tensor.layout is not torch.strided:
        return False
    fits = tensor.shape == shape and (tensor.dim() == 4 or order is torch.contiguous_format)
    return fits and tensor.is_cpu and tensor.is_contiguous(memory_format=order)
