"""Weights packed once for many calls, as long as they stay what they are.

Only a `Parameter` whose gradient nobody wants is packed so: that is how a net predicts. PyTorch counts changes of a
tensor (`_version`), and a change that it does not count, through `.data` or NumPy, is found by comparing: small weights
whole, of large ones a number of each filter. What that cannot find is a change of few numbers of large weights.
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from torch import Tensor
from torch.nn import Parameter

from hapgop import engine
from hapgop.nn.probes import probe

_MOST: Final = 256 << 20  # bytes of packed weights together; Winograd's are four times as large as the weights
_WHOLE: Final = 4096  # weights that are compared all


@dataclass(frozen=True, slots=True)
class _Held:
    """Packed weights, and how to know that they still are those of the tensor."""

    tensor: weakref.ref[Tensor]
    version: int
    address: int
    probe: np.ndarray[Any, Any]  # keeps the memory too: its address stays taken
    seen: bytes
    packed: np.ndarray[Any, Any]
    at: int

    def fits(self, w: Tensor) -> bool:
        return (
            self.tensor() is w
            and self.version == w._version
            and self.address == w.data_ptr()
            and self.seen == self.probe.tobytes()
        )


_kept: Final[engine.Kept[_Held]] = engine.Kept(_MOST)
# Tensors die anywhere, in the midst of `put` too: that only puts their keys here.
_gone: Final[deque[tuple[int, str]]] = deque()


def can_be(w: Tensor) -> bool:
    """Whether changes of this tensor are counted, and it is likely to come again."""
    return type(w) is Parameter and not w.is_inference()


def packed(run: engine.Prepared, w: Tensor) -> tuple[int, object]:
    """The address of w packed as a prepared problem wants it, and what keeps that memory meanwhile."""
    pack = run.plan.recipe.pack
    if pack is None:
        return w.data_ptr(), w
    key = id(w), pack.key
    held = _kept.get(key)
    if held is None or not held.fits(w):
        held = _pack(run, w, key)
    return held.at, held


def _pack(run: engine.Prepared, w: Tensor, key: tuple[int, str]) -> _Held:
    while _gone:
        _kept.drop(_gone.popleft())
    version, address = w._version, w.data_ptr()
    numbers = probe(w, _WHOLE)
    seen = numbers.tobytes()
    inside = np.dtype(run.plan.problem.inside)
    memory = engine.empty((run.packed_size + engine.ALIGN // inside.itemsize,), inside)
    first = -memory.ctypes.data % engine.ALIGN // inside.itemsize
    at = memory[first:].ctypes.data
    run.pack(address, at)
    held = _Held(weakref.ref(w, lambda _: _gone.append(key)), version, address, numbers, seen, memory, at)
    _kept.put(key, held, memory.nbytes)
    return held


def forget() -> None:
    """Keeps no packed weights any longer."""
    _kept.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_kept.after_fork)
