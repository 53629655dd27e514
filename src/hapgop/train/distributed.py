"""Several processes, on one machine or many, that train one net: PyTorch's own parallelism, started by torchrun."""

import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from hapgop.errors import InputError

T = TypeVar("T")

# The first process may be decoding a large folder while the others wait for it.
_PATIENCE = timedelta(hours=2)
# What gloo and the store say when the other end is gone.
_LOST = ("connection", "peer", "timed out", "timeout", "gloo", "recv", "socket", "store")


class WorkerLost(InputError):
    """Another process of the training is gone; the run holds its last checkpoint."""


@dataclass(frozen=True)
class Workers:
    """The processes that share a training: this one's number, how many there are, and its number on its machine."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def alone(self) -> bool:
        """Whether there is but one."""
        return self.count == 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and talks."""
        return self.rank == 0

    def part(self, images: int) -> slice:
        """This process's part of so many images; all parts together are all of them, each once.

        >>> [Workers(rank, 3).part(10) for rank in range(3)]
        [slice(0, 3, None), slice(3, 6, None), slice(6, 10, None)]
        """
        return slice(images * self.rank // self.count, images * (self.rank + 1) // self.count)

    def summed(self, numbers: Sequence[float]) -> list[float]:
        """Each number, added up over all processes; the same sums everywhere."""
        if self.alone:
            return list(numbers)
        with lost_is_said():
            total = torch.tensor(numbers, dtype=torch.float64)
            distributed.all_reduce(total)
        return [float(number) for number in total]

    def told(self, value: T) -> T:
        """The first process's value, in all of them."""
        if self.alone:
            return value
        with lost_is_said(begun=False):
            box: list[Any] = [value]
            distributed.broadcast_object_list(box)
        told: T = box[0]
        return told

    def agree(self, value: object) -> bool:
        """Whether all processes have the same value; the same answer everywhere."""
        if self.alone:
            return True
        with lost_is_said(begun=False):
            values: list[Any] = [None] * self.count
            distributed.all_gather_object(values, value)
        return all(other == value for other in values)

    def in_turn(self) -> Iterator[None]:
        """Yields once in each process: first in the first of each machine, then in all others."""
        if self.alone:
            yield
            return
        for turn in (self.local_rank == 0, self.local_rank != 0):
            if turn:
                yield
            with lost_is_said(begun=False):
                distributed.barrier()

    @contextmanager
    def shared_file(self, path: Path) -> Iterator[Path]:
        """A file that only the first process surely has, for all: the path of a copy of it elsewhere."""
        if self.alone:
            yield path
            return
        content = self.told(path.read_bytes() if self.first and path.exists() else None)
        if self.first or content is None:
            yield path
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            copy.write_bytes(content)
            yield copy

    def spread(self, net: torch.nn.Module) -> torch.nn.Module:
        """The net with gradients averaged over all processes; its weights become those of the first one."""
        if self.alone:
            return net
        # Of filters with one input channel, two layouts are the same memory: nothing is impaired.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        with lost_is_said(begun=False):
            return DistributedDataParallel(net)


ALONE = Workers()


def wanted() -> bool:
    """Whether torchrun, or whatever sets its variables, started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


@contextmanager
def joined() -> Iterator[Workers]:
    """The processes that torchrun has started, connected by gloo; `ALONE` where it has not.

    Raises WorkerLost where they cannot be connected.
    """
    if not wanted():
        yield ALONE
        return
    with lost_is_said(begun=False):
        distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        local = int(os.environ.get("LOCAL_RANK", "0"))
        yield Workers(distributed.get_rank(), distributed.get_world_size(), local)
    finally:
        distributed.destroy_process_group()


@contextmanager
def lost_is_said(*, begun: bool = True) -> Iterator[None]:
    """Inside, a broken connection raises WorkerLost; every other error is itself. begun: whether steps are taken."""
    try:
        yield
    except RuntimeError as error:
        words = str(error)
        if not isinstance(error, distributed.DistError) and not any(word in words.lower() for word in _LOST):
            raise
        reason = words.splitlines()[0] if words else type(error).__name__
        left = (
            "so it cannot go on. The last checkpoint is whole: the same command with --resume goes on from there."
            if begun
            else "before the first step: what it said last may tell why."
        )
        raise WorkerLost(f"Another worker of this training is gone, {left} ({reason})") from error
