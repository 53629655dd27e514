"""Progress on standard error: one bar on a terminal; elsewhere lines, one for each epoch or minute."""

import time
from collections.abc import Sequence
from types import TracebackType

from rich.cells import cell_len
from rich.progress import BarColumn, Progress, TextColumn

from hapgop.cli import console
from hapgop.train import EpochDone, Event, Reading, Step, Validating

_REDRAW_SECONDS = 0.1
_LINE_SECONDS = 60.0
# The bar gives way to the words down to the smaller width; narrower, it shows nothing.
_WIDEST_BAR, _NARROWEST_BAR = 40, 8
# " 42 %", and the blanks between the four parts.
_BESIDE = 5 + 3


class Bar:
    """A bar with the time left, gone when the work is done; where there is no terminal, a line a minute.

    lines: say the result of each epoch where no bar can be drawn, as a log wants it. quiet: nothing at all.
    """

    def __init__(self, *, lines: bool = False, quiet: bool = False) -> None:
        self._console = err = console.err()
        self._shown = err.is_terminal and not err.is_dumb_terminal and not quiet
        self._told = not self._shown and not quiet
        self._lines = lines and self._told
        self._bar = BarColumn(_WIDEST_BAR)
        self._progress = Progress(
            TextColumn("{task.description}"),
            self._bar,
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[words]}"),
            console=err,
            transient=True,
            disable=not self._shown,
        )
        self._task = self._progress.add_task("", total=None, words="", visible=False)
        self._drawn = 0.0
        self._said = time.monotonic()

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def count(self, what: str, done: int, total: int, words: str = "") -> None:
        """`done` of `total` of something is over."""
        self._draw(what, done, total, [words])
        now = time.monotonic()
        if self._told and now - self._said > _LINE_SECONDS:
            self._said = now
            console.say(f"{what}: {words or f'{done:,} of {total:,}'}")

    def _draw(self, what: str, done: int, total: int, words: Sequence[str]) -> None:
        """words: the same said at length and more shortly; the first that leaves room for a bar is drawn."""
        now = time.monotonic()
        if self._shown and (now - self._drawn > _REDRAW_SECONDS or done == total):
            self._drawn = now
            # The terminal may have become another width.
            chosen, self._bar.bar_width = laid_out(self._console.width, what, words)
            self._progress.update(self._task, description=what, completed=done, total=total, words=chosen, visible=True)

    def training(self, event: Event) -> None:
        """What `hapgop.train` tells while it reads and trains."""
        if isinstance(event, Reading):
            self.count(f"{event.stage} pictures", event.done, event.total)
        elif isinstance(event, Step):
            done = (event.epoch - 1) * event.steps + event.step
            self._draw(f"epoch {event.epoch}/{event.epochs}", done, event.epochs * event.steps, _words(event))
        elif isinstance(event, EpochDone) and self._lines:
            console.say(
                f"epoch {event.epoch}/{event.epochs}: training {event.train_accuracy:.2%} right,"
                f" validation {event.val_accuracy:.2%} right, {event.images_per_second:,.0f} images/s,"
                f" {event.seconds_waiting / max(event.seconds, 1e-9):.1%} waiting for data"
            )
        elif isinstance(event, Validating):
            # The bar stays where the epoch's steps have left it: validating is no progress of its own.
            return


def laid_out(width: int, what: str, words: Sequence[str]) -> tuple[str, int]:
    """Which of the words are drawn in so many columns after `what`, and how wide the bar is between them.

    >>> laid_out(60, "epoch 1/9", ["loss 0.123, 3:07 left", "3:07 left"])
    ('loss 0.123, 3:07 left', 22)
    >>> laid_out(40, "epoch 1/9", ["loss 0.123, 3:07 left", "3:07 left"])
    ('3:07 left', 14)
    """
    room = width - cell_len(what) - _BESIDE
    chosen = next((some for some in words if room - cell_len(some) >= _NARROWEST_BAR), words[-1])
    return chosen, max(0, min(_WIDEST_BAR, room - cell_len(chosen)))


def _words(event: Step) -> list[str]:
    """How it goes, in ever fewer words; the time left is the last to go."""
    left, right = f"{clock(event.seconds_left)} left", f"{event.accuracy:.1%} right"
    speed, waiting = f"{event.images_per_second:,.0f} images/s", f"{event.waiting:.1%} waiting for data"
    some = [f"loss {event.loss:.3f}", right, speed, waiting, left]
    return [", ".join(parts) for parts in (some, [*some[:3], left], [*some[:2], left], [right, left], [left])]


def clock(seconds: float) -> str:
    """A duration for people: 42 s, 3:07, 1:02:03.

    >>> clock(41.6), clock(187), clock(3723)
    ('42 s', '3:07', '1:02:03')
    """
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if minutes == 0:
        return f"{whole} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
