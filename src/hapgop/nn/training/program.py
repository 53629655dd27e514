"""A net whose training step is two native calls.

Layer by layer, each of a step's hundred kernels is called through a module, PyTorch's dispatcher and its autograd. By
then the kernel before has swept the caches, and that way takes a quarter of a millisecond, as long as some kernels.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from hapgop.engine import get_precision
from hapgop.errors import InputError
from hapgop.nn.layout import suggests
from hapgop.nn.plain import plain
from hapgop.nn.training.arenas import Arenas
from hapgop.nn.training.call import Call
from hapgop.nn.training.seen import Seen
from hapgop.nn.training.step import CallTime, Step

_KEPT: Final = 8  # batch sizes, and what else a plan depends on
_TRACES: Final = 3  # of a net that is never twice the same

Back = Callable[[Tensor], None]


class TrainingProgram:
    """`program(x)` is `net(x)`, with the same parameters, gradients and running statistics: forward in one native call,
    and backward in another.

    Where that cannot be, the net is called as it is, layer by layer: outside of training and of autograd, where a
    module has hooks, where a layer has no way back in one call (a sigmoid, say), elsewhere than in float32 on the CPU.
    `reason` says which. Gradients of gradients, and a second way back through the same graph, are computed by the
    layers, too. Each size of batch costs a plan when it is first seen, of which the last few are kept.

    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))
    >>> program = TrainingProgram(net)
    >>> program(torch.ones(5, 1, 8, 8)).sum().backward()
    >>> net[0].weight.grad.shape, program.reason
    (torch.Size([4, 1, 3, 3]), None)
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.reason: str | None = None
        """Why the last call went layer by layer; None: it did not."""
        self._seen: Seen | None = None
        self._steps: OrderedDict[Any, Step | str] = OrderedDict()
        self._arenas = Arenas()
        self._in_vain: deque[str] = deque(maxlen=_TRACES)  # refusals since two calls found the same net

    def __call__(self, x: Tensor) -> Tensor:
        """The net's result for images (n, c, h, w)."""
        step = self._step_for(x)
        self.reason = step if isinstance(step, str) else None
        if isinstance(step, str):
            result: Tensor = self.net(x)
            return result
        y = Call.apply(step, x.contiguous(memory_format=torch.channels_last), *step.parameters)
        return _as_layers_lay(y, x, step)

    def forth(self, x: Tensor) -> tuple[Tensor, Back]:
        """The net's result for images (n, c, h, w), and the way back, to be gone at most once.

        That is called with the derivative of a loss by the result, and leaves those by the parameters in their `grad`,
        instead of what was there and in the same memory each time. The same numbers come out as by autograd, which
        takes a twelfth of a small net's step; where hooks wait for them, and where `program(x)` would go layer by
        layer, it is autograd that is asked. Raises RuntimeError where the way back was gone before.

        >>> program = TrainingProgram(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 2)))
        >>> y, back = program.forth(torch.ones(5, 1, 8, 8))
        >>> back(torch.ones_like(y))
        >>> program.net[0].weight.grad.shape
        torch.Size([4, 1, 3, 3])
        """
        step = self._step_for(x)
        if isinstance(step, str) or x.requires_grad or step.heard():
            return by_autograd(self, self.net, x)
        self.reason = None
        images = x.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            y, arena = step.forward(images)
        return _as_layers_lay(y, x, step), _Back(step, images, y, arena)

    def __getstate__(self) -> dict[str, Any]:
        # Plans are of tensors where they lie: a copy makes its own.
        return {"net": self.net}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["net"])  # type: ignore[misc]

    def measure(self, x: Tensor) -> tuple[CallTime, ...]:
        """What each kernel takes in a step on images like x, forward and then back; the net stays as it is.

        Raises InputError where such a step goes layer by layer, or where the CPU's clock cannot be read.
        """
        step = self._step_for(x)
        if isinstance(step, str):
            raise InputError(f"nothing to measure, as the net is called layer by layer: {step}")
        return step.measured(x.contiguous(memory_format=torch.channels_last))

    def _step_for(self, x: Tensor) -> Step | str:
        reason = _refused(x)
        if reason is not None:
            return reason
        seen = before = self._seen
        if seen is None or not seen.unchanged():
            seen = self._seen = Seen(self.net)
            self._steps.clear()
        reason = seen.refused()
        if reason is not None:
            return reason
        # Only now: evaluation between two epochs switches settings, and back.
        if not seen.set_alike():
            seen.look_at_settings()
            kept = [(key, step) for key, step in self._steps.items() if isinstance(step, Step) and step.holds()]
            self._steps = OrderedDict(kept)
        elif seen is before:
            self._in_vain.clear()
        key = x.shape, x.requires_grad, torch.get_num_threads(), get_precision(), seen.learned, seen.momenta
        step = self._steps.get(key)
        if step is not None:
            return step
        reason = self._hopeless()
        if reason is not None:
            return reason
        step = self._steps[key] = self._made(seen, x)
        if len(self._steps) > _KEPT:
            self._steps.popitem(last=False)
        return step

    def _made(self, seen: Seen, x: Tensor) -> Step | str:
        """A step, or why there is none."""
        try:
            step = Step(self.net, seen, x, self._arenas)
        except InputError as error:
            self._in_vain.append(str(error))
            return str(error)
        self._in_vain.clear()
        return step

    def _hopeless(self) -> str | None:
        """Why a net was refused at each of the last calls, between which something changed it: its forward, it seems.

        It is traced again as soon as two calls find the same net.
        """
        refusals = [*self._in_vain]
        return refusals[0] if len(refusals) == _TRACES and len(set(refusals)) == 1 else None


class _Back:
    """The way back of a step, without autograd."""

    def __init__(self, step: Step, x: Tensor, y: Tensor, arena: Tensor) -> None:
        self._step, self._x, self._y = step, x, y if step.reads_result else None
        self._versions = [t._version for t in self._read]
        self._arena: Tensor | None = arena

    @property
    def _read(self) -> list[Tensor]:
        return [self._x] if self._y is None else [self._x, self._y]

    def __call__(self, g: Tensor) -> None:
        arena, self._arena = self._arena, None
        if arena is None:
            raise RuntimeError("This way back has been gone: it writes over what it has read. forth() opens another.")
        if self._versions != [t._version for t in self._read]:
            raise RuntimeError(
                "The way back reads the images or the result, which were written over; a clone() can be."
            )
        with torch.no_grad():
            self._step.learn(self._x, self._y, arena, self._step.laid(g))


def _as_layers_lay(y: Tensor, x: Tensor, step: Step) -> Tensor:
    """Maps come channels last where PyTorch's layers give them so: for such images, or behind such a filter."""
    if y.dim() < 4 or suggests(x) or any(p.dim() == 4 and suggests(p) for p in step.parameters):
        return y
    return y.contiguous()


def _refused(x: Tensor) -> str | None:
    """Why a call with these images is not ours."""
    if not plain(x) or x.dtype != torch.float32 or x.dim() != 4 or not x.numel():
        return "no images in float32 on the CPU, or somebody listens"
    if not torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or forward_ad._current_level >= 0:
        return "no gradients, or autocast"
    return None


def by_autograd(called: Callable[[Tensor], Tensor], net: nn.Module, x: Tensor) -> tuple[Tensor, Back]:
    """What `TrainingProgram.forth` gives, of a net that is called somehow."""
    y = called(x)

    def back(g: Tensor) -> None:
        for p in net.parameters():
            p.grad = None
        y.backward(g)

    return y.detach(), back
