"""The batches of a training: made beside it where a core is free, else between its steps."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from queue import Empty, Full, Queue
from threading import Event, Thread

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from hapgop.train.augment import Draws, Windows, changed, drawn
from hapgop.train.batches import TOGETHER, Order
from hapgop.train.data import Data
from hapgop.train.recipe import Recipe
from hapgop.train.schedule import image_size

# So many batches wait ready: enough to bridge a slow disk, little enough for the memory.
_AHEAD = 3
_POLL = 0.2
# Small batches are made several at a time, of so many bytes of pixels: between two steps, each call of a few
# microseconds takes four times as long.
_BYTES = 2 << 20
# All images together get their border once, if that takes no more bytes than this; else each time that they are seen.
_BORDERED = 64 << 20


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step sees: x, float32 (b, c, h, w), channels last, and y, int64 (b,), the classes.

    other: the classes that mixup has mixed in, or None; share: how much of each image is its own.
    """

    x: Tensor
    y: NDArray[np.int64]
    other: NDArray[np.int64] | None = None
    share: float = 1.0


class Feeder:
    """Makes the batches of a training: each a function of its step alone, so nothing here needs to be kept.

    rows: the part of each batch that is made, where several processes share it. beside: whether they are made in a
    thread beside the caller's work; None where there are more cores than threads that compute. On a core that
    computes, such a thread is put off in the middle of its work, and with Python's lock: every step then waits for it
    several times as long as the work takes.
    """

    def __init__(
        self, data: Data, recipe: Recipe, order: Order, rows: slice = slice(None), beside: bool | None = None
    ) -> None:
        self.data, self.recipe, self.order, self.rows = data, recipe, order, rows
        self.beside = _cores() > torch.get_num_threads() if beside is None else beside
        self.waited = 0.0
        """Seconds for which a step had no batch yet, in all."""
        self._turn: tuple[int, Draws] | None = None
        self._made: dict[int, Batch] = {}
        pixels = data.train.pixels
        self._all = Windows(pixels, recipe) if Windows.bytes(pixels, recipe) <= _BORDERED else None
        self._fill = tuple(min(255, round(255 * mean)) for mean in data.preprocessing.mean)

    def batch(self, step: int) -> Batch:
        """The batch of a step; `step` counts from 0 over the whole training."""
        if step not in self._made:
            self._made = self._several(step)
        return self._made[step]

    def _several(self, first: int) -> dict[int, Batch]:
        """The batches of a step and of those that follow it, as many as are made at a time."""
        order, size = self.order, self.order.batch_size
        own = np.arange(size)[self.rows]
        fitting = max(1, _BYTES // max(1, len(own) * self.data.train.pixels[0].nbytes))
        # A turn in equal parts, of which this is one, or what is left of it.
        most, at = ceil(TOGETHER / ceil(TOGETHER / fitting)), first % TOGETHER
        count = min(most - at % most, TOGETHER - at)
        steps = range(first, first + count)
        chosen = np.concatenate([order.batch(step) for step in steps])
        seen, draws = chosen, self._drawn(first, count)
        if len(own) < size:
            rows = (np.arange(count)[:, None] * size + own).ravel()
            seen, draws = chosen[rows], draws.of(rows)
        images = self._numbers(seen, draws).split(len(own))
        labels = self.data.train.labels[chosen].reshape(count, size)
        return {at: self._batch(at, x, y) for at, x, y in zip(steps, images, labels, strict=True)}

    def _batch(self, step: int, x: Tensor, labels: NDArray[np.int64]) -> Batch:
        """x: the part that is made here; labels: of the whole batch."""
        recipe, order = self.recipe, self.order
        y, other, share = labels[self.rows], None, 1.0
        if recipe.mixup:
            draws = self._drawn(step)
            partner = draws.partner[self.rows]
            share = float(draws.share[0])
            if len(x) == len(labels):
                mate = x[torch.from_numpy(partner)]
            else:  # another process may have made it
                mate = self._numbers(order.batch(step)[partner], draws.of(partner))
            x = torch.lerp(mate, x, share)
            other = labels[partner]
        full = self.data.input_shape[1:]
        size = image_size(recipe, (full[0], full[1]), step, recipe.epochs * order.steps)
        if size != full:
            x = interpolate(x, size, mode="bilinear", antialias=True).contiguous(memory_format=torch.channels_last)
        return Batch(x, y, other, share)

    def _drawn(self, step: int, steps: int = 1) -> Draws:
        """The draws of some steps of one turn."""
        turn, at = divmod(step, TOGETHER)
        if self._turn is None or self._turn[0] != turn:
            self._turn = turn, drawn(self.recipe, self.order, turn)
        size = self.order.batch_size
        return self._turn[1].of(slice(at * size, (at + steps) * size))

    def batches(self, first: int) -> Iterator[Batch]:
        """The batches from `first` on, to the end of the recipe."""
        return self._beside(first) if self.beside else self._between(first)

    def _between(self, first: int) -> Iterator[Batch]:
        for step in range(first, self.recipe.epochs * self.order.steps):
            began = time.perf_counter()
            made = self.batch(step)
            self.waited += time.perf_counter() - began
            yield made

    def _beside(self, first: int) -> Iterator[Batch]:
        queue: Queue[Batch | BaseException] = Queue(_AHEAD)
        stop = Event()
        thread = Thread(target=self._make, args=(first, queue, stop), name="hapgop-batches", daemon=True)
        thread.start()
        try:
            for _ in range(first, self.recipe.epochs * self.order.steps):
                began = time.perf_counter()
                got = queue.get()
                self.waited += time.perf_counter() - began
                if isinstance(got, BaseException):
                    raise got
                yield got
        finally:
            stop.set()
            while thread.is_alive():
                try:
                    queue.get_nowait()
                except Empty:
                    thread.join(_POLL)

    def _make(self, first: int, queue: "Queue[Batch | BaseException]", stop: Event) -> None:
        for step in range(first, self.recipe.epochs * self.order.steps):
            try:
                made: Batch | BaseException = self.batch(step)
            except BaseException as error:  # whatever it is, the step that wanted this batch raises it
                made = error
            while not stop.is_set():
                try:
                    queue.put(made, timeout=_POLL)
                    break
                except Full:
                    continue
            if stop.is_set() or isinstance(made, BaseException):
                return

    def _numbers(self, chosen: NDArray[np.int64], draws: Draws) -> Tensor:
        rows, windows = self.data.train.rows[chosen], self._all
        if windows is None:
            rows, windows = np.arange(len(chosen)), Windows(self.data.train.batch(chosen), self.recipe)
        pixels = changed(windows.at(rows, draws.shift), draws, self.recipe, self._fill)
        return torch.from_numpy(self.data.preprocessing.batch(pixels))


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
