"""The text of `hapgop bench random`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hapgop.bench import SurveyRow, SurveySummary

_STEPS = (0.5, 0.8, 0.95, 1.0, 1.05, 1.25, 1.5, 2.0, 3.0, 5.0)
_WIDTH = 50


def text(rows: Sequence[SurveyRow]) -> str:
    """What is slower than PyTorch, which choices were poor, how the ratios lie, and what they come to."""
    total = SurveySummary.of(rows)
    slower = sorted((row for row in rows if row.slower), key=lambda row: row.ratio)
    poor = sorted((row for row in rows if row.poor), key=lambda row: -(row.near or 0))
    lines = ["Slower than PyTorch, in median and best: " + ("" if slower else "none"), *map(_row, slower), ""]
    if wrong := [row for row in rows if row.wrong]:
        lines += ["PyTorch's result is not that of float64, as ours is:", *(f"  {r.op} {r.layer}" for r in wrong), ""]
    if total.within is not None:
        lines += ["Not the fastest of our algorithms: " + ("" if poor else "none"), *map(_choice, poor), ""]
    lines += ["PyTorch's time over ours:", *_histogram([row.ratio for row in rows]), ""]
    kinds = list(dict.fromkeys(row.kind for row in sorted(rows, key=lambda row: row.kind)))
    groups = [(kind, [row for row in rows if row.kind == kind]) for kind in kinds]
    groups += [(op, [row for row in rows if row.op == op]) for op in dict.fromkeys(row.op for row in rows)]
    lines += [_group(name, SurveySummary.of(members)) for name, members in groups]
    return "\n".join([*lines, _group("all", total)])


def _row(row: SurveyRow) -> str:
    ends = f"{row.ours_ms:.4f} ms, PyTorch {row.pytorch_ms:.4f} ms"
    return f"  {row.ratio:.2f} (best {row.best_ratio:.2f})  {row.op} {row.layer}: {row.algorithm}, {ends}"


def _choice(row: SurveyRow) -> str:
    times = ", ".join(f"{name} {ms:.4f} ms (predicted {told:.4f})" for name, (told, ms) in row.candidates.items())
    return f"  {row.near:.2f}  {row.op} {row.layer}: {row.algorithm} of {times}"


def _histogram(ratios: Sequence[float]) -> list[str]:
    ends = [0.0, *_STEPS, float("inf")]
    counts = [sum(low <= r < high for r in ratios) for low, high in pairwise(ends)]
    names = [f"under {_STEPS[0]}", *(f"{low} to {high}" for low, high in pairwise(_STEPS))]
    names.append(f"{_STEPS[-1]} and more")
    most = max(counts)
    return [
        f"  {name:>12}  {count:4}  {'#' * round(_WIDTH * count / most)}".rstrip()
        for name, count in zip(names, counts, strict=True)
    ]


def _group(name: str, s: SurveySummary) -> str:
    near = "" if s.within is None else f", the choice within 10 % of the best in {s.within:.0%} of {s.chosen}"
    counts = f"{s.slower} slower, {s.to_pytorch} computed by PyTorch"
    return f"{name}: {s.rows} rows, geometric mean {s.mean:.2f}, {counts}{near}"
