"""A net whose training step is two native calls.

Layer by layer, each of a step's hundred kernels is called through a module, PyTorch's dispatcher and its autograd. By
then the kernel before has swept the caches, and that way takes a quarter of a millisecond, as long as some kernels.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.graph import increment_version

from hapgop.engine import Prepared, Refused, Runnable, get_precision
from hapgop.errors import InputError
from hapgop.nn.capturing import capture
from hapgop.nn.layout import formats_of
from hapgop.nn.outputs import empty_strided
from hapgop.nn.plain import plain
from hapgop.nn.report import Answer, count_all
from hapgop.program.training import Place, Setting, TrainingCalls, plan_training

_KEPT: Final = 8  # batch sizes, and what else a plan depends on
_HOOKS: Final = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_NORMS: Final = nn.modules.batchnorm._BatchNorm
_DROPOUTS: Final = nn.modules.dropout._DropoutNd


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
        self._seen: _Seen | None = None
        self._made: OrderedDict[Any, _Made | str] = OrderedDict()

    def __call__(self, x: Tensor) -> Tensor:
        """The net's result for images (n, c, h, w)."""
        made = self._made_for(x)
        self.reason = made if isinstance(made, str) else None
        if isinstance(made, str):
            result: Tensor = self.net(x)
            return result
        x = x.contiguous(memory_format=torch.channels_last)
        return _Call.apply(made, x, *made.parameters)

    def _made_for(self, x: Tensor) -> _Made | str:
        reason = _refused(x)
        if reason is not None:
            return reason
        if self._seen is None or not self._seen.unchanged():
            self._seen = _Seen(self.net)
            self._made.clear()
        reason = self._seen.refused()
        if reason is not None:
            return reason
        seen = self._seen
        key = x.shape, x.requires_grad, torch.get_num_threads(), get_precision(), seen.learned, seen.momenta
        made = self._made.get(key)
        if made is None:
            try:
                made = _Made(self.net, seen, x)
            except InputError as error:
                made = str(error)
            self._made[key] = made
            if len(self._made) > _KEPT:
                self._made.popitem(last=False)
        return made


def _refused(x: Tensor) -> str | None:
    """Why a call with these images is not ours."""
    if not plain(x) or x.dtype != torch.float32 or x.dim() != 4 or not x.numel():
        return "no images in float32 on the CPU, or somebody listens"
    if not torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or forward_ad._current_level >= 0:
        return "no gradients, or autocast"
    return None


class _Seen:
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


