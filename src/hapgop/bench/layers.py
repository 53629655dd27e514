"""`hapgop bench layers`: every case, both sides, interleaved; outputs checked before anything is timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import exp, log
from statistics import median
from typing import Any

import torch

from hapgop._version import __version__
from hapgop.bench.cases import cases
from hapgop.bench.peak import Peak, measure_peak
from hapgop.bench.sides import sides
from hapgop.bench.timing import interleave, paired
from hapgop.machine import host

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One operation of one case. Times are medians in milliseconds; a ratio above 1 means that ours is faster.

    ratio: median over rounds of strongest peer / ours; best_ratio: of the best rounds. error: largest difference from
    float64, over the largest value. peak_share: of the measured multiply-add peak.
    """

    case: str
    op: str
    batch: int
    threads: int
    algorithm: str
    ours_ms: float
    peers: dict[str, float]
    strongest: str
    ratio: float
    best_ratio: float
    error: float
    peer_error: float
    peak_share: float


@dataclass(frozen=True, slots=True)
class BenchResult:
    machine: dict[str, Any]
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        return {"machine": self.machine, "rows": [asdict(row) for row in self.rows]}

    def table(self) -> str:
        """The rows as aligned text, and the geometric mean of the ratios."""
        head = ("case", "op", "ours ms", "peer ms", "ratio", "best", "error", "peer's", "peak", "strongest peer")
        body = [
            (
                row.case,
                row.op,
                f"{row.ours_ms:.4f}",
                f"{row.peers[row.strongest]:.4f}",
                f"{row.ratio:.2f}",
                f"{row.best_ratio:.2f}",
                f"{row.error:.0e}",
                f"{row.peer_error:.0e}",
                f"{row.peak_share:.0%}",
                row.strongest,
            )
            for row in self.rows
        ]
        widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
        lines = []
        for line in [head, *body]:
            cells = [
                c.ljust(w) if i in (0, 1, 9) else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        mean = exp(sum(log(row.ratio) for row in self.rows) / len(self.rows))
        slower = [row for row in self.rows if row.ratio < 1 and row.best_ratio < 1]
        m = self.machine
        lines += [
            "",
            f"geometric mean of {len(self.rows)} ratios: {mean:.2f}; slower than the peer in median and best: "
            + (", ".join(f"{row.case} {row.op}" for row in slower) or "none"),
            f"{m['name']}, {m['threads']} threads, PyTorch {m['torch']}; peak before and after: "
            + ", ".join(f"{p['gflops']:.0f} GFLOP/s and {p['bandwidth']:.0f} GB/s" for p in m["peaks"]),
        ]
        return "\n".join(lines)


def bench_layers(only: Sequence[str] | None, threads: int, repeats: int, progress: Progress) -> BenchResult:
    """Measures the cases whose names start with one of `only` (all where None).

    Both sides run in this process with the same number of threads and PyTorch's allocator as it comes. Raises
    InputError for an unknown case, and RuntimeError where the two sides do not compute the same.
    """
    torch.set_num_threads(threads)
    todo = [(case, op) for case in cases(only) for op in case.ops]
    before = measure_peak(threads)
    rows = []
    for done, (case, op) in enumerate(todo):
        progress(done, len(todo), f"{case.name} {op}")
        rows.append(_row(case.name, op, sides(case, op), case.shape.n, threads, repeats, before))
    progress(len(todo), len(todo), "done")
    return BenchResult(_machine(threads, repeats, [before, measure_peak(threads)]), tuple(rows))


def _row(name: str, op: str, s: Any, batch: int, threads: int, repeats: int, peak: Peak) -> Row:
    want = s.reference()
    scale = want.abs().max().clamp(min=1e-30)

    def error(call: Callable[[], torch.Tensor]) -> float:
        return float((call().double() - want).abs().max() / scale)

    ours_error = error(s.ours)
    if not ours_error < 1e-4:
        raise RuntimeError(f"{name} {op}: our result differs from the reference by {ours_error:.1e}")
    times = interleave({"ours": s.ours, **s.peers}, repeats)
    medians = {peer: median(times[peer]) * 1e3 for peer in s.peers}
    strongest = min(medians, key=lambda peer: medians[peer])
    ratio, best = paired(times["ours"], times[strongest])
    share = s.flops / min(times["ours"]) / (peak.gflops * 1e9)
    ours_ms = median(times["ours"]) * 1e3
    return Row(
        name, op, batch, threads, s.algorithm, ours_ms, medians, strongest, ratio, best, ours_error,
        error(s.peers[strongest]), share,
    )  # fmt: skip


def _machine(threads: int, repeats: int, peaks: list[Peak]) -> dict[str, Any]:
    m = host()
    return {
        "name": m.name,
        "isa": m.isa,
        "cores": m.cores,
        "threads": threads,
        "repeats": repeats,
        "hapgop": __version__,
        "torch": torch.__version__,
        "allocator": "default on both sides",
        "peaks": [p.to_json() for p in peaks],
    }
