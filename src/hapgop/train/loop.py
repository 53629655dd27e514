"""The training loop: step after step, epoch after epoch, to be left and entered anywhere."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hapgop.errors import InputError
from hapgop.nn import Conv2d, TrainingProgram, settle
from hapgop.nn.training import Back, by_autograd
from hapgop.train import generators
from hapgop.train.average import Average
from hapgop.train.batches import Order, step_seed
from hapgop.train.checkpoint import TENSORS, Position, State, dense, save_checkpoint
from hapgop.train.data import Data
from hapgop.train.distributed import ALONE, Workers, lost_is_said
from hapgop.train.feeder import Batch, Feeder
from hapgop.train.interrupt import Interrupt
from hapgop.train.objective import Objective, class_weights
from hapgop.train.optimizer import built
from hapgop.train.progress import EpochDone, Event, Formed, Progress, Step
from hapgop.train.recipe import Recipe
from hapgop.train.run import write_filters, write_metrics, write_weights
from hapgop.train.schedule import learning_rate, share
from hapgop.train.validating import validated

# The speed that is told is that of so many steps: the first ones also make the kernels.
_RECENT_STEPS = 30
# Writing checkpoints may cost this share of the time.
_CHECKPOINT_SHARE = 0.05
# Whoever watches sees the filters so often, in seconds.
_FORMED_EVERY = 1.0
# So many times at most the first layer's filters are kept, from the first weights to the last.
_SNAPSHOTS = 8


class Diverged(InputError):
    """The loss is no number any more; the run holds the last sound weights."""


class Unwritable(InputError):
    """The run's folder cannot be written, as when the disk is full; it holds its last checkpoint."""


