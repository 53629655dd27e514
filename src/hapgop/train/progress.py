"""What loading and training tell while they work: plain events, so that any face can draw them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Reading:
    """A folder is being read for the first time: `stage` is "measuring" or "decoding", counts in pictures."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Step:
    """One training step is over.

    epoch and step count from 1. loss and accuracy (0 to 1) are means over this epoch so far, images_per_second
    is that of the last steps; seconds_left reaches to the end of the training, its validations included; waiting is
    the share of this epoch's time, 0 to 1, for which steps had no batch to work on.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    images_per_second: float
    seconds_left: float
    waiting: float


@dataclass(frozen=True)
class Validating:
    """Images of the validation split that this epoch's weights have labelled so far."""

    epoch: int
    epochs: int
    done: int
    total: int


@dataclass(frozen=True)
class EpochDone:
    """An epoch is over; the fields are those of its line in metrics.jsonl. best: its weights are kept."""

    epoch: int
    epochs: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    seconds: float
    images_per_second: float
    seconds_waiting: float
    best: bool


@dataclass(frozen=True, eq=False)
class Formed:
    """The filters of the first layer that learns, as they are now: float32 (oc, ic, kh, kw).

    Told once a second at most.
    """

    filters: NDArray[np.float32]


Event = Reading | Step | Validating | EpochDone | Formed
Progress = Callable[[Event], None]


def silent(event: Event) -> None:
    """The progress of whoever did not ask for any."""
