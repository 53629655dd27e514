"""The result of a benchmark as aligned text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hapgop.bench.rows import BenchResult, Match, Row, class_means

_HEAD = (
    "case", "op", "n", "threads", "algorithm", "ours ms", "peer ms", "ratio", "best", "eager", "packed", "rate",
    "error", "peer's", "spread", "strongest peer",
)  # fmt: skip
_MEANS = ("class", "rows", "ratio", "least", "most", "slower", "eager", "packed")
_WORDS = """\
ratio: the strongest peer's time over ours, above 1 ours is faster; best: of the best rounds. eager, packed: against the
strongest peer that packs weights in every call, or ahead of the calls{ours}.
rate: of the multiply-add peak, or for a Winograd algorithm, which multiplies less than the definition, the
definition's operations a second. error: largest difference from float64 over the largest value.
slower: rows behind the strongest peer in median and best."""


def table(result: BenchResult) -> str:
    """Every row, the geometric mean of each class, what is slower, and the machine."""
    ahead = any(row.prepacked is not None and row.prepacked.ours_prepacked for row in result.rows)
    means = [
        (m.family, str(m.rows), f"{m.ratio:.2f}", f"{m.least:.2f}", f"{m.most:.2f}", str(m.slower), _or_dash(m.eager),
         _or_dash(m.prepacked))
        for m in class_means(result.rows)
    ]  # fmt: skip
    slower = [
        f"  {row.case} {row.op} n={row.batch} t={row.threads}: {row.ratio:.2f}" for row in result.rows if row.slower
    ]
    lines = [
        *aligned([_HEAD, *map(_cells, result.rows)], left=(0, 1, 4, 15)),
        "",
        *_WORDS.format(ours="" if ahead else ", while ours packs them in every call").splitlines(),
        "",
        *aligned([_MEANS, *means], left=(0,)),
        "",
        "Slower than the strongest peer in median and best: " + ("" if slower else "none"),
        *slower,
        "",
        *_machine(result.machine),
    ]
    return "\n".join(line.rstrip() for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    rate = f"{row.gflops:.0f} GF/s" if row.peak_share is None else f"{row.peak_share:.0%}"
    return (
        row.case, row.op, str(row.batch), str(row.threads), row.algorithm, f"{row.ours_ms:.4f}",
        f"{row.peers[row.strongest]:.4f}", f"{row.ratio:.2f}", f"{row.best_ratio:.2f}", _ratio(row.eager),
        _ratio(row.prepacked), rate, f"{row.error:.0e}", f"{row.peer_error:.0e}", f"{row.spread:.0%}", row.strongest,
    )  # fmt: skip


def _ratio(match: Match | None) -> str:
    return _or_dash(None if match is None else match.ratio)


def _or_dash(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def aligned(lines: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]


def _machine(m: Mapping[str, Any]) -> list[str]:
    """What is known of it: a file may come from another version."""
    name = [str(m[key]) for key in ("name", "isa") if key in m]
    name += [f"{m['cores']} cores"] if "cores" in m else []
    name += [f"allocator {m['allocator']}"] if "allocator" in m else []
    peaks = [
        f"{peak['gflops']:.0f} GFLOP/s and {peak['bandwidth']:.0f} GB/s on {peak['threads']} ({peak['when']})"
        for peak in m.get("peaks", ())
    ]
    versions = [f"{name} {version}" for name, version in m.get("versions", {}).items()]
    return [
        *([", ".join(name)] if name else []),
        *(["versions: " + ", ".join(versions)] if versions else []),
        *(f"without {name}: {reason}" for name, reason in m.get("missing", {}).items()),
        *(f"left out: {words}" for words in m.get("left_out", ())),
        *(["stopped before its end"] if m.get("stopped") else []),
        *(["peak: " + ", ".join(peaks)] if peaks else []),
        *([f"command: {m['command']}"] if "command" in m else []),
    ]
