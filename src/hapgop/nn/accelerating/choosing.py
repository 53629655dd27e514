"""Ours or PyTorch's, for one layer on one kind of input: whichever was faster when both were tried.

The first call of each kind measures both, forward and where it is wanted backward, on the tensors that it was given.
What is tried are pure functions, on detached tensors where a gradient is wanted: no hook fires, no gradient is
accumulated, no statistic moves, and who keeps or counts what a forward saves (checkpoints) is not told of the trials.
"""

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from time import perf_counter
from typing import Any, Final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch._C._autograd import _profiler_enabled
from torch.autograd import forward_ad
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from hapgop import engine
from hapgop.nn.plain import ordinary
from hapgop.nn.report import Answer, count
from hapgop.shape import without_warnings

Tensors = tuple[Tensor | None, ...]
Compute = Callable[..., Any]

SLOWER: Final = "measured no faster here"

_ROUNDS: Final = 4
_CLEAR: Final = 1.5  # times as fast in the first round: no second one is needed
_LONG: Final = 0.25  # seconds for a round: one has to do
_WORTH: Final = 1.03  # what ours must gain before PyTorch's own is left
_MOST: Final = 4096

_USUAL: Final = vars(Tensor)["__torch_function__"].__func__


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether ours computes, and how many times as fast as PyTorch's it was; None where nothing was measured."""

    ours: bool
    gain: float | None


Key = tuple[Hashable, ...]

_lock = Lock()
_choices: dict[Key, Choice] = {}
_seen: WeakKeyDictionary[nn.Module, dict[Key, Choice]] = WeakKeyDictionary()


def chosen(
    layers: Sequence[nn.Module], op: str, ours: Compute, theirs: Compute, tensors: Tensors, setting: tuple[Any, ...]
) -> Any:
    """The result of the faster of `ours` and `theirs` on (*tensors, *setting); `layers`: of whom it is the result."""
    if not prefers_ours(layers, op, ours, theirs, tensors, setting):
        return theirs(*tensors, *setting)
    if torch.are_deterministic_algorithms_enabled():
        with without_warnings():  # nothing was tried before
            return ours(*tensors, *setting)
    return ours(*tensors, *setting)


def prefers_ours(
    layers: Sequence[nn.Module], op: str, ours: Compute, theirs: Compute, tensors: Tensors, setting: tuple[Any, ...]
) -> bool:
    """Whether `ours` is the faster one on (*tensors, *setting); a call that is PyTorch's then is counted."""
    if any(not isinstance(t, Tensor | None) for t in tensors):
        # A tracer's stand-ins: what it writes down are PyTorch's operators.
        return False
    if not ordinary(*tensors) or torch.is_autocast_enabled("cpu") or forward_ad._current_level >= 0:
        # Tracing, transforms, other devices: ours knows what to do with each; but not with weights that are more than
        # their numbers.
        return not any(map(_of_its_own_kind, tensors[1:]))
    key = (op, setting, torch.is_grad_enabled(), torch.get_num_threads(), *map(_facts, tensors))
    try:
        choice = _choices.get(key)
    except TypeError:  # a setting that cannot be hashed: a list
        key = (op, _hashable(setting), *key[2:])
        choice = _choices.get(key)
    if choice is None:
        if _profiler_enabled():  # its own work would be measured too, and what is chosen is kept
            return True
        choice = _decide(key, ours, theirs, tensors, setting)
    for layer in layers:
        if key not in _seen.get(layer, ()):
            _remember(layer, key, choice)
    if not choice.ours:
        count(_slower(op))
    return choice.ours


def choices_of(layer: nn.Module) -> dict[Key, Choice]:
    """What was decided for this layer so far, by kind of call."""
    return dict(_seen.get(layer, {}))


def forget_choices() -> None:
    """Measure anew."""
    with _lock:
        _choices.clear()
        _seen.clear()


engine.on_change(forget_choices)


def _of_its_own_kind(weight: Tensor | None) -> bool:
    """Whether it computes in a way of its own, of which PyTorch's operators know."""
    if weight is None or type(weight) in (Tensor, nn.Parameter):
        return False
    # Asked of the class: what asks of a tensor says yes wherever a mode listens.
    function = type(weight).__torch_function__
    own = getattr(function, "__func__", function) not in (_USUAL, torch._C._disabled_torch_function_impl)
    return own or is_traceable_wrapper_subclass(weight)


@lru_cache
def _slower(op: str) -> Answer:
    return Answer(op, None, SLOWER)


def _facts(tensor: Tensor | None) -> Hashable:
    return None if tensor is None else (tensor.shape, tensor.stride(), tensor.dtype, tensor.requires_grad)


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


def _remember(layer: nn.Module, key: Key, choice: Choice) -> None:
    with _lock:
        seen = _seen.setdefault(layer, {})
        if len(seen) >= _MOST:
            seen.clear()
        seen[key] = choice


def _decide(key: Key, ours: Compute, theirs: Compute, tensors: Tensors, setting: tuple[Any, ...]) -> Choice:
    if torch.are_deterministic_algorithms_enabled() or any(t is not None and t.numel() == 0 for t in tensors):
        # What was measured differs from run to run, and with it the last bits.
        choice = Choice(True, None)
    else:
        with without_warnings():
            choice = measured(ours, theirs, tensors, setting)
    with _lock:
        if len(_choices) >= _MOST:
            _choices.clear()
        _choices[key] = choice
    return choice


def measured(ours: Compute, theirs: Compute, tensors: Tensors, setting: tuple[Any, ...] = ()) -> Choice:
    """Tries both, in turn."""
    # The first of each compiles, plans and warms up. An error of ours comes now, in words of its own.
    for compute in (ours, theirs):
        _seconds(compute, tensors, setting)
    best = [float("inf")] * 2
    for _ in range(_ROUNDS):
        for side, compute in enumerate((ours, theirs)):
            best[side] = min(best[side], _seconds(compute, tensors, setting))
        gain = best[1] / best[0]
        if max(best) > _LONG or not 1 / _CLEAR < gain < _CLEAR:
            break
    return Choice(gain > _WORTH, gain)


def _seconds(compute: Compute, tensors: Tensors, setting: tuple[Any, ...]) -> float:
    given, wanted = list(tensors), []
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        given = [None if t is None else t.detach().requires_grad_(t.requires_grad) for t in tensors]
        wanted = [t for t in given if t is not None and t.requires_grad]
    with _unheard():
        start = perf_counter()
        result = compute(*given, *setting)
        if wanted:
            y = result[0] if isinstance(result, tuple) else result
            torch.autograd.grad(y, wanted, torch.ones_like(y))
        return perf_counter() - start


def _unheard() -> AbstractContextManager[None]:
    """Hides what is saved from the hooks of others, where there are any: the last ones given are asked alone."""
    if torch._C._autograd._top_saved_tensors_default_hooks(False) is None:
        return nullcontext()
    return saved_tensors_hooks(Tensor.detach, lambda tensor: tensor)
