"""The result of a benchmark, as data: one row for each operation measured, and the JSON form of all of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from math import exp, isfinite, log
from typing import Any

from hapgop.errors import InputError


@dataclass(frozen=True, slots=True)
class Match:
    """Ours against the strongest peer of one kind.

    ours_prepacked: were our weights laid out ahead of the calls as well? algorithm: which of ours. ratio: median over
    rounds of peer / ours, so that above 1 ours is faster; best_ratio: of the best rounds.
    """

    ours_ms: float
    ours_prepacked: bool
    algorithm: str
    strongest: str
    ratio: float
    best_ratio: float


@dataclass(frozen=True, slots=True)
class Row:
    """One operation of one case. Times are medians in milliseconds; a ratio above 1 means that ours is faster.

    peers: all of them. strongest: the fastest of all. algorithm, ours_ms, ratio and best_ratio are of the `Match` that
    it belongs to, one of the two at the end. error, peer_error: largest difference from float64 over the largest value,
    ours and the strongest peer's. peak_share: of the measured multiply-add peak; None for a Winograd algorithm, which
    does fewer multiplications than the definition. family: the case's class. gflops: the definition's operations a
    second, in billions. spread: the middle half of the ratios over their median. rounds: of the strongest peer;
    measured: how often the row was measured until its rounds agreed. eager: against peers that pack their weights in
    every call, as ours then does; prepacked: against those that pack them ahead.
    """

    case: str
    op: str
    batch: int
    threads: int
    algorithm: str
    ours_ms: float
    peers: Mapping[str, float]
    strongest: str
    ratio: float
    best_ratio: float
    error: float
    peer_error: float
    peak_share: float | None
    family: str = ""
    gflops: float = 0.0
    spread: float = 0.0
    rounds: int = 0
    measured: int = 1
    eager: Match | None = None
    prepacked: Match | None = None

    @property
    def slower(self) -> bool:
        """Slower than the strongest peer, in the median and in the best rounds."""
        return self.ratio < 1 and self.best_ratio < 1


@dataclass(frozen=True, slots=True)
class BenchResult:
    """machine: where and how it was measured; rows: what came out."""

    machine: Mapping[str, Any]
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """{"machine": ..., "rows": [...]}; a row's family is called "class"."""
        rows = []
        for row in self.rows:
            values = asdict(row)
            values["class"] = values.pop("family")
            rows.append(values)
        return {"machine": dict(self.machine), "rows": rows}


@dataclass(frozen=True, slots=True)
class ClassMean:
    """What a class of rows comes to: geometric means of ratios; None where no row has such a match."""

    family: str
    rows: int
    ratio: float
    least: float
    most: float
    slower: int
    eager: float | None
    prepacked: float | None


def class_means(rows: Iterable[Row]) -> list[ClassMean]:
    """One for each class in the order of the rows, and where there are several one for all, called "all".

    >>> class_means([])
    []
    """
    rows = list(rows)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.family, []).append(row)
    if len(groups) > 1:
        groups["all"] = rows
    return [_mean(family, members) for family, members in groups.items()]


def _mean(family: str, rows: list[Row]) -> ClassMean:
    ratios = [row.ratio for row in rows]
    eager = [row.eager.ratio for row in rows if row.eager is not None]
    prepacked = [row.prepacked.ratio for row in rows if row.prepacked is not None]
    slower = sum(row.slower for row in rows)
    ends = (min(ratios), max(ratios))
    return ClassMean(family, len(rows), _geometric(ratios), *ends, slower, _mean_of(eager), _mean_of(prepacked))


def _mean_of(ratios: list[float]) -> float | None:
    return _geometric(ratios) if ratios else None


def _geometric(ratios: list[float]) -> float:
    return exp(sum(map(log, ratios)) / len(ratios))


def from_json(text: str, source: str) -> BenchResult:
    """What `to_json` made, read again. Raises InputError where it is something else."""
    try:
        whole = json.loads(text)
        machine, rows = whole["machine"], tuple(_row(values) for values in whole["rows"])
        if not isinstance(machine, dict) or not rows:
            raise ValueError("no machine or no rows in it")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{source}: not what `hapgop bench --json` writes ({error})") from None
    return BenchResult(machine, rows)


def _row(values: dict[str, Any]) -> Row:
    values = dict(values)
    values["family"] = values.pop("class", "")
    for key in ("eager", "prepacked"):
        if values.get(key) is not None:
            values[key] = Match(**{f.name: values[key][f.name] for f in fields(Match)})
    row = Row(**{f.name: values[f.name] for f in fields(Row) if f.name in values})
    if not all(isfinite(ratio) and ratio > 0 for ratio in (row.ratio, row.best_ratio)):
        raise ValueError(f"{row.case}: a ratio that is no positive number")
    return row
