"""The training loop: step after step, epoch after epoch, to be left and entered anywhere."""

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from hapgop.errors import InputError
from hapgop.train import generators
from hapgop.train.batches import Order, changed, step_seed
from hapgop.train.checkpoint import Position, save_checkpoint
from hapgop.train.data import Data
from hapgop.train.interrupt import Interrupt
from hapgop.train.optimizer import built, set_rate
from hapgop.train.progress import EpochDone, Event, Progress, Step, Validating
from hapgop.train.recipe import Recipe
from hapgop.train.run import channels_last, write_metrics, write_weights
from hapgop.train.schedule import learning_rate

# Values of one validation batch: enough to be fast, little enough for the activations of large images.
_VALIDATION_VALUES = 1_500_000
_MOST_VALIDATION_IMAGES = 256
# The speed that is told is that of so many steps: the first ones also make the kernels.
_RECENT_STEPS = 30
# Writing checkpoints may cost this share of the time.
_CHECKPOINT_SHARE = 0.05


class Diverged(InputError):
    """The loss is no number any more; the run holds the last sound weights."""


class Training:
    """A net being trained: everything between two steps is in `position`, the net and the optimiser.

    task: what the checkpoint must say again when the training goes on; checkpoint_every: seconds.
    """

    def __init__(
        self,
        data: Data,
        folder: Path,
        recipe: Recipe,
        net: torch.nn.Module,
        *,
        progress: Progress,
        checkpoint_every: float,
        task: Mapping[str, Any],
    ) -> None:
        self.data, self.folder, self.recipe, self.task = data, folder, recipe, task
        self.net = channels_last(net)
        self.optimizer = built(self.net, recipe)
        self.position = Position()
        self.order = Order(len(data.train), recipe.batch_size, recipe.seed)
        self._progress = progress
        self._every = checkpoint_every
        self._next_checkpoint = time.monotonic() + checkpoint_every
        self._interrupt = Interrupt()
        self._validation_seconds: float | None = None
        self._recent: deque[float] = deque(maxlen=_RECENT_STEPS)

    def run(self) -> bool:
        """Trains to the end of the recipe; False where Ctrl-C stopped it, between two steps.

        Raises Diverged where the loss is infinite or not a number.
        """
        with self._interrupt:
            while self.position.epoch < self.recipe.epochs:
                while self.position.step < self.order.steps:
                    if self._interrupt.asked:
                        return False
                    self._step()
                    self._save_when_due()
                validated = self._validate()
                if validated is None:
                    return False
                self._close_epoch(*validated)
                self._save_when_due()
        return True

    def save(self) -> None:
        """Writes the checkpoint, unless the weights are no numbers: then the one before is worth more."""
        if all(bool(torch.isfinite(parameter).all()) for parameter in self.net.parameters()):
            save_checkpoint(self.folder, self.net, self.optimizer, self.position, self.task)

    def _step(self) -> None:
        began = time.perf_counter()
        at, recipe, train = self.position, self.recipe, self.data.train
        number = at.epoch * self.order.steps + at.step
        chosen = self.order.batch(number)
        pixels = changed(train.batch(chosen), recipe, number)
        x = torch.from_numpy(self.data.preprocessing.batch(pixels))
        y = torch.from_numpy(train.labels[chosen])
        set_rate(self.optimizer, learning_rate(recipe, number, recipe.epochs * self.order.steps))
        generators.seed(step_seed(recipe.seed, number))
        self.net.train()
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.net(x)
        loss = cross_entropy(logits, y, label_smoothing=recipe.label_smoothing)
        # What is told has no smoothing, as in validation: only so can the two be compared.
        plain = cross_entropy(logits.detach(), y) if recipe.label_smoothing else loss
        value = plain.item() if math.isfinite(loss.item()) else loss.item()
        if not math.isfinite(value):
            raise Diverged(self._diverged(value, f"step {at.step + 1}"))
        loss.backward()
        self.optimizer.step()
        at.step += 1
        at.loss += value * len(chosen)
        at.correct += int((logits.detach().argmax(1) == y).sum())
        at.seen += len(chosen)
        self._recent.append(time.perf_counter() - began)
        at.seconds += self._recent[-1]
        self._tell(
            Step(
                epoch=at.epoch + 1,
                epochs=recipe.epochs,
                step=at.step,
                steps=self.order.steps,
                loss=at.loss / at.seen,
                accuracy=at.correct / at.seen,
                images_per_second=1 / self._seconds_per_image(),
                seconds_left=self._seconds_left(),
            )
        )

    def _validate(self) -> tuple[float, float] | None:
        """(loss, accuracy) on the validation split, or None where Ctrl-C came first."""
        began = time.perf_counter()
        split, epoch = self.data.validation, self.position.epoch + 1
        count = max(1, min(_MOST_VALIDATION_IMAGES, _VALIDATION_VALUES // math.prod(self.data.input_shape)))
        loss, correct = 0.0, 0
        self.net.eval()
        with torch.no_grad():
            for start in range(0, len(split), count):
                if self._interrupt.asked:
                    return None
                chosen = np.arange(start, min(start + count, len(split)))
                logits = self.net(torch.from_numpy(self.data.preprocessing.batch(split.batch(chosen))))
                y = torch.from_numpy(split.labels[chosen])
                loss += cross_entropy(logits, y, reduction="sum").item()
                correct += int((logits.argmax(1) == y).sum())
                self._tell(Validating(epoch, self.recipe.epochs, int(chosen[-1]) + 1, len(split)))
        self._validation_seconds = time.perf_counter() - began
        if not math.isfinite(loss):
            raise Diverged(self._diverged(loss, "its validation"))
        return loss / len(split), correct / len(split)

    def _close_epoch(self, val_loss: float, val_accuracy: float) -> None:
        at, recipe = self.position, self.recipe
        steps = self.order.steps
        line: dict[str, Any] = {
            "epoch": at.epoch + 1,
            "train_loss": at.loss / at.seen,
            "train_accuracy": at.correct / at.seen,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "learning_rate": learning_rate(recipe, (at.epoch + 1) * steps - 1, recipe.epochs * steps),
            "seconds": round(at.seconds + (self._validation_seconds or 0.0), 3),
            "images_per_second": round(at.seen / at.seconds, 1),
        }
        best = recipe.keep == "last" or _as_good_as_any(line, at.metrics, len(self.data.validation))
        if best:
            write_weights(self.folder, self.net)
        self.position = Position(epoch=at.epoch + 1, metrics=[*at.metrics, line], best=line if best else at.best)
        write_metrics(self.folder, self.position.metrics)
        self._tell(EpochDone(epochs=recipe.epochs, best=best, **line))

    def _save_when_due(self) -> None:
        now = time.monotonic()
        if now >= self._next_checkpoint:
            self.save()
            cost = time.monotonic() - now
            self._next_checkpoint = now + max(self._every, cost / _CHECKPOINT_SHARE if self._every else 0.0)

    def _seconds_per_image(self) -> float:
        return sum(self._recent) / len(self._recent) / self.order.batch_size

    def _seconds_left(self) -> float:
        at = self.position
        validation = self._validation_seconds
        if validation is None:
            # Without a backward pass, an image costs about a third.
            validation = self._seconds_per_image() * len(self.data.validation) / 3
        epochs = self.recipe.epochs - at.epoch
        images = (epochs * self.order.steps - at.step) * self.order.batch_size
        return self._seconds_per_image() * images + validation * epochs

    def _tell(self, event: Event) -> None:
        try:
            self._progress(event)
        except KeyboardInterrupt:
            # Whoever draws the bars may stop the training too: nothing is half done here.
            self._interrupt.asked = True

    def _diverged(self, value: float, where: str) -> str:
        rate = self.recipe.learning_rate
        what = "not a number" if math.isnan(value) else "infinite"
        kept = "the weights of the best epoch before" if self.position.best else "the weights of the last checkpoint"
        return (
            f"The loss became {what} in epoch {self.position.epoch + 1}, at {where}."
            f" {self.folder} keeps {kept}. A learning rate below {rate:g}, such as {rate / 5:g}, should help."
        )


def _as_good_as_any(line: Mapping[str, Any], before: Sequence[Mapping[str, Any]], images: int) -> bool:
    """Whether an epoch's accuracy is at most one standard error below the highest (Breiman et al., CART, 1984).

    Of epochs that so few validation images cannot tell apart, the later one, at a lower learning rate, is the
    better bet.
    """
    highest = max([line["val_accuracy"], *(other["val_accuracy"] for other in before)])
    # Two right and two wrong answers more (Agresti and Coull, 1998): even all images right leave some doubt.
    share = (highest * images + 2) / (images + 4)
    return bool(line["val_accuracy"] >= highest - math.sqrt(share * (1 - share) / (images + 4)))
