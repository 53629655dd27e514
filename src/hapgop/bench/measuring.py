"""One row: every side made, checked, timed in turns, and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from statistics import median

import torch
from torch import Tensor

from hapgop.bench import sides
from hapgop.bench.peak import Peak
from hapgop.bench.peers import Entry, Peer
from hapgop.bench.rows import Match, Row
from hapgop.bench.timing import CALM, interleave, measures_anew, paired, spread
from hapgop.bench.work import Work, eager
from hapgop.machine import host

OURS, _PACKED = "ours", "ours, prepacked"
_ALLOWED = 1e-4  # of the largest value; F(4x4, 3x3) Winograd stays below, a wrong tap does not
_PEERS_ALLOWED = 1e-3  # more is another operation, or another precision
_CONTENDS = 1.3  # times the fastest peer of its kind: what is slower after three rounds will not be the strongest

_Times = Mapping[str, Sequence[float]]


class Judge:
    """What the results of one operation should be, computed once: in float64, but for images between the ends."""

    def __init__(self, work: Work) -> None:
        self.work = work
        torch.set_num_threads(host().cores)
        self._want = eager(work.ends(), Tensor.double)()
        self._scale = float(self._want.abs().max().clamp(min=1e-30))
        # One reference for every side: of two that differ, neither tells which is wrong.
        self._every = eager(work, Tensor.float)() if work.ends() is not work else None

    def error(self, result: Tensor) -> float:
        """The largest difference from what it should be over the largest value; infinite for another shape or NaN."""
        ends = self.work.ends_of(result)
        if ends.shape != self._want.shape:
            return float("inf")
        return self._share(ends.double() - self._want)

    def difference(self, result: Tensor) -> float:
        """From PyTorch's operators in float32, over all images, by the same measure; 0 where `error` sees them all."""
        if self._every is None:
            return 0.0
        return self._share(result - self._every) if result.shape == self._every.shape else float("inf")

    def objection(self, result: Tensor, allowed: float) -> tuple[float, str | None]:
        """Its error, and in words what is wrong with it, if anything is."""
        error = self.error(result)
        if not error < allowed:
            return error, f"differs from float64 by {error:.1e}"
        difference = self.difference(result)
        if not difference < _ALLOWED + _PEERS_ALLOWED:
            return error, f"differs from PyTorch between the first and the last image by {difference:.1e}"
        return error, None

    def _share(self, difference: Tensor) -> float:
        largest = float(difference.abs().max())
        return float("inf") if isnan(largest) else largest / self._scale


def measured(
    judge: Judge, peers: Sequence[Peer], threads: int, repeats: int, again: int, peak: Peak, words: list[str]
) -> Row | None:
    """The row of one operation on so many threads; what went wrong with a peer is added to `words`.

    Measured up to `again` times more while the rounds disagree; the calmest measurement counts. None, with a word,
    where no peer is left. Raises RuntimeError where ours is wrong.
    """
    work = judge.work
    torch.set_num_threads(threads)
    measures_anew()
    entries = {OURS: Entry(sides.ours(work))}
    algorithms = {OURS: sides.algorithm(entries[OURS].run)}
    packed = sides.prepacked(work)
    if packed is not None:
        entries[_PACKED], algorithms[_PACKED] = Entry(packed[0]), packed[1]
    errors = {name: _checked(judge, name, entry) for name, entry in entries.items()}
    kinds = {}
    for peer in peers:
        if not peer.computes(work.case, work.op):
            continue
        entry, error = _peer(judge, peer, threads, words)
        if entry is not None:
            entries[peer.name], errors[peer.name], kinds[peer.name] = entry, error, peer.prepacked
    calls = {name: entry.run for name, entry in entries.items()}

    if not kinds:
        words.append(f"{work.case.name} {work.op} n={work.case.batch} t={threads}: no peer is left")
        return None
    tries = [measurement(calls, kinds, algorithms, repeats)]
    while len(tries) <= again and tries[-1].spread > CALM:
        tries.append(measurement(calls, kinds, algorithms, repeats))
    best = min(tries, key=lambda one: one.spread)
    match, ours = best.match, _PACKED if best.match.ours_prepacked else OURS
    winograd = any(part.startswith("winograd") for part in match.algorithm.split(" + "))
    share = work.flops / min(best.times[ours]) / (peak.gflops * 1e9)
    return Row(
        case=work.case.name,
        op=work.op,
        batch=work.case.batch,
        threads=threads,
        algorithm=match.algorithm,
        ours_ms=match.ours_ms,
        peers=best.medians(kinds),
        strongest=match.strongest,
        ratio=match.ratio,
        best_ratio=match.best_ratio,
        error=errors[ours],
        peer_error=errors[match.strongest],
        peak_share=None if winograd else share,
        family=work.case.family,
        gflops=work.flops / match.ours_ms / 1e6,
        spread=best.spread,
        rounds=len(best.times[match.strongest]),
        measured=len(tries),
        eager=best.eager,
        prepacked=best.prepacked,
    )


