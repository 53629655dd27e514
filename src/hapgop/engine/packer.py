"""The packing of weights ahead of the calls that read them."""

from __future__ import annotations

import struct

from hapgop.algorithms import Pack
from hapgop.engine.compiled import compiled
from hapgop.engine.memory import rounded
from hapgop.engine.scratch import scratch
from hapgop.engine.team import get_threads, most_threads
from hapgop.machine import Machine
from hapgop.native import launch
from hapgop.tile import Affine, apart

_BYTES_PER_SECOND = 5e9  # that one core packs, at least


class Packer:
    """A `Pack` ready to run."""

    def __init__(self, pack: Pack, itemsize: int, machine: Machine) -> None:
        self._offsets = [0]
        seconds = pack.size * itemsize / _BYTES_PER_SECOND
        self._team, self._expected = most_threads(seconds, pack.items), int(seconds * 1e9)
        private = [apart(Affine(elements)).const * self._team for elements in pack.private]
        for elements in (*pack.scratch, *private):
            self._offsets.append(self._offsets[-1] + rounded(elements * itemsize))
        self._size = self._offsets.pop()
        self._sizes = pack.sizes
        self._function = compiled(pack.key, pack.build, machine)

    def __call__(self, w: int, packed: int, threads: int | None) -> None:
        block = scratch(self._size)
        values = (w, packed, *[block.address + offset for offset in self._offsets], *self._sizes)
        words = struct.pack(f"={len(values)}q", *values)
        launch(self._function.address, words, min(self._team, threads or get_threads()), self._expected)
