"""A training as it is watched: what it tells, kept so that a page can ask for it at any time."""

import math
from dataclasses import asdict
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hapgop.errors import InputError
from hapgop.train import EpochDone, Event, Formed, Progress, Reading, Step

# So many points make a curve, however long the training is.
_POINTS = 600


class Watched:
    """Listens to a training in one thread and tells of it in others; passes each event on to `progress`.

    The curve's points are (epochs passed, loss, share of right answers), each the mean over the steps since the one
    before.
    """

    def __init__(self, title: str, progress: Progress | None = None) -> None:
        self.title, self.progress = title, progress
        self._lock = Lock()
        self._stage = "reading"
        self._step: Step | None = None
        self._points: list[tuple[float, float, float]] = []
        self._epochs: list[dict[str, Any]] = []
        self._filters: NDArray[np.float32] | None = None
        self._formed = -1
        # The sums over this epoch's steps, at the last point: (steps, losses, right answers).
        self._before = (0, 0.0, 0.0)

    def __call__(self, event: Event) -> None:
        """Takes an event in."""
        with self._lock:
            if isinstance(event, Reading):
                self._stage = "reading"
            elif isinstance(event, Step):
                self._stage, self._step = "training", event
                self._point(event)
            elif isinstance(event, EpochDone):
                self._epochs.append(_numbers(asdict(event)))
            elif isinstance(event, Formed):
                self._filters, self._formed = event.filters, self._formed + 1
        if self.progress is not None:
            self.progress(event)

    def close(self) -> None:
        """The training is over; what follows is its judgement."""
        with self._lock:
            self._stage = "judging"

    def finish(self) -> None:
        """There is a page of what was trained."""
        with self._lock:
            self._stage = "done"

    def told(self, since: int) -> dict[str, Any]:
        """Where it is, the curve's points from number `since` on, and the epochs that are done."""
        with self._lock:
            step = self._step
            return {
                "title": self.title,
                "stage": self._stage,
                "epoch": step.epoch if step else 1,
                "epochs": step.epochs if step else 1,
                "step": step.step if step else 0,
                "steps": step.steps if step else 1,
                "images_per_second": step.images_per_second if step else 0.0,
                "seconds_left": step.seconds_left if step else 0.0,
                "waiting": step.waiting if step else 0.0,
                "points": self._points[since:],
                "done": list(self._epochs),
                "filters": self._formed,
            }

    def filters(self) -> dict[str, NDArray[np.float32]]:
        """The first filters that learn, (oc, ic, kh, kw). Raises InputError before there are any."""
        with self._lock:
            if self._filters is None:
                raise InputError("No filters have been told yet.")
            return {"filters": self._filters}

    def _point(self, event: Step) -> None:
        steps, losses, right = self._before if self._before[0] < event.step else (0, 0.0, 0.0)
        passed = event.step - steps
        if passed < event.epochs * event.steps / _POINTS and event.step < event.steps:
            return
        sums = event.step, event.loss * event.step, event.accuracy * event.step
        point = event.epoch - 1 + event.step / event.steps, (sums[1] - losses) / passed, (sums[2] - right) / passed
        self._points.append(point)
        self._before = sums


def _numbers(fields: dict[str, Any]) -> dict[str, Any]:
    """As JSON has them: nothing infinite."""
    return {name: value if math.isfinite(value) else None for name, value in fields.items()}
