"""`hapgop bench nets`: every net, all sides, interleaved; outputs checked before anything is timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hapgop.bench.allocator import use_allocator
from hapgop.bench.layers import Progress, described
from hapgop.bench.measuring import OURS, measurement
from hapgop.bench.peak import measure_peak
from hapgop.bench.peers.peer import Entry
from hapgop.bench.rows import BenchResult, Row
from hapgop.bench.stopping import Stoppable
from hapgop.bench.timing import CALM, measures_anew
from hapgop.bench.whole.peers import ALL, NetPeer
from hapgop.bench.whole.task import NetJudge, Task, known, task
from hapgop.errors import InputError
from hapgop.program import Program

_BATCHES = (1, 16)
_ALLOWED = 1e-3  # of the largest value, after dozens of layers; a wrong tap, or another precision, is far beyond it


@dataclass(frozen=True, slots=True)
class NetRun:
    """A benchmark of nets, decided and not yet measured. missing: peers that cannot take part, with the reason."""

    names: Sequence[str]
    batches: Sequence[int]
    peers: Sequence[NetPeer]
    missing: dict[str, str]
    threads: Sequence[int]
    repeats: int
    again: int
    allocator: str

    @property
    def rows(self) -> int:
        return len(self.names) * len(self.batches) * len(self.threads)


def plan_nets(
    names: Sequence[str] = (),
    *,
    batches: Sequence[int] = (),
    against: Sequence[str] = (),
    threads: Sequence[int] = (1, 2),
    repeats: int = 15,
    quick: bool = False,
    allocator: str = "default",
) -> NetRun:
    """Decides what is measured; all nets at batch sizes 1 and 16 against all installed peers where nothing is said.

    Raises InputError for names that mean nothing here, and for a peer asked for that is not installed.
    """
    words = [peer.name.split(",")[0].split()[0] for peer in ALL]
    for name in against:
        if name not in words:
            raise InputError(f"--against {name}: wanted is one of {', '.join(dict.fromkeys(words))}")
    chosen = [peer for peer, word in zip(ALL, words, strict=True) if not against or word in against]
    missing = {peer.name: reason for peer in chosen if (reason := peer.available()) is not None}
    for peer in chosen:
        if against and peer.name in missing:
            raise InputError(f"--against {peer.name}: {missing[peer.name]}")
    peers = [peer for peer in chosen if peer.name not in missing]
    sizes = tuple(batches) or (_BATCHES[:1] if quick else _BATCHES)
    return NetRun(known(tuple(names)), sizes, peers, missing, threads, repeats, 0 if quick else 2, allocator)


def bench_nets(run: NetRun, command: str, progress: Progress) -> BenchResult:
    """Measures a run; all sides in this process with the same number of threads.

    Ctrl-C ends it early, with the rows so far. Raises InputError where nothing could be measured, and RuntimeError
    where ours gives a wrong result.
    """
    allocator = use_allocator(run.allocator)
    peaks = {threads: [measure_peak(threads)] for threads in run.threads}
    rows: list[Row] = []
    words: list[str] = []
    with Stoppable(rows) as end:
        for done, (name, batch) in enumerate((name, batch) for name in run.names for batch in run.batches):
            progress(done * len(run.threads), run.rows, f"{name} n={batch}")
            work = task(name, batch)
            judge = NetJudge(work)
            for threads in run.threads:
                row = _row(work, judge, run, threads, words)
                rows += [] if row is None else [row]
    progress(run.rows, run.rows, "done")
    if not rows:
        raise InputError("nothing was measured: " + "; ".join(words))
    for threads in run.threads:
        peaks[threads].append(measure_peak(threads))
    versions = {peer.packages[0]: peer.version() for peer in run.peers}
    machine = described(run.threads, run.repeats, versions, run.missing, words, command, allocator, peaks, end.stopped)
    return BenchResult({**machine, "what": "nets"}, tuple(rows))


def _row(work: Task, judge: NetJudge, run: NetRun, threads: int, words: list[str]) -> Row | None:
    torch.set_num_threads(threads)
    measures_anew()
    entries = {OURS: ours(work, threads)}
    errors = {OURS: judge.error(entries[OURS].tensor(entries[OURS].run()))}
    if not errors[OURS] < _ALLOWED:
        raise RuntimeError(f"{work.name} n={work.batch}: ours differs from float64 by {errors[OURS]:.1e}")
    kinds: dict[str, bool] = {}
    for peer in run.peers:
        where = f"{work.name} n={work.batch} t={threads}: {peer.name}"
        try:
            entry = peer.entry(work, threads)
            error = judge.error(entry.tensor(entry.run()))
        except Exception as failure:  # whatever a foreign library raises must not cost the other rows
            words.append(f"{where} failed ({type(failure).__name__}: {str(failure).strip().partition(chr(10))[0]})")
            continue
        if not error < _ALLOWED:
            words.append(f"{where} differs from float64 by {error:.1e}")
            continue
        entries[peer.name], errors[peer.name], kinds[peer.name] = entry, error, peer.prepacked
    if not kinds:
        words.append(f"{work.name} n={work.batch} t={threads}: no peer is left")
        return None
    calls: dict[str, Callable[[], object]] = {name: entry.run for name, entry in entries.items()}
    tries = [measurement(calls, kinds, {OURS: "program"}, run.repeats)]
    while len(tries) <= run.again and tries[-1].spread > CALM:
        tries.append(measurement(calls, kinds, {OURS: "program"}, run.repeats))
    best = min(tries, key=lambda one: one.spread)
    match = best.match
    return Row(
        case=work.name,
        op="forward",
        batch=work.batch,
        threads=threads,
        algorithm=match.algorithm,
        ours_ms=match.ours_ms,
        peers=best.medians(kinds),
        strongest=match.strongest,
        ratio=match.ratio,
        best_ratio=match.best_ratio,
        error=errors[OURS],
        peer_error=errors[match.strongest],
        peak_share=None,
        family=work.name,
        gflops=work.flops / match.ours_ms / 1e6,
        spread=best.spread,
        rounds=len(best.times[match.strongest]),
        measured=len(tries),
        eager=best.eager,
        prepacked=best.prepacked,
    )


def ours(work: Task, threads: int) -> Entry:
    """Our side: the planned program on images that lie channels last, as `Preprocessing` makes them."""
    program = Program(work.graph, work.tensors, threads=threads)
    x = np.ascontiguousarray(work.x.numpy().transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    return Entry(lambda: program(x), torch.from_numpy)
