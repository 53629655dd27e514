"""A net and a number of epochs that fit into a stated time, found by timing a few steps."""

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median

import torch

from hapgop.errors import InputError
from hapgop.nn import nets
from hapgop.train import generators
from hapgop.train.batches import weights_seed
from hapgop.train.data import Data
from hapgop.train.loop import Training
from hapgop.train.progress import silent
from hapgop.train.recipe import Recipe
from hapgop.train.suggestion import candidates
from hapgop.train.validating import answered

# The last test, the report and whatever else the machine does meanwhile.
_RESERVE = 0.08
_TIMED_STEPS = 3
# A net that can be trained for this share of the epochs that its recipe wants is better than a smaller one for all.
_ENOUGH = 1 / 3
# A few steps of a net are timed for this share of the time at most, and as many batches to validate.
_TRIAL_SHARE = 0.05
# The kernels of a stronger net may take so many times as long to make as those of a weaker one.
_DEARER = 2.0
# What one epoch needs beside its steps, where a sentence says how much time would do.
_MARGIN = 1.3


@dataclass(frozen=True)
class Fitting:
    """What fits: the net's name, its recipe, the seconds that training is expected to take, and why, in sentences.

    spent: the seconds that went by until this was known.
    """

    net: str
    recipe: Recipe
    seconds: float
    reasons: tuple[str, ...]
    spent: float = 0.0


@dataclass(frozen=True)
class Trial:
    """What a net costs: the seconds of an epoch, and those until its kernels were made, which is done only once."""

    epoch: float
    kernels: float = 0.0


def fitting(
    data: Data,
    recipe: Recipe,
    seconds: float,
    net: str | None = None,
    *,
    workers: int = 1,
    tell: Callable[[str], None] = lambda name: None,
) -> Fitting:
    """The best net, and as many epochs as the recipe wants at most, that fit into so many seconds from now on.

    net: None tries those that suit the images: the weakest, which is soon ready to be trained, then the others, the
    strongest first; workers: how many processes share each batch; tell: called with the name of each net before it is
    timed. Raises InputError where not one epoch fits.
    """
    if seconds <= 0:
        raise InputError(f"A time budget of {seconds:g} seconds: more than none is wanted, as in 90s, 10m or 2h.")
    began = time.monotonic()

    def left() -> float:
        return seconds * (1 - _RESERVE) - (time.monotonic() - began)

    names = [net] if net is not None else candidates(data)
    trials: dict[str, Trial] = {}
    reasons: list[str] = []
    wanted, longest = max(1, recipe.epochs * _ENOUGH), 0.0
    for name in (names[-1], *names[:-1]):
        # Making a net's kernels cannot be left off, and what is timed already can be trained.
        if trials and longest * _DEARER > left() / 2:
            reasons.append(
                f"{_and(other for other in names if other not in trials)} not tried: too little time is left"
            )
            break
        tell(name)
        before = left()
        trial = trials[name] = _trial(data, recipe, name, workers, seconds * _TRIAL_SHARE)
        longest = max(longest, before - left())
        epochs = _epochs(left(), trial)
        reasons.append(_reason(name, trial, epochs, seconds))
        if epochs >= wanted and name != names[-1]:
            break
    # The strongest that has enough epochs; where none has, the one that has the most.
    chosen = next(
        (name for name in names if name in trials and left() / trials[name].epoch >= wanted),
        min(trials, key=lambda name: trials[name].epoch),
    )
    spent = time.monotonic() - began
    epochs = min(recipe.epochs, _epochs(left(), trials[chosen]))
    if epochs < 1:
        raise InputError(_too_little(seconds, spent, chosen, trials))
    return Fitting(chosen, recipe.changed(epochs=epochs), epochs * trials[chosen].epoch, tuple(reasons), spent)


def _epochs(left: float, trial: Trial) -> int:
    return max(0, int(left / trial.epoch))


def _reason(name: str, trial: Trial, epochs: int, seconds: float) -> str:
    kernels = f" (its kernels took {_said(trial.kernels)} to make)" if trial.kernels > seconds / 100 else ""
    return f"{name}: {_said(trial.epoch)} an epoch, so {epochs:,} would fit{kernels}"


def _too_little(seconds: float, spent: float, chosen: str, trials: Mapping[str, Trial]) -> str:
    """Why not one epoch fits, and what would do."""
    epoch = trials[chosen].epoch
    kernels = sum(trial.kernels for trial in trials.values())
    enough = epoch * _MARGIN + max(0.0, spent - kernels)
    words = f"Not one epoch fits into {_said(seconds)}: one of {chosen} takes {_said(epoch)}"
    if kernels > seconds / 100:
        words += f", and {_said(kernels)} went by until the kernels of {_and(trials)} were made"
    if enough <= seconds:
        return f"{words}. They are kept: the same command again has this time for training."
    return f"{words}. About {_said(enough)} would do for one; smaller images cost less."


def _trial(data: Data, recipe: Recipe, name: str, workers: int, patience: float) -> Trial:
    """A few steps and batches to validate, after a first of each, which also makes the kernels.

    patience: seconds of timing after which one of each has to do.
    """
    part = recipe.changed(batch_size=max(1, recipe.batch_size // workers), start_size=1.0)
    with generators.borrowed(), tempfile.TemporaryDirectory() as folder:
        generators.seed(weights_seed(recipe.seed))
        net = nets.build(name, classes=len(data.classes), input_shape=data.input_shape)
        training = Training(
            data, Path(folder), part, net, progress=silent, checkpoint_every=float("inf"), task={}
        )  # fmt: skip
        steps = count()
        first_step, step = _timed(lambda: training.step_alone(training.feeder.batch(next(steps))), patience)
        shown = data.validation.batch(slice(part.batch_size))
        x = torch.from_numpy(data.preprocessing.batch(shown))
        net.eval()
        with torch.no_grad():
            first_look, look = _timed(lambda: answered(net, x, recipe.test_flip), patience)
    looks = len(data.validation) / workers / len(shown)
    epoch = step * training.order.steps / workers + look * looks
    return Trial(epoch, max(0.0, first_step - step) + max(0.0, first_look - look))


def _timed(work: Callable[[], object], patience: float) -> tuple[float, float]:
    """The seconds of a first time, and the median of some that follow."""
    took: list[float] = []
    for _ in range(1 + _TIMED_STEPS):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
        if sum(took[1:]) > patience:
            break
    return took[0], median(took[1:])


def _and(names: Iterable[str]) -> str:
    return " and ".join(names)


def _said(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
