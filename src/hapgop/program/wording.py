"""A planned net for people: a line for each step, and what it all comes to."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from hapgop.program.sizes import by

if TYPE_CHECKING:
    from hapgop.program.schedule import Schedule

_HEAD = ("step", "does", "result", "algorithm", "threads", "predicted", "measured", "memory")


def told(plan: Schedule, measured: Sequence[float | None] | None, weights: int | None = None) -> str:
    """The plan's text. measured: seconds of each step, where they are known. weights: bytes of packed weights."""
    rows = [_HEAD]
    for i, (step, cost) in enumerate(zip(plan.steps, plan.costs, strict=True)):
        seconds = None if measured is None else measured[i]
        threads = 1 if plan.alone(i) else plan.team
        predicted = None if cost is None else cost.seconds if threads == 1 else cost.by_all(plan.team)
        size = plan.sizes[step.nodes[-1].name] if step.nodes[-1].name in plan.sizes else plan.sizes[step.writes]
        rows.append(
            (
                step.name,
                step.does,
                by(size),
                "python" if cost is None else cost.algorithm,
                str(threads),
                _time(predicted),
                _time(seconds),
                _place(plan, step.writes),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    fused = sum(len(step.nodes) - 1 for step in plan.steps)
    python = sum(step.problem is None for step in plan.steps)
    native = len(plan.steps) - python
    total = (
        f"{native} steps in {'one native call' if not python else 'native calls around ' + str(python) + ' in Python'}"
    )
    total += f" on {plan.team} thread{'s' * (plan.team > 1)}, {fused} nodes fused into them"
    memory = f"arena {_bytes(plan.arena)}, of values that would take {_bytes(plan.separate)}"
    memory += "" if weights is None else f"; packed weights {_bytes(weights)}"
    times = f"predicted {_time(plan.seconds)}"
    if measured is not None and all(one is not None for one in measured):
        times += f", measured {_time(sum(one for one in measured if one is not None))}"
    n, layout = plan.batch, "channels last" if plan.layout == "nhwc" else "channels first"
    first = f"{n} image{'s' * (n != 1)} of {by(plan.graph.input_shape)}, {layout}"
    return "\n".join([first, "", *lines, "", total, memory, times])


def _place(plan: Schedule, name: str) -> str:
    if name not in plan.starts:
        return "output"
    start = plan.starts[name]
    return f"{start}..{start + 4 * plan.batch * prod(plan.sizes[name])}"


def _bytes(size: int) -> str:
    for unit, scale in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1e3:.2f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} us"
