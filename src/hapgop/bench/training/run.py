"""The measurement: every side's first losses compared, then steps in turns."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite
from statistics import median
from typing import Any

import torch

from hapgop.bench.allocator import use_allocator
from hapgop.bench.place import place
from hapgop.bench.stopping import Stoppable
from hapgop.bench.timing import interleave, measures_anew, paired, spread
from hapgop.bench.training import sides
from hapgop.bench.training.nets import NETS, TrainedNet, net_named
from hapgop.bench.training.profile import profiled
from hapgop.bench.training.rows import TrainResult, TrainRow
from hapgop.errors import InputError

Progress = Callable[[int, int, str], None]

_FIRST = 3  # steps whose losses are compared
_ALLOWED = 0.02  # of the loss: what another order of sums comes to in three steps is far below, another net far above
_CONTENDS = 1.3  # times the fastest peer
_FAULTS = 3  # steps over which page faults are counted


@dataclass(frozen=True, slots=True)
class TrainRun:
    """A benchmark, decided and not yet measured. seconds: of each row's rounds, unless `repeats` come first."""

    nets: Sequence[TrainedNet]
    peers: Sequence[str]
    threads: Sequence[int]
    batches: Sequence[int]
    repeats: int
    seconds: float
    allocator: str
    profile: bool
    tensorflow: str | None

    @property
    def rows(self) -> int:
        return len(self.nets) * len(self.batches or [0]) * len(self.threads)


def plan_train(
    names: Sequence[str] = (),
    *,
    against: Sequence[str] = (),
    threads: Sequence[int] = (2,),
    batches: Sequence[int] = (),
    repeats: int = 15,
    seconds: float = 20.0,
    allocator: str = "default",
    profile: bool = False,
    tensorflow: str | None = None,
) -> TrainRun:
    """Decides what is measured; `against`: beginnings of peers' names, all where it is empty.

    Raises InputError for names that mean nothing here, and for a `tensorflow` that cannot be started.
    """
    if tensorflow is not None and shutil.which(tensorflow) is None:
        raise InputError(
            f"--tensorflow {tensorflow}: there is no such program; a Python that has TensorFlow is wanted, as in"
            " --tensorflow /opt/tf/bin/python"
        )
    for name in against:
        if not any(peer.startswith(name) for peer in sides.PEERS):
            raise InputError(f"--against {name}: wanted is one of {', '.join(sides.PEERS)}")
    peers = [peer for peer in sides.PEERS if not against or peer.startswith(tuple(against))]
    nets = [net_named(name) for name in names or NETS]
    return TrainRun(nets, peers, threads, batches, repeats, seconds, allocator, profile, tensorflow)


def bench_train(run: TrainRun, command: str, progress: Progress) -> TrainResult:
    """Measures a run; Ctrl-C ends it early, with the rows so far.

    A row in which no peer can take part is left out; InputError is raised where it would have been the first,
    RuntimeError where losses differ.
    """
    allocator = use_allocator(run.allocator)
    rows: list[TrainRow] = []
    left_out: list[str] = []
    with Stoppable(rows) as end:
        for threads in run.threads:
            for net in run.nets:
                for batch in run.batches or [net.batch]:
                    name = f"{net.name} n={batch} t={threads}"
                    progress(len(rows) + len(left_out), run.rows, name)
                    try:
                        rows.append(_row(run, net, batch, threads))
                    except InputError as error:
                        if not rows:
                            raise
                        left_out.append(f"{name}: {error}")
    progress(run.rows, run.rows, "done")
    return TrainResult(_machine(run, command, allocator, left_out, end.stopped), tuple(rows))


def _row(run: TrainRun, net: TrainedNet, batch: int, threads: int) -> TrainRow:
    torch.set_num_threads(threads)
    measures_anew()
    ours = sides.ours(net, batch)
    every: dict[str, sides.Side | sides.TensorFlow] = {sides.OURS: ours}
    losses = {sides.OURS: _first(ours)}
    absent: dict[str, str] = {}
    try:
        for name in run.peers:
            try:
                every[name] = sides.made(name, net, batch, threads, run.tensorflow, run.allocator)
                losses[name] = _first(every[name])
            except InputError as error:
                absent[name] = str(error)
                if name in every:
                    every.pop(name).close()
        difference = _difference(net, losses)
        times = _times(run, every, absent)
        faults = {name: _faults(side.step) for name, side in every.items() if isinstance(side, sides.Side)}
        found = profiled(ours) if run.profile else None
    finally:
        for side in every.values():
            side.close()
    rates = {name: batch / median(seconds) for name, seconds in times.items()}
    strongest = max((name for name in rates if name != sides.OURS), key=lambda name: rates[name])
    mine, theirs = times[sides.OURS], times[strongest]
    ratio, best = paired(mine, theirs)
    return TrainRow(
        net.name, batch, threads, rates, strongest, ratio, best, spread(mine, theirs), len(mine), losses, difference,
        faults, absent, found,
    )  # fmt: skip


def _times(
    run: TrainRun, every: dict[str, sides.Side | sides.TensorFlow], absent: dict[str, str]
) -> dict[str, list[float]]:
    """Steps in turns. Who is lost in them is absent, and the others are measured anew.

    Raises InputError where there is nobody beside us.
    """
    while len(every) > 1:
        calls = {name: side.step for name, side in every.items()}
        clocks = {name: side.clock for name, side in every.items() if isinstance(side, sides.TensorFlow)}
        try:
            return interleave(calls, run.repeats, seconds=run.seconds, contenders=_contenders, clocks=clocks)
        except sides.Lost as lost:
            absent[lost.side] = str(lost)
            every.pop(lost.side).close()
    raise InputError(f"nobody to compare with: {'; '.join(absent.values())}")


def _first(side: sides.Side | sides.TensorFlow) -> tuple[float, ...]:
    return tuple(float(side.step()) for _ in range(_FIRST))


def _difference(net: TrainedNet, losses: Mapping[str, Sequence[float]]) -> float:
    """The largest between our losses and a peer's. Raises RuntimeError where they are not those of the same net."""
    worst = 0.0
    for name, theirs in losses.items():
        for mine, other in zip(losses[sides.OURS], theirs, strict=True):
            share = abs(mine - other) / max(abs(other), 1e-6)
            if not isfinite(share) or share > _ALLOWED:
                raise RuntimeError(f"{net.name}: the losses {losses[sides.OURS]} differ from {name}'s {theirs}")
            worst = max(worst, share)
    return worst


def _contenders(medians: Mapping[str, float]) -> list[str]:
    fastest = min(seconds for name, seconds in medians.items() if name != sides.OURS)
    return [name for name, seconds in medians.items() if name == sides.OURS or seconds <= _CONTENDS * fastest]


def _faults(step: Callable[[], object]) -> float:
    step()
    count = partial(resource.getrusage, resource.RUSAGE_SELF)
    before = count().ru_minflt
    for _ in range(_FAULTS):
        step()
    return (count().ru_minflt - before) / _FAULTS


def _machine(run: TrainRun, command: str, allocator: str, left_out: Sequence[str], stopped: bool) -> dict[str, Any]:
    return place(
        command,
        {"torch": torch.__version__},
        threads=[*run.threads],
        repeats=run.repeats,
        allocator=allocator,
        left_out=[*left_out],
        stopped=stopped,
        optimiser=f"SGD, learning rate {sides.RATE}, Nesterov's momentum {sides.MOMENTUM}; PyTorch's is fused",
    )