def _checked(judge: Judge, name: str, entry: Entry) -> float:
    case = judge.work.case
    error, wrong = judge.objection(entry.tensor(entry.run()), _ALLOWED)
    if wrong:
        raise RuntimeError(f"{case.name} {judge.work.op} n={case.batch}: {name} {wrong}")
    return error


def _peer(judge: Judge, peer: Peer, threads: int, words: list[str]) -> tuple[Entry | None, float]:
    case = judge.work.case
    row = f"{case.name} {judge.work.op} n={case.batch} t={threads}: {peer.name}"
    try:
        entry = peer.entry(judge.work, threads)
        error, wrong = judge.objection(entry.tensor(entry.run()), _PEERS_ALLOWED)
    except Exception as failure:  # whatever a foreign library raises must not cost the other rows
        words.append(f"{row} failed ({type(failure).__name__}: {str(failure).strip().partition(chr(10))[0]})")
        return None, 0.0
    if wrong:
        words.append(f"{row} {wrong}")
        return None, 0.0
    return entry, error


def _contenders(medians: Mapping[str, float], kinds: Mapping[str, bool]) -> list[str]:
    """Ours, and of each kind of peer those that may still be its strongest."""
    going_on = [name for name in medians if name not in kinds]
    for kind in (False, True):
        rivals = {name: value for name, value in medians.items() if kinds.get(name) is kind}
        going_on += [name for name, value in rivals.items() if value <= _CONTENDS * min(rivals.values())]
    return going_on


@dataclass(frozen=True, slots=True)
class Measurement:
    """The times of all sides, and what they say; `match` is that of the two which has the fastest peer."""

    times: _Times
    eager: Match | None
    prepacked: Match | None
    match: Match
    spread: float

    def medians(self, names: Iterable[str]) -> dict[str, float]:
        """Milliseconds of the sides with these names."""
        return {name: median(self.times[name]) * 1e3 for name in names}


def measurement(
    calls: Mapping[str, Callable[[], object]], kinds: Mapping[str, bool], algorithms: Mapping[str, str], repeats: int
) -> Measurement:
    """Times all sides in turns. kinds: of each peer, whether it packs its weights ahead."""
    times = interleave(calls, repeats, contenders=lambda medians: _contenders(medians, kinds))
    eager, prepacked = (_match(times, kinds, algorithms, prepacked) for prepacked in (False, True))
    match = min((m for m in (eager, prepacked) if m is not None), key=lambda m: median(times[m.strongest]))
    ours = times[_PACKED if match.ours_prepacked else OURS]
    return Measurement(times, eager, prepacked, match, spread(ours, times[match.strongest]))


def _match(times: _Times, kinds: Mapping[str, bool], algorithms: Mapping[str, str], prepacked: bool) -> Match | None:
    """Ours against the strongest peer that packs its weights ahead, or does not."""
    # Those that took part in all rounds; of every kind there is one.
    most = max(map(len, times.values()))
    rivals = {name: median(t) for name, t in times.items() if kinds.get(name) is prepacked and len(t) == most}
    if not rivals:
        return None
    ours = _PACKED if prepacked and _PACKED in times else OURS
    strongest = min(rivals, key=lambda name: rivals[name])
    ratio, best = paired(times[ours], times[strongest])
    return Match(median(times[ours]) * 1e3, ours == _PACKED, algorithms[ours], strongest, ratio, best)
