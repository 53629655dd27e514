"""`hapgop bench layers`: every case, all sides, interleaved; outputs checked before anything is timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from hapgop.bench.allocator import use_allocator
from hapgop.bench.choosing import Job, Wanted, jobs
from hapgop.bench.measuring import Judge, measured
from hapgop.bench.peak import Peak, measure_peak
from hapgop.bench.peers import ALL, Peer
from hapgop.bench.place import place
from hapgop.bench.rows import BenchResult, Row
from hapgop.bench.stopping import Stoppable
from hapgop.bench.timing import LEAST_ROUNDS, SECONDS
from hapgop.bench.work import work
from hapgop.errors import InputError

Progress = Callable[[int, int, str], None]

_OVERHEAD = 0.7  # seconds of a row that are not its rounds: data, compilation of all sides, the check
_CALLS = 1.5  # of a side in a round, counting that slow ones stop early
_GFLOPS = 80e9  # operations a second of one thread of a middling side


@dataclass(frozen=True, slots=True)
class Run:
    """A benchmark, decided and not yet measured.

    jobs: what is measured; left_out: in words, what would not fit into memory. missing: peers that cannot take part,
    with the reason. again: how often a row is measured anew while its rounds disagree.
    """

    jobs: Sequence[Job]
    left_out: Sequence[str]
    peers: Sequence[Peer]
    missing: Mapping[str, str]
    threads: Sequence[int]
    repeats: int
    again: int
    allocator: str

    @property
    def rows(self) -> int:
        return len(self.jobs) * len(self.threads)

    @property
    def minutes(self) -> float:
        """About how long it will take."""
        rounds = [self._round(job, threads) for job in self.jobs for threads in self.threads]
        return sum(_OVERHEAD + min(self.repeats * r, max(SECONDS, LEAST_ROUNDS * r)) for r in rounds) / 60

    def _round(self, job: Job, threads: int) -> float:
        """About how many seconds a round of all sides takes."""
        sides = 1 + sum(peer.computes(job.case, job.op) for peer in self.peers)
        return _CALLS * sides * max(2e-3, job.case.flops / _GFLOPS / threads)


def plan(
    wanted: Wanted,
    *,
    against: Sequence[str] = (),
    threads: Sequence[int] = (1, 2),
    repeats: int = 15,
    allocator: str = "default",
) -> Run:
    """Decides what is measured. `against`: first words of peers' names; all that are installed where it is empty.

    Raises InputError for names that mean nothing here, and for a peer asked for that is not installed.
    """
    words = [peer.name.split()[0] for peer in ALL]
    for name in against:
        if name not in words:
            raise InputError(f"--against {name}: wanted is one of {', '.join(dict.fromkeys(words))}")
    chosen = [peer for peer in ALL if not against or peer.name.split()[0] in against]
    missing = {peer.name: reason for peer in chosen if (reason := peer.available()) is not None}
    for name, reason in missing.items():
        if name in against:
            raise InputError(f"--against {name}: {reason}")
    peers = [peer for peer in chosen if peer.name not in missing]
    found, left_out = jobs(wanted)
    found = [job for job in found if any(peer.computes(job.case, job.op) for peer in peers)]
    if not found:
        raise InputError(f"--against {', '.join(against)}: it has none of these operations")
    again = 0 if wanted.quick else 2
    return Run(found, left_out, peers, missing, threads, repeats, again, allocator)


def bench_layers(run: Run, command: str, progress: Progress) -> BenchResult:
    """Measures a run; all sides in this process with the same number of threads and the same allocator.

    Ctrl-C ends it early, with the rows so far. Raises InputError where the allocator cannot be had, and RuntimeError
    where ours does not compute what is asked.
    """
    allocator = use_allocator(run.allocator)
    peaks = {threads: [measure_peak(threads)] for threads in run.threads}
    rows: list[Row] = []
    done = 0
    words = list(run.left_out)
    with Stoppable(rows) as end:
        for job in run.jobs:
            judge = Judge(work(job.case, job.op))
            for threads in run.threads:
                progress(done, run.rows, f"{job.case.name} {job.op} n={job.case.batch} t={threads}")
                row = measured(judge, run.peers, threads, run.repeats, run.again, peaks[threads][0], words)
                rows += [] if row is None else [row]
                done += 1
    progress(run.rows, run.rows, "done")
    if not rows:
        raise InputError("nothing was measured: " + "; ".join(words))
    for threads in run.threads:
        peaks[threads].append(measure_peak(threads))
    versions = {peer.packages[0]: peer.version() for peer in run.peers}
    machine = described(run.threads, run.repeats, versions, run.missing, words, command, allocator, peaks, end.stopped)
    return BenchResult(machine, tuple(_of_higher_peak(row, *peaks[row.threads]) for row in rows))


def _of_higher_peak(row: Row, before: Peak, after: Peak) -> Row:
    """The row with its share of the higher peak: both threads may have shared a core while one was measured."""
    if row.peak_share is None:
        return row
    return replace(row, peak_share=row.peak_share * (before.gflops / max(before.gflops, after.gflops)))


def described(
    threads: Sequence[int],
    repeats: int,
    versions: Mapping[str, str],
    missing: Mapping[str, str],
    words: Sequence[str],
    command: str,
    allocator: str,
    peaks: Mapping[int, Sequence[Peak]],
    stopped: bool,
) -> dict[str, Any]:
    """Where and how a benchmark was measured. words: what was left out; stopped: whether rows were."""
    times = ("before", "after")
    return place(
        command,
        {"torch": torch.__version__, **versions},
        threads=[*threads],
        repeats=repeats,
        missing=dict(missing),
        left_out=[*words],
        stopped=stopped,
        allocator=allocator,
        peaks=[{**peak.to_json(), "when": when} for t in threads for peak, when in zip(peaks[t], times, strict=True)],
    )
