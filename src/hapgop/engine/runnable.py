"""A recipe made ready: its kernel loaded, and the words that a call of it is given."""

from __future__ import annotations

import struct

from hapgop.algorithms import Recipe
from hapgop.engine.compiled import compiled
from hapgop.engine.memory import rounded
from hapgop.engine.scratch import scratch
from hapgop.engine.team import get_threads, most_threads
from hapgop.machine import Machine
from hapgop.native import launch
from hapgop.tile import Affine, apart


class Runnable:
    """A kernel ready to run; call it with the addresses of its tensors. The base of what `prepare` and its kin make.

    The bits are the same for any number of threads. Safe to call from several Python threads at once.
    """

    def __init__(self, recipe: Recipe, tensors: int, itemsize: int, seconds: float, machine: Machine) -> None:
        self.recipe, self.seconds, self._itemsize = recipe, seconds, itemsize
        tables = [table.ctypes.data for table in recipe.tables]
        self._buffers = len(recipe.scratch) + len(recipe.private)
        self._layouts: dict[int, tuple[tuple[int, ...], int]] = {}
        self._words = struct.Struct(
            f"={tensors + len(tables) + self._buffers + len(recipe.sizes)}q"
        ).pack  # a ctypes array takes twice as long
        self._tables, self._sizes = tuple(tables), recipe.sizes
        self._function = compiled(recipe.key, recipe.build, machine)  # kept: the code lives as long as this object
        self.address = self._function.address
        self.bytes = self._function.bytes
        self._team = most_threads(seconds, recipe.items)
        self._expected = int(seconds * 1e9)

    def __call__(self, *pointers: int, threads: int | None = None) -> None:
        team = self._team
        if team > 1:
            team = min(team, threads or get_threads())
        if self._buffers:
            offsets, size = self._layouts.get(team) or self._laid_out(team)
            block = scratch(size)  # a name keeps it, whatever a signal's handler computes before the launch
            base = block.address
            words = self._words(*pointers, *self._tables, *[base + o for o in offsets], *self._sizes)
        else:
            words = self._words(*pointers, *self._tables, *self._sizes)
        launch(self.address, words, team, self._expected)

    def scratch_bytes(self, team: int) -> int:
        """Bytes of scratch for a call by so many threads."""
        return (self._layouts.get(team) or self._laid_out(team))[1]

    def words(self, pointers: tuple[int, ...], base: int, team: int) -> bytes:
        """What the kernel is given: tensors at these addresses, scratch from `base` on for so many threads.

        The first words are the pointers, in their order.
        """
        offsets, _ = self._layouts.get(team) or self._laid_out(team)
        return self._words(*pointers, *self._tables, *[base + o for o in offsets], *self._sizes)

    def _laid_out(self, team: int) -> tuple[tuple[int, ...], int]:
        """Where scratch and private buffers start in one block, and the block's bytes."""
        private = [apart(Affine(elements)).const * team for elements in self.recipe.private]
        offsets = [0]
        for elements in (*self.recipe.scratch, *private):
            offsets.append(offsets[-1] + rounded(elements * self._itemsize))
        self._layouts[team] = tuple(offsets[:-1]), offsets[-1]
        return self._layouts[team]
