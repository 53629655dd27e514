"""What autograd sees of a step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hapgop.nn.training.step import Step


class Call(torch.autograd.Function):
    """A step's two calls, as one function."""

    @staticmethod
    def forward(ctx: Any, step: Step, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.step, ctx.drawn_from = step, torch.get_rng_state() if step.plan.dropped else None
        y, arena = step.forward(x)
        # Not among what is saved: it is another step's as soon as this way back has been gone.
        ctx.arena = arena
        ctx.set_materialize_grads(False)
        # A result that the way back does not read may be written over.
        ctx.save_for_backward(x, y if step.reads_result else None, *parameters)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> tuple[Tensor | None, ...]:
        step: Step = ctx.step
        if g is None:
            return (None,) * (2 + len(step.parameters))
        x, y, *_ = ctx.saved_tensors
        if ctx.arena is None or torch.is_grad_enabled():
            return None, *step.by_layers(x, g, ctx.drawn_from)
        arena, ctx.arena = ctx.arena, None
        return None, *step.backward(x, y, arena, step.laid(g))
