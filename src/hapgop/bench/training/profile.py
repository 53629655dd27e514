"""Where the time of a training step goes, by kind of work and by operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

from torch.profiler import ProfilerActivity, profile

_STEPS = 3
_SHAPES = 12  # rows of single operators that are shown

# How an operator's name begins, and the kind of work that it is; the first that fits counts.
_KINDS: Final = (
    ("hapgop_convBackward", "autograd"),
    ("hapgop_conv_poolBackward", "autograd"),
    ("hapgop_batch_normBackward", "autograd"),
    ("autograd::", "autograd"),
    ("hapgop::conv", "conv"),
    ("hapgop_conv_pool", "conv and pool"),
    ("hapgop_conv", "conv"),
    ("hapgop_batch_norm", "batch norm"),
    ("hapgop_max_pool", "pool"),
    ("hapgop_avg_pool", "pool"),
    ("hapgop::grad_x", "grad_x"),
    ("hapgop::grad_w", "grad_w"),
    ("hapgop::grad_b", "grad_b"),
    ("hapgop::pooled_grad_w", "grad_w"),
    ("hapgop::pooled_grad", "pool"),
    ("hapgop::relu", "relu"),
    ("hapgop::batch_norm", "batch norm"),
    ("hapgop::max_pool", "pool"),
    ("hapgop::avg_pool", "pool"),
    ("aten::native_batch_norm", "batch norm"),
    ("aten::threshold_backward", "relu"),
    ("aten::relu", "relu"),
    ("aten::clamp_min", "relu"),
    ("aten::addmm", "linear"),
    ("aten::mm", "linear"),
    ("aten::copy_", "copies"),
    ("aten::_fused_sgd", "optimiser"),
    ("Optimizer", "optimiser"),
    ("aten::add", "add"),
)


@dataclass(frozen=True, slots=True)
class Profile:
    """milliseconds: a step's, by kind of work. operators: (name, shapes, milliseconds, calls) of the slowest.

    The profiler takes time of its own: `whole` is the step's with it, `plain` without it.
    """

    milliseconds: Mapping[str, float]
    operators: tuple[tuple[str, str, float, float], ...]
    whole: float
    plain: float


def profiled(step: Callable[[], object]) -> Profile:
    """Profiles some steps."""
    step()
    plain = _timed(step)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as record:
        whole = _timed(step)
    kinds: dict[str, float] = {}
    for event in record.key_averages():
        kind = next((kind for start, kind in _KINDS if event.key.startswith(start)), "the rest")
        kinds[kind] = kinds.get(kind, 0.0) + event.self_cpu_time_total / 1000 / _STEPS
    known = sum(kinds.values())
    kinds["Python"] = max(0.0, whole - known)
    return Profile(dict(sorted(kinds.items(), key=lambda item: -item[1])), _slowest(record), whole, plain)


def _slowest(record: Any) -> tuple[tuple[str, str, float, float], ...]:
    events = sorted(record.key_averages(group_by_input_shape=True), key=lambda e: -e.self_cpu_time_total)
    return tuple(
        (e.key, _shapes(e.input_shapes), e.self_cpu_time_total / 1000 / _STEPS, e.count / _STEPS)
        for e in events[:_SHAPES]
    )


def _shapes(shapes: list[list[int]]) -> str:
    return " ".join("x".join(map(str, shape)) for shape in shapes if shape)


def _timed(step: Callable[[], object]) -> float:
    start = perf_counter()
    for _ in range(_STEPS):
        step()
    return 1000 * (perf_counter() - start) / _STEPS
