"""A net and a number of epochs that fit into a stated time, found by timing a few steps."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hapgop.errors import InputError
from hapgop.nn import nets
from hapgop.train import generators
from hapgop.train.batches import weights_seed
from hapgop.train.data import Data
from hapgop.train.loop import Training
from hapgop.train.progress import silent
from hapgop.train.recipe import Recipe
from hapgop.train.suggestion import candidates

# The last test, the report and whatever else the machine does meanwhile.
_RESERVE = 0.08
_TIMED_STEPS = 3
# An image that is only looked at costs about a third of one that is learnt from.
_LOOKING = 1 / 3
# A net that can be trained for this share of the epochs that its recipe wants is better than a smaller one for all.
_ENOUGH = 1 / 3
# A trial may take this share of the time, all nets together.
_TRIAL_SHARE = 0.1


@dataclass(frozen=True)
class Fitting:
    """What fits: the net's name, its recipe, the seconds that training is expected to take, and why, in sentences."""

    net: str
    recipe: Recipe
    seconds: float
    reasons: tuple[str, ...]


def fitting(
    data: Data,
    recipe: Recipe,
    seconds: float,
    net: str | None = None,
    *,
    workers: int = 1,
    tell: Callable[[str], None] = lambda name: None,
) -> Fitting:
    """The best net, and as many epochs as the recipe wants at most, that fit into so many seconds of training.

    net: None tries those that suit the images, the strongest first; workers: how many processes share each batch;
    tell: called with the name of each net before it is timed. Raises InputError where not one epoch fits.
    """
    if seconds <= 0:
        raise InputError(f"A time budget of {seconds:g} seconds: more than none is wanted, as in 90s, 10m or 2h.")
    began = time.monotonic()
    reasons, measured = [], {}
    names = [net] if net is not None else candidates(data)
    for name in names:
        tell(name)
        measured[name] = _seconds_per_epoch(data, recipe, name, workers)
        left = seconds * (1 - _RESERVE) - (time.monotonic() - began)
        epochs = int(left / measured[name])
        reasons.append(f"{name}: {_said(measured[name])} an epoch, so {epochs:,} would fit")
        if epochs >= max(1, recipe.epochs * _ENOUGH) or time.monotonic() - began > seconds * _TRIAL_SHARE:
            break
    left = seconds * (1 - _RESERVE) - (time.monotonic() - began)
    wanted = max(1, recipe.epochs * _ENOUGH)
    # The first that has enough epochs; where none has, the one that has the most.
    chosen = next(
        (name for name in measured if left / measured[name] >= wanted), min(measured, key=measured.__getitem__)
    )
    epochs = min(recipe.epochs, int(left / measured[chosen]))
    if epochs < 1:
        raise InputError(
            f"One epoch of {chosen} takes {_said(measured[chosen])}, more than is left of the time budget."
            f" About {_said(measured[chosen] * 1.3 + time.monotonic() - began)} would do for one;"
            " smaller images cost less."
        )
    return Fitting(chosen, recipe.changed(epochs=epochs), epochs * measured[chosen], tuple(reasons))


def _seconds_per_epoch(data: Data, recipe: Recipe, name: str, workers: int) -> float:
    """The steps and the validation of one epoch, by the fastest of a few steps after a first one."""
    part = recipe.changed(batch_size=max(1, recipe.batch_size // workers), start_size=1.0)
    with generators.borrowed(), tempfile.TemporaryDirectory() as folder:
        generators.seed(weights_seed(recipe.seed))
        net = nets.build(name, classes=len(data.classes), input_shape=data.input_shape)
        training = Training(
            data, Path(folder), part, net, progress=silent, checkpoint_every=float("inf"), task={}
        )  # fmt: skip
        took = []
        for step in range(1 + _TIMED_STEPS):
            began = time.perf_counter()
            training.step_alone(training.feeder.batch(step))
            took.append(time.perf_counter() - began)
    step_seconds = min(took[1:])
    looked = len(data.validation) / workers * (2 if recipe.test_flip else 1)
    steps = training.order.steps / workers
    return step_seconds * (steps + looked * _LOOKING / training.order.batch_size)


def _said(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