class _Made:
    """A net's step for one kind of batch. Raises InputError where it cannot be made."""

    def __init__(self, net: nn.Module, seen: _Seen, x: Tensor) -> None:
        self.net, self.parameters, self._seen = net, list(seen.parameters.values()), seen
        n, c, h, w = x.shape
        graph = capture(net, (c, h, w), training=True)
        for node in graph.nodes:
            if node.op == "dropout" and type(seen.modules.get(node.name)) is not nn.Dropout:
                raise Refused(f"{node.name}: dropout other than nn.Dropout")
        for name in graph.tensor_names():
            tensor = seen.tensors.get(name)
            if tensor is None or tensor.dtype != torch.float32 or not plain(tensor) or not _formats(tensor):
                raise Refused(f"{name}: no dense float32 on the CPU, or one tensor under two names")
        setting = Setting(
            n,
            {name: "ohwi" if _formats(p) == (True,) else "oihw" for name, p in seen.parameters.items() if p.dim() == 4},
            frozenset(name for name, p in seen.parameters.items() if p.requires_grad),
            x.requires_grad,
            seen.shares,
        )
        plan = plan_training(graph, setting, torch.get_num_threads())
        self.plan, self.calls = plan, TrainingCalls(plan)
        read = [place.name for place in plan.forward.outside if place.kind == "tensor"]
        self._running = [seen.tensors[name] for name in read if name not in seen.parameters]
        self._shape = (n, *plan.size)
        forward = len(plan.forward.tasks)
        self._answers = [_answers(part) for part in (self.calls.runnables[:forward], self.calls.runnables[forward:])]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(result, arena)."""
        plan = self.plan
        arena, y = empty_strided((plan.arena // 4,), (1,), torch.float32), self._like_result()
        for place, share in plan.dropped.items():
            start = plan.starts[place] // 4
            # As PyTorch draws, and in its order.
            arena[start : start + plan.elements[place]].bernoulli_(1 - share).div_(1 - share)
        ends = {plan.images: x.data_ptr(), plan.result: y.data_ptr()}
        self.calls.forward(arena.data_ptr(), self._addresses(plan.forward.outside, ends))
        increment_version(self._running)
        if self._seen.tracked:
            torch._foreach_add_(self._seen.tracked, 1)
        count_all(self._answers[0])
        return y, arena

    def backward(self, x: Tensor, y: Tensor, arena: Tensor, g: Tensor) -> list[Tensor | None]:
        """The gradients of the images, if they are wanted, and of all parameters."""
        plan = self.plan
        ends = {plan.images: x.data_ptr(), plan.result: y.data_ptr(), plan.gradient: g.data_ptr()}
        dx = None
        if plan.by_images is not None:
            dx = torch.empty_like(x)
            ends[plan.by_images] = dx.data_ptr()
        found: dict[str, Tensor] = {}
        for place in plan.backward.outside:
            if place.kind == "derivative":
                ends[place] = self._derivative(place, found)
        self.calls.backward(arena.data_ptr(), self._addresses(plan.backward.outside, ends))
        count_all(self._answers[1])
        return [dx, *(found.get(name) if p.requires_grad else None for name, p in self._seen.parameters.items())]

    def by_layers(self, x: Tensor, g: Tensor, drawn_from: Tensor | None) -> list[Tensor | None]:
        """The same by the layers, which compute the net anew: recorded, for gradients of gradients, or a second time.

        The way back writes over what it has read. The running statistics are left as they are.
        """
        given, recorded = (x, *self.parameters), torch.is_grad_enabled()
        buffers = {name: buffer.clone() for name, buffer in self.net.named_buffers()}
        with torch.enable_grad(), torch.random.fork_rng([]):
            if drawn_from is not None:
                torch.set_rng_state(drawn_from)
            y = torch.func.functional_call(self.net, buffers, (x,))
            learned = [tensor for tensor in given if tensor.requires_grad]
            found = iter(torch.autograd.grad(y, learned, g, create_graph=recorded, allow_unused=True))
        return [next(found) if tensor.requires_grad else None for tensor in given]

    def laid(self, g: Tensor) -> Tensor:
        """The gradient of the result, lying as that does."""
        return g.contiguous(memory_format=torch.channels_last if g.dim() == 4 else torch.contiguous_format)

    def _like_result(self) -> Tensor:
        order = torch.channels_last if len(self._shape) == 4 else torch.contiguous_format
        return torch.empty(self._shape, memory_format=order)

    def _derivative(self, place: Place, found: dict[str, Tensor]) -> int:
        """Memory for the loss by a parameter; of a batch norm, by weight and bias."""
        p = self._seen.parameters[place.name]
        bias = self.plan.pairs.get(place.name)
        if bias is None:
            found[place.name] = derivative = empty_strided(p.shape, p.stride(), p.dtype)
        else:
            derivative = torch.empty((2, len(p)))
            found[place.name], found[bias] = derivative
        return derivative.data_ptr()

    def _addresses(self, places: Sequence[Place], ends: Mapping[Place, int]) -> list[int]:
        tensors = self._seen.tensors
        return [tensors[p.name].data_ptr() if p.kind == "tensor" else ends[p] for p in places]


class _Call(torch.autograd.Function):
    """What autograd sees of a step."""

    @staticmethod
    def forward(ctx: Any, made: _Made, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.made, ctx.drawn_from = made, torch.get_rng_state() if made.plan.dropped else None
        y, arena = made.forward(x)
        ctx.spent = False
        ctx.set_materialize_grads(False)
        # The arena is among them, so that it is free again as soon as autograd has no use for it.
        ctx.save_for_backward(x, y, arena, *parameters)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> tuple[Tensor | None, ...]:
        made: _Made = ctx.made
        if g is None:
            return (None,) * (2 + len(made.parameters))
        x, y, arena, *_ = ctx.saved_tensors
        if ctx.spent or torch.is_grad_enabled():
            return None, *made.by_layers(x, g, ctx.drawn_from)
        ctx.spent = True
        return None, *made.backward(x, y, arena, made.laid(g))


def _formats(tensor: Tensor) -> tuple[bool, ...]:
    """In which memory orders it is dense: channels last?"""
    if tensor.dim() != 4:
        return (False,) if tensor.is_contiguous() else ()
    return formats_of(tensor.shape, tensor.stride())


def _answers(runnables: Sequence[Runnable]) -> Counter[Answer]:
    prepared = [r for r in runnables if isinstance(r, Prepared)]
    return Counter(Answer(r.plan.problem.op, r.plan.algorithm.name) for r in prepared)
