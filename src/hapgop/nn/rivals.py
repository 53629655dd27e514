"""PyTorch's own operator as one more candidate: where it is measured faster than ours, the call goes there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from hapgop import engine
from hapgop.algorithms import costs
from hapgop.nn.layout import brought
from hapgop.nn.outputs import empty_strided
from hapgop.nn.plain import plain
from hapgop.shape import ConvShape

Facts = tuple[torch.dtype | str, Sequence[int], Sequence[int]]

FASTER: Final = "measured faster here"

_OURS, _THEIRS = "ours", "PyTorch"
_CLEARLY = 0.95  # of our time: what is closer stays ours, with our promises
_FAST = 1.3  # times the peak of multiply-adds: only a fast algorithm is predicted so, and PyTorch has none
_LONGEST = 0.2  # seconds on one core


def faster(
    prepared: engine.Prepared,
    given: Sequence[Facts | None],
    moves: Sequence[bool | None],
    result: tuple[Sequence[int], Sequence[int]],
    operator: Callable[..., Tensor],
) -> bool:
    """Whether PyTorch's operator is known to be clearly faster than ours; measured where that pays.

    given: the inputs, in the order of both sides; moves: into which format ours brings each first, or None. result:
    shape and strides of what ours writes.
    """
    if engine.get_tuning() == "off":
        return False
    dtypes = [None if f is None else (str(f[0]), tuple(f[1]), tuple(f[2])) for f in given]
    key = f"PyTorch {torch.__version__} {prepared.plan.problem!r} {dtypes} {result[1]}"
    times = engine.measured(key)
    if times is None and _worth(prepared):
        tensors = [None if f is None else _usual(f) for f in given]
        with torch._C._AutoDispatchBelowAutograd():
            calls = {_OURS: _ours(prepared, tensors, moves, result), _THEIRS: lambda: operator(*tensors)}
            times = engine.compare(key, calls)
    return times is not None and times.get(_THEIRS, 1.0) < _CLEARLY * times.get(_OURS, 0.0)


def _worth(prepared: engine.Prepared) -> bool:
    plan = prepared.plan
    shape = plan.problem.shape
    if not isinstance(shape, ConvShape) or plan.seconds > _LONGEST or not plain() or not engine.may_measure():
        return False
    peak = 2 * costs.CLOCK * costs.FMA_BYTES / plan.problem.itemsize
    return shape.flops / plan.seconds < _FAST * peak


def _usual(facts: Facts) -> Tensor:
    dtype, shape, strides = facts
    span = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    numbers = torch.from_numpy(engine.usual(span, np.dtype("float32")))
    return numbers.to(getattr(torch, str(dtype).removeprefix("torch."))).as_strided(tuple(shape), tuple(strides))


def _ours(
    prepared: engine.Prepared,
    tensors: Sequence[Tensor | None],
    moves: Sequence[bool | None],
    result: tuple[Sequence[int], Sequence[int]],
) -> Callable[[], object]:
    shape, strides = result
    first, second, *rest = tensors
    assert first is not None
    assert second is not None
    keeps = second
    if prepared.plan.problem.packed:
        keeps = torch.empty(prepared.packed_size, dtype=getattr(torch, prepared.plan.problem.inside))
        prepared.pack(second.data_ptr(), keeps.data_ptr())
    further = [0 if tensor is None else tensor.data_ptr() for tensor in rest]

    def call() -> None:
        a, b = brought(first, moves[0]), brought(keeps, moves[1])
        y = empty_strided(shape, strides, first.dtype)
        prepared(a.data_ptr(), b.data_ptr(), *further, y.data_ptr(), threads=torch.get_num_threads())

    return call
