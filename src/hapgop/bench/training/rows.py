"""What a measurement of training steps says, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import exp, log
from typing import Any

from hapgop.bench.training.profile import Profile


@dataclass(frozen=True, slots=True)
class TrainRow:
    """One net on so many threads.

    rates: images a second of every side, by the median step; strongest: the fastest peer; ratio: our speed over its,
    median of the rounds; best_ratio: of the best rounds; spread: the middle half of the ratios over their median.
    losses: of the first steps, by side; difference: the largest between ours and a peer's, as a share of the loss.
    faults: page faults a step, of the sides in this process. absent: sides that could not take part, with the reason.
    """

    net: str
    batch: int
    threads: int
    rates: Mapping[str, float]
    strongest: str
    ratio: float
    best_ratio: float
    spread: float
    rounds: int
    losses: Mapping[str, tuple[float, ...]]
    difference: float
    faults: Mapping[str, float]
    absent: Mapping[str, str]
    profile: Profile | None = None


@dataclass(frozen=True, slots=True)
class TrainResult:
    """machine: where and how it was measured; rows: what came out."""

    machine: Mapping[str, Any]
    rows: tuple[TrainRow, ...]

    @property
    def mean(self) -> float:
        """The geometric mean of the ratios."""
        return exp(sum(log(row.ratio) for row in self.rows) / len(self.rows))

    def to_json(self) -> dict[str, Any]:
        """{"machine": ..., "rows": [...]}"""
        return {"machine": dict(self.machine), "rows": [asdict(row) for row in self.rows]}
