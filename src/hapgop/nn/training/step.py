"""A net's step for one kind of batch: its two calls on PyTorch's tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hapgop.algorithms import Problem
from hapgop.algorithms.maps import MapProblem
from hapgop.engine import Prepared, Refused, Runnable
from hapgop.errors import InputError
from hapgop.nn.capturing import capture
from hapgop.nn.layout import formats_of
from hapgop.nn.outputs import empty_strided
from hapgop.nn.plain import plain
from hapgop.nn.report import Answer, count_all
from hapgop.nn.training.arenas import Arenas
from hapgop.nn.training.seen import Seen
from hapgop.program.training import Place, Setting, TrainingCalls, plan_training


class CallTime(NamedTuple):
    """A kernel in a step: for which layer, what it computes, by which algorithm, and how long that takes."""

    node: str
    problem: Problem | MapProblem
    algorithm: str
    seconds: float


class Step:
    """A net's step for one kind of batch. Raises InputError where it cannot be made."""

    def __init__(self, net: nn.Module, seen: Seen, x: Tensor, arenas: Arenas) -> None:
        self._arenas = arenas
        self.net, self.parameters, self._seen = net, list(seen.parameters.values()), seen
        n, c, h, w = x.shape
        self._graph = graph = capture(net, (c, h, w), training=True)
        for node in graph.nodes:
            if node.op == "dropout" and type(seen.modules.get(node.name)) is not nn.Dropout:
                raise Refused(f"{node.name}: dropout other than nn.Dropout")
        for name in graph.tensor_names():
            tensor = seen.tensors.get(name)
            if tensor is None or tensor.dtype != torch.float32 or not plain(tensor) or not _formats(tensor):
                raise Refused(f"{name}: no dense float32 on the CPU, or one tensor under two names")
        setting = Setting(
            n,
            {name: "ohwi" if _formats(t) == (True,) else "oihw" for name, t in seen.tensors.items() if t.dim() == 4},
            frozenset(name for name, p in seen.parameters.items() if p.requires_grad),
            x.requires_grad,
            seen.shares,
        )
        plan = plan_training(graph, setting, torch.get_num_threads())
        self.plan, self.calls = plan, TrainingCalls(plan)
        # Of the norms that are called: a net may have others.
        norms = [node for node in graph.nodes if node.op == "batch_norm2d"]
        counts: list[Any] = [seen.modules[node.name].num_batches_tracked for node in norms]
        self._tracked: list[Tensor] = [count for count in counts if count is not None]
        self._shape = (n, *plan.size)
        forward = len(plan.forward.tasks)
        self._found: dict[str, Tensor] = {}
        self._answers = [_answers(part) for part in (self.calls.runnables[:forward], self.calls.runnables[forward:])]

    def holds(self) -> bool:
        """Whether the net still computes what it did when this step was made."""
        try:
            return capture(self.net, self._graph.input_shape, training=True) == self._graph
        except InputError:
            return False

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(result, arena): what the way back reads."""
        plan = self.plan
        arena, y = self._arenas.take(plan.arena), self._like_result()
        for place, share in plan.dropped.items():
            start = plan.starts[place] // 4
            _draw(arena[start : start + plan.elements[place]], share)
        self.calls.forward(arena.data_ptr(), self._forward(x, y))
        if self._tracked:
            torch._foreach_add_(self._tracked, 1)
        count_all(self._answers[0])
        return y, arena

    @property
    def reads_result(self) -> bool:
        """Whether the way back reads what the way forth has given."""
        return self.plan.result in self.plan.backward.outside

    def backward(self, x: Tensor, y: Tensor | None, arena: Tensor, g: Tensor) -> list[Tensor | None]:
        """The gradients of the images, if they are wanted, and of all parameters; the arena is at its end."""
        found: dict[str, Tensor] = {}
        addresses, dx = self._backward(x, y, g, found)
        self._go_back(arena, addresses)
        return [dx, *(found.get(name) if p.requires_grad else None for name, p in self._seen.parameters.items())]

    def learn(self, x: Tensor, y: Tensor | None, arena: Tensor, g: Tensor) -> None:
        """The gradients of all parameters, in their `grad`; their memory is that of the call before."""
        addresses, _ = self._backward(x, y, g, self._found)
        self._go_back(arena, addresses)
        for name, p in self._seen.parameters.items():
            p.grad = self._found.get(name) if p.requires_grad else None

    def _go_back(self, arena: Tensor, addresses: list[int]) -> None:
        self.calls.backward(arena.data_ptr(), addresses)
        self._arenas.give(arena)
        count_all(self._answers[1])

    def heard(self) -> bool:
        """Whether a hook of autograd's waits for a parameter's gradient."""
        return any(p._backward_hooks or p._post_accumulate_grad_hooks for p in self.parameters)

    def measured(self, x: Tensor) -> tuple[CallTime, ...]:
        kept = [(buffer, buffer.clone()) for buffer in self.net.buffers()]
        with torch.no_grad(), torch.random.fork_rng([]):
            y, arena = self.forward(x)
            held: dict[str, Tensor] = {}
            addresses, _dx = self._backward(x, y, torch.ones_like(y), held)
            seconds = self.calls.seconds(arena.data_ptr(), self._forward(x, y), addresses)
            for buffer, before in kept:
                buffer.copy_(before)
        self._arenas.give(arena)
        if seconds is None:
            raise InputError("the CPU's clock cannot be read here")
        halves = (self.plan.forward, self.plan.backward)
        calls = [call for half in halves for call in zip(half.tasks, half.costs, strict=True)]
        return tuple(
            CallTime(task.node, task.problem, cost.algorithm, time)
            for (task, cost), time in zip(calls, seconds, strict=True)
        )

    def _forward(self, x: Tensor, y: Tensor) -> list[int]:
        """The addresses for the forward call."""
        plan = self.plan
        return self._addresses(plan.forward.outside, {plan.images: x.data_ptr(), plan.result: y.data_ptr()})

    def _backward(
        self, x: Tensor, y: Tensor | None, g: Tensor, found: dict[str, Tensor]
    ) -> tuple[list[int], Tensor | None]:
        """The addresses for the backward call, and where the images' gradient will be; in `found`, those of
        parameters, of which those that are there stay where they are."""
        plan = self.plan
        ends = {plan.images: x.data_ptr(), plan.gradient: g.data_ptr()}
        if y is not None:
            ends[plan.result] = y.data_ptr()
        dx = None if plan.by_images is None else torch.empty_like(x)
        if plan.by_images is not None and dx is not None:
            ends[plan.by_images] = dx.data_ptr()
        for place in plan.backward.outside:
            if place.kind == "derivative":
                if place.name not in found:
                    self._make_derivative(place.name, found)
                ends[place] = found[place.name].data_ptr()
        return self._addresses(plan.backward.outside, ends), dx

    def by_layers(self, x: Tensor, g: Tensor, drawn_from: Tensor | None) -> list[Tensor | None]:
        """The same by the layers, which compute the net anew: recorded, for gradients of gradients, or a second time.

        The way back writes over what it has read. The running statistics are left as they are.
        """
        given, recorded = (x, *self.parameters), torch.is_grad_enabled()
        buffers = {name: buffer.clone() for name, buffer in self.net.named_buffers()}
        with torch.enable_grad(), torch.random.fork_rng([]), self._dropping(drawn_from):
            y = torch.func.functional_call(self.net, buffers, (x,))
            learned = [tensor for tensor in given if tensor.requires_grad]
            found = iter(torch.autograd.grad(y, learned, g, create_graph=recorded, allow_unused=True))
        return [next(found) if tensor.requires_grad else None for tensor in given]

    @contextmanager
    def _dropping(self, drawn_from: Tensor | None) -> Iterator[None]:
        """Has the layers drop what the way forth has dropped, whose maps lie in another order than theirs may."""
        hooks = []
        try:
            if drawn_from is not None:
                torch.set_rng_state(drawn_from)
            for place, share in self.plan.dropped.items():
                kept = _draw(torch.empty(self.plan.elements[place]), share)
                hooks.append(self._seen.modules[place.name].register_forward_hook(partial(_times, kept)))
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def laid(self, g: Tensor) -> Tensor:
        """The gradient of the result, lying as that does."""
        return g.contiguous(memory_format=torch.channels_last if g.dim() == 4 else torch.contiguous_format)

    def _like_result(self) -> Tensor:
        order = torch.channels_last if len(self._shape) == 4 else torch.contiguous_format
        return torch.empty(self._shape, memory_format=order)

    def _make_derivative(self, name: str, found: dict[str, Tensor]) -> None:
        """Memory for the loss by a parameter; of a batch norm, by weight and bias, one after the other."""
        p = self._seen.parameters[name]
        bias = self.plan.pairs.get(name)
        planned = self.plan.elements[Place("derivative", name)]
        if planned != p.numel() * (1 if bias is None else 2):
            # The kernels would write past the end.
            raise RuntimeError(
                f"{name} was cut or replaced between the way forth and the way back, and has {p.numel()} numbers now; "
                "change it before both or after both."
            )
        if bias is None:
            found[name] = empty_strided(p.shape, p.stride(), p.dtype)
        else:
            found[name], found[bias] = torch.empty((2, len(p)))

    def _addresses(self, places: Sequence[Place], ends: Mapping[Place, int]) -> list[int]:
        tensors = self._seen.tensors
        return [tensors[p.name].data_ptr() if p.kind == "tensor" else ends[p] for p in places]


def _draw(kept: Tensor, share: float) -> Tensor:
    """What a dropout multiplies by: drawn as PyTorch draws, and in its order."""
    return kept.bernoulli_(1 - share).div_(1 - share)


def _times(kept: Tensor, layer: nn.Module, given: tuple[Tensor], _: Tensor) -> Tensor:
    """What a dropout gives that multiplies by these, which lie channels last."""
    (x,) = given
    if x.dim() < 4:
        return x * kept.view(x.shape)
    n, c, h, w = x.shape
    return x * kept.view(n, h, w, c).permute(0, 3, 1, 2)


def _formats(tensor: Tensor) -> tuple[bool, ...]:
    """In which memory orders it is dense: channels last?"""
    if tensor.dim() != 4:
        return (False,) if tensor.is_contiguous() else ()
    return formats_of(tensor.shape, tensor.stride())


def _answers(runnables: Sequence[Runnable]) -> Counter[Answer]:
    prepared = [r for r in runnables if isinstance(r, Prepared)]
    return Counter(Answer(r.plan.problem.op, r.plan.algorithm.name) for r in prepared)
