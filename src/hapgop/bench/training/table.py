"""A measurement of training steps as aligned text."""

from __future__ import annotations

from hapgop.bench.table import aligned
from hapgop.bench.training import sides
from hapgop.bench.training.profile import Profile
from hapgop.bench.training.rows import TrainResult, TrainRow

_HEAD = (
    "net",
    "batch",
    "threads",
    "ours/s",
    "peer/s",
    "ratio",
    "best",
    "spread",
    "loss diff",
    "faults",
    "strongest peer",
)


def train_table(result: TrainResult) -> str:
    """Every row, the other peers' speeds, the profiles, and the machine."""
    m = result.machine
    lines = [
        *aligned([_HEAD, *map(_cells, result.rows)], left=(0, 10)),
        "",
        "images a second; ratio: our speed over the strongest peer's; loss diff: of the first steps;"
        " faults: page faults in a step of ours",
        f"geometric mean: {result.mean:.2f}" + (" (stopped before its end)" if m["stopped"] else ""),
        "",
        *(line for row in result.rows for line in _others(row)),
        *(f"left out: {words}" for words in m["left_out"]),
        *(line for row in result.rows if row.profile is not None for line in _profile(row.net, row.profile)),
        "",
        f"{m['name']}, {m['isa']}, {m['cores']} cores; {', '.join(f'{n} {v}' for n, v in m['versions'].items())}",
        f"allocator: {m['allocator']}; {m['optimiser']}",
        f"command: {m['command']}",
    ]
    return "\n".join(line.rstrip() for line in lines)


def _cells(row: TrainRow) -> tuple[str, ...]:
    return (
        row.net, str(row.batch), str(row.threads), f"{row.rates[sides.OURS]:.1f}", f"{row.rates[row.strongest]:.1f}",
        f"{row.ratio:.2f}", f"{row.best_ratio:.2f}", f"{row.spread:.0%}", f"{row.difference:.0e}",
        f"{row.faults[sides.OURS]:.0f}", row.strongest,
    )  # fmt: skip


def _others(row: TrainRow) -> list[str]:
    rates = [f"{name} {rate:.1f}" for name, rate in row.rates.items()]
    # A side that was far behind after three rounds did not go on.
    return [
        f"{row.net} t={row.threads}: {', '.join(rates)}",
        *(f"  without {name}: {reason}" for name, reason in row.absent.items()),
    ]


def _profile(net: str, profile: Profile) -> list[str]:
    total = sum(profile.milliseconds.values())
    kinds = [(kind, f"{ms:.2f}", f"{ms / total:.0%}") for kind, ms in profile.milliseconds.items()]
    slowest = [(name, shapes[:70], f"{calls:.0f}", f"{ms:.2f}") for name, shapes, ms, calls in profile.operators]
    return [
        "",
        f"{net}, a step of ours: {profile.plain:.1f} ms"
        + (f", {profile.whole:.1f} ms with the profiler" if profile.whole != profile.plain else ""),
        *aligned([("work", "ms", "share"), *kinds], left=(0,)),
        *aligned([("slowest", "shapes", "calls", "ms"), *slowest], left=(0, 1)),
    ]
