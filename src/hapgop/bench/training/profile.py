"""Where the time of a training step goes, by kind of work and by operator.

Of a step in two native calls, from the clock within them; of one that goes layer by layer, from PyTorch's profiler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

from torch.profiler import ProfilerActivity, profile

from hapgop.algorithms import Problem
from hapgop.algorithms.maps import MapProblem
from hapgop.bench.training.sides import Side
from hapgop.nn import TrainingProgram
from hapgop.nn.training import CallTime
from hapgop.shape import ConvShape

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
    ("hapgop::pooled_grad_x", "grad_x"),
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


# The kinds of work of our operations, where those are not the operation's name.
_WORK: Final = {
    **dict.fromkeys(("batch_norm", "batch_norm_grad"), "batch norm"),
    **dict.fromkeys(("max_pool", "max_pool_grad", "avg_pool", "avg_pool_grad", "pooled_grad"), "pool"),
    "pooled_grad_x": "grad_x",
    "pooled_grad_w": "grad_w",
    "relu_grad": "relu",
    "blend": "running statistics",
}


@dataclass(frozen=True, slots=True)
class Profile:
    """milliseconds: a step's, by kind of work. operators: (name, shapes, milliseconds, calls) of the slowest.

    A profiler takes time of its own: `whole` is the step's with it, `plain` without it.
    """

    milliseconds: Mapping[str, float]
    operators: tuple[tuple[str, str, float, float], ...]
    whole: float
    plain: float


def profiled(side: Side) -> Profile:
    """Profiles some steps."""
    side.step()
    plain = _timed(side.step)
    program = side.called
    if isinstance(program, TrainingProgram) and program.reason is None:
        return _from_within(program.measure(side.x), plain)
    return _by_profiler(side.step, plain)


def _from_within(calls: Sequence[CallTime], plain: float) -> Profile:
    kinds: dict[str, float] = {}
    alike: dict[tuple[str, str], list[float]] = {}
    for call in calls:
        op, ms = call.problem.op, 1000 * call.seconds
        kind = _WORK.get(op, op)
        kinds[kind] = kinds.get(kind, 0.0) + ms
        alike.setdefault((f"{op}, {call.algorithm}", _shape_of(call.problem)), []).append(ms)
    kinds["outside the calls"] = max(0.0, plain - sum(kinds.values()))
    slowest = sorted(alike.items(), key=lambda item: -sum(item[1]))[:_SHAPES]
    rows = tuple((name, shape, sum(times), float(len(times))) for (name, shape), times in slowest)
    return Profile(dict(sorted(kinds.items(), key=lambda item: -item[1])), rows, plain, plain)


def _shape_of(problem: Problem | MapProblem) -> str:
    if isinstance(problem, MapProblem):
        return f"{problem.images}x{problem.pixels}x{problem.channels}"
    s = problem.shape
    if isinstance(s, ConvShape):
        return f"{s.n}x{s.ic}x{s.ih}x{s.iw} {'x'.join(map(str, s.w_shape))}"
    return f"{s.n}x{s.c}x{s.ih}x{s.iw}"


def _by_profiler(step: Callable[[], object], plain: float) -> Profile:
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