class Training:
    """A net being trained: everything between two steps is in `position` and `state`.

    task: what the checkpoint must say again when the training goes on; checkpoint_every: seconds; workers: who
    shares the work.
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
        workers: Workers = ALONE,
    ) -> None:
        self.data, self.folder, self.recipe, self.task, self.workers = data, folder, recipe, task, workers
        self.net = settle(net)
        average = Average(self.net, recipe.average) if recipe.average else None
        self.state = State(self.net, built(self.net, recipe), average)
        self.position = Position()
        self.order = Order(len(data.train), recipe.batch_size, recipe.seed)
        if self.order.batch_size < workers.count:
            raise InputError(
                f"A batch of {self.order.batch_size} images cannot be shared by {workers.count} workers:"
                f" batch_size={workers.count} or more, or fewer workers."
            )
        self.feeder = Feeder(data, recipe, self.order, workers.part(self.order.batch_size))
        weights = class_weights(data.train.labels, len(data.classes), recipe.balance)
        self._objective = Objective(recipe, len(data.classes), weights)
        self._forth = _steps(self.net)
        self._progress = progress
        self._every = checkpoint_every
        self._next_checkpoint = time.monotonic() + checkpoint_every
        self._interrupt = Interrupt(patient=not workers.alone)
        self._agreed = False
        self._validation_seconds: float | None = None
        self._recent: deque[float] = deque(maxlen=_RECENT_STEPS)
        self._learning = next((p for p in net.parameters() if p.ndim == 4 and p.requires_grad), None)
        self._next_formed = 0.0

    def run(self) -> bool:
        """Trains to the end of the recipe; False where Ctrl-C stopped it, between two steps.

        Raises Diverged where the loss is infinite or not a number, Unwritable where the folder's disk is full, and
        WorkerLost where another process is gone.
        """
        if not self.workers.alone:
            self._forth = partial(by_autograd, self.workers.spread(self.net), self.net)
        at = self.position
        batches = self.feeder.batches(at.epoch * self.order.steps + at.step)
        try:
            with self._interrupt:
                while not self.recipe.ended(self.position.metrics):
                    while self.position.step < self.order.steps:
                        if self._agreed or (self._interrupt.asked and self.workers.alone):
                            return False
                        self._step(batches)
                        self._save_when_due()
                    if not self._end_epoch():
                        return False
                    self._save_when_due()
        finally:
            batches.close()  # type: ignore[attr-defined] # a generator, whose thread ends here
        return True

    def save(self) -> None:
        """Writes the checkpoint, unless the weights are no numbers: then the one before is worth more."""
        if not self.workers.first:
            return
        if all(bool(torch.isfinite(parameter).all()) for parameter in self.net.parameters()):
            with unwritable(self.folder):
                save_checkpoint(self.folder, self.state, self.position, self.task)

    def kept(self) -> Any:
        """A context in which the net holds the weights that are validated and kept: their average, if there is one."""
        return nullcontext() if self.state.average is None else self.state.average.in_place()

    def remember_filters(self) -> None:
        """Keeps the first layer's filters as they are now, where this epoch is one of those that are shown."""
        epochs, done = self.recipe.epochs, self.position.epoch
        shown = {round(part * epochs / (_SNAPSHOTS - 1)) for part in range(_SNAPSHOTS)}
        first = next((p for p in self.net.parameters() if p.ndim == 4), None)
        if first is not None and done in shown:
            self.state.filters[f"{done:05}"] = dense(first)

    def step_alone(self, batch: Batch) -> None:
        """One step on a batch that is not counted: for measuring what a step costs."""
        self._learn(batch, 0)

    def _step(self, batches: Iterator[Batch]) -> None:
        began, waited = time.perf_counter(), self.feeder.waited
        at, recipe = self.position, self.recipe
        number = at.epoch * self.order.steps + at.step
        loss, correct, asked = self._learn(next(batches), number)
        if asked:
            # A wish that came since has to be agreed on first: with one worker less, the others cannot go on.
            self._interrupt.asked = self._agreed = True
        at.step += 1
        at.loss += loss
        at.correct += correct
        at.seen += self.order.batch_size
        at.waited += self.feeder.waited - waited
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
                waiting=at.waited / at.seconds,
            )
        )
        if self._learning is not None and time.monotonic() >= self._next_formed:
            self._next_formed = time.monotonic() + _FORMED_EVERY
            self._tell(Formed(dense(self._learning).numpy()))

    def _learn(self, batch: Batch, number: int) -> tuple[float, float, bool]:
        """One update; (loss, right answers) over the whole batch, and whether anyone wants to stop."""
        recipe, optimizers, workers = self.recipe, self.state.optimizers, self.workers
        optimizers.set_share(share(recipe, number, recipe.epochs * self.order.steps))
        generators.seed(step_seed(recipe.seed, number) + workers.rank)
        if not self.net.training:
            self.net.train()
        with lost_is_said() if not workers.alone else nullcontext():
            logits, back = self._forth(batch.x)
            # PyTorch averages the gradients of all workers, and this one's part may be smaller than another's.
            found = self._objective(logits, batch, workers.count / self.order.batch_size)
            # A loss that is infinite only by its smoothing or its weights is lost too.
            plain = found.plain if math.isfinite(found.loss) else found.loss
            plain, right, asked = workers.summed((plain, found.right, float(self._interrupt.asked)))
            if not math.isfinite(plain):
                raise Diverged(self._diverged(plain, f"step {self.position.step + 1}"))
            back(found.gradient)
        optimizers.step()
        if self.state.average is not None:
            self.state.average.update(number)
        return plain, right, asked > 0

    def _end_epoch(self) -> bool:
        """Validates and closes the epoch; False where Ctrl-C came first."""
        began = time.perf_counter()
        with self.kept():
            stop = self._interrupt
            found = validated(self.net, self.data, self.recipe, self.position.epoch, self.workers, self._tell, stop)
            if found is None:
                return False
            self._validation_seconds = time.perf_counter() - began
            if not math.isfinite(found[0]):
                raise Diverged(self._diverged(found[0], "its validation"))
            self._close_epoch(*found)
        return True

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
            "seconds_waiting": round(at.waited, 4),
        }
        good = recipe.keep == "last" or as_good_as_any(line, at.metrics, len(self.data.validation))
        best = good or at.best is None
        self.position = Position(epoch=at.epoch + 1, metrics=[*at.metrics, line], best=line if best else at.best)
        self.remember_filters()
        if self.workers.first:
            with unwritable(self.folder):
                if best:
                    write_weights(self.folder, self.net, self.position.epoch)
                write_filters(self.folder, self.state.filters)
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


def _steps(net: torch.nn.Module) -> Callable[[torch.Tensor], tuple[torch.Tensor, Back]]:
    """How a step goes forth: in one call, and back in another, where the net has layers of ours."""
    if any(isinstance(layer, Conv2d) for layer in net.modules()):
        return TrainingProgram(net).forth
    return partial(by_autograd, net, net)


@contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    """Inside, a disk that is full or gone raises Unwritable, with what is left in the run."""
    try:
        yield
    except OSError as error:
        kept = (folder / TENSORS).exists()
        words = (
            "The last checkpoint in it is whole: make room, and resume=True (--resume) goes on from there."
            if kept
            else "Nothing has been trained yet."
        )
        raise Unwritable(f"{folder}: cannot be written ({error.strerror or error}). {words}") from error


def as_good_as_any(line: Mapping[str, Any], before: Sequence[Mapping[str, Any]], images: int) -> bool:
    """Whether an epoch's accuracy is at most one standard error below the highest (Breiman et al., CART, 1984).

    Of epochs that so few validation images cannot tell apart, the later one, at a lower learning rate, is the
    better bet.
    """
    highest = max([line["val_accuracy"], *(other["val_accuracy"] for other in before)])
    # Two right and two wrong answers more (Agresti and Coull, 1998): even all images right leave some doubt.
    share = (highest * images + 2) / (images + 4)
    return bool(line["val_accuracy"] >= highest - math.sqrt(share * (1 - share) / (images + 4)))
