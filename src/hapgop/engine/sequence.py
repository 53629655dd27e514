"""Many prepared calls as one: a table of steps that one team of threads works through."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence as Several
from dataclasses import dataclass
from time import perf_counter

from hapgop.engine.runnable import Runnable
from hapgop.native import ALONE, HEAD, MEET, STEP, clocked, launch, sequence


@dataclass(frozen=True, slots=True)
class Outside:
    """The address of a tensor that each call of the sequence brings: its number, and bytes from there on."""

    number: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One step: what runs, on which addresses; by the first thread alone, or by all; do all meet behind it?"""

    runnable: Runnable
    pointers: tuple[int | Outside, ...]
    alone: bool
    meet: bool


class Sequence:
    """Calls made ready to run as one, by a team of at most `team` threads.

    scratch: the address of `scratch_bytes` bytes, which all steps use in turn. Not safe to call from several Python
    threads at once: there is one table and one scratch.
    """

    def __init__(self, calls: Several[Call], team: int, scratch: int) -> None:
        self._calls, self._team = tuple(calls), team
        self._expected = int(sum(call.runnable.seconds for call in calls) * 1e9)
        self._run = sequence()
        head, words = HEAD + STEP * len(calls), b""
        patches: list[tuple[int, Outside]] = []
        starts = []
        for call in calls:
            starts.append(head + len(words) // 8)
            known = tuple(0 if isinstance(p, Outside) else p for p in call.pointers)
            words += call.runnable.words(known, scratch, 1 if call.alone else team)
            patches += [(starts[-1] + i, p) for i, p in enumerate(call.pointers) if isinstance(p, Outside)]
        self._table = (ctypes.c_int64 * (head + len(words) // 8))()
        self._address = ctypes.addressof(self._table)
        table: list[int] = [len(calls), 0]
        for call, start in zip(calls, starts, strict=True):
            how = ALONE * call.alone + MEET * call.meet
            table += [call.runnable.address, self._address + 8 * start, how]
        self._table[:] = [*table, *struct.unpack(f"={len(words) // 8}q", words)]
        self._patches = [(place, p.number, p.offset) for place, p in patches]

    @staticmethod
    def scratch_bytes(calls: Several[Call], team: int) -> int:
        """The most scratch that one of the calls needs."""
        return max((call.runnable.scratch_bytes(1 if call.alone else team) for call in calls), default=0)

    def __call__(self, *outside: int) -> None:
        """Runs all steps; `outside` are the addresses that `Outside` pointers stand for."""
        table = self._table
        for place, number, offset in self._patches:
            table[place] = outside[number] + offset
        launch(self._run, self._address, self._team, self._expected)

    def seconds(self, *outside: int, repeats: int = 20) -> tuple[float, ...] | None:
        """Each step's time within the call, the least of some runs; None where the CPU's clock cannot be read."""
        if not clocked():
            return None
        count = len(self._calls)
        notes = (ctypes.c_int64 * (count + 1))()
        least = [float("inf")] * count
        self(*outside)
        self._table[1] = ctypes.addressof(notes)
        try:
            self(*outside)
            begun, first = perf_counter(), notes[count]
            for _ in range(repeats):
                self(*outside)
                least = [min(t, notes[i + 1] - notes[i]) for i, t in enumerate(least)]
            rate = (perf_counter() - begun) / max(1, notes[count] - first)
        finally:
            self._table[1] = 0
        return tuple(ticks * rate for ticks in least)
