"""The batches of a training: made beside it where a core is free, else between its steps."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Event, Thread

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from hapgop.train.augment import Draws, changed, drawn
from hapgop.train.batches import Order
from hapgop.train.data import Data
from hapgop.train.recipe import Recipe
from hapgop.train.schedule import image_size

# So many batches wait ready: enough to bridge a slow disk, little enough for the memory.
_AHEAD = 3
_POLL = 0.2
# Chance is drawn for so many steps at a time: between two steps, a few small calls take four times as long.
_TOGETHER = 32


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step sees: x, float32 (b, c, h, w), channels last, and y, (b,) classes.

    other: the classes that mixup has mixed in, or None; share: how much of each image is its own.
    """

    x: Tensor
    y: Tensor
    other: Tensor | None = None
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
        self._draws: dict[int, tuple[Draws, Draws]] = {}
        self._fill = tuple(min(255, round(255 * mean)) for mean in data.preprocessing.mean)

    def batch(self, step: int) -> Batch:
        """The batch of a step; `step` counts from 0 over the whole training."""
        recipe, order = self.recipe, self.order
        draws, own = self._drawn(step)
        chosen = order.batch(step)
        x = self._images(chosen[self.rows], own)
        labels = torch.from_numpy(self.data.train.labels[chosen])
        y, other, share = labels[self.rows], None, 1.0
        if recipe.mixup:
            partner = draws.partner[self.rows]
            share = float(draws.share[0])
            x = torch.lerp(self._images(chosen[partner], draws.of(partner)), x, share)
            other = labels[torch.from_numpy(partner)]
        full = self.data.input_shape[1:]
        size = image_size(recipe, (full[0], full[1]), step, recipe.epochs * order.steps)
        if size != full:
            x = interpolate(x, size, mode="bilinear", antialias=True).contiguous(memory_format=torch.channels_last)
        return Batch(x, y, other, share)

    def _drawn(self, step: int) -> tuple[Draws, Draws]:
        """The draws of a step, and those for the part that is made here."""
        if step not in self._draws:
            several = {at: drawn(self.recipe, self.order, at) for at in range(step, step + _TOGETHER)}
            self._draws = {at: (draws, draws.of(self.rows)) for at, draws in several.items()}
        return self._draws[step]

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

    def _images(self, chosen: "np.ndarray[tuple[int], np.dtype[np.int64]]", draws: Draws) -> Tensor:
        pixels = changed(self.data.train.batch(chosen), draws, self.recipe, self._fill)
        return torch.from_numpy(self.data.preprocessing.batch(pixels))


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
