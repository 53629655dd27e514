"""What TensorBoard reads: the curves of a training, written while it runs; loaded only where they are asked for."""

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from hapgop.train import EpochDone, Event, Progress, Step

FOLDER = "tensorboard"


class Writer:
    """Passes each event on, and writes what it tells of to `run`/tensorboard. To be closed at the end."""

    def __init__(self, run: Path, progress: Progress) -> None:
        self._folder, self._progress = run / FOLDER, progress
        # Made at the first event: the run's folder is not ours to make.
        self._writer: SummaryWriter | None = None
        self._stepped = False

    def __call__(self, event: Event) -> None:
        """Tells the event to TensorBoard, then to whoever else listens."""
        if isinstance(event, Step):
            number = (event.epoch - 1) * event.steps + event.step
            if self._writer is None or not self._stepped:
                # What a killed training has written beyond its last checkpoint is done again.
                self.close()
                self._writer, self._stepped = SummaryWriter(str(self._folder), purge_step=number), True
            self._writer.add_scalar("step/loss", event.loss, number)
            self._writer.add_scalar("step/images_per_second", event.images_per_second, number)
            self._writer.add_scalar("step/share_waiting_for_data", event.waiting, number)
        elif isinstance(event, EpochDone):
            if self._writer is None:
                # A training that was stopped while it validated goes on with that, before any step.
                self._writer = SummaryWriter(str(self._folder))
            for name in ("loss", "accuracy"):
                for split in ("train", "val"):
                    self._writer.add_scalar(f"{name}/{split}", getattr(event, f"{split}_{name}"), event.epoch)
            self._writer.add_scalar("learning_rate", event.learning_rate, event.epoch)
        self._progress(event)

    def close(self) -> None:
        """Writes what is still in memory."""
        if self._writer is not None:
            self._writer.close()
