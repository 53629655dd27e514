"""The ratios of a benchmark as a picture: a mark for each row, classes one below the other."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import Any, Final

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from hapgop.bench.rows import BenchResult, ClassMean, Row, class_means
from hapgop.errors import InputError

# Okabe and Ito's blue and vermilion, which stay apart for every kind of colour vision, and in grey.
FASTER: Final = "#0072B2"
SLOWER: Final = "#D55E00"
_INK, _SOFT = "#222222", "#8a8a8a"
_SHAPES: Final = {"forward": "o", "grad_x": "^", "grad_w": "s", "backward": "D"}

_ROW = 0.045  # inches of height for a mark
_TALLEST = 16  # inches for all of them
_CLASS = 0.34  # inches that every class has at least
_GAP = 0.12  # inches between classes
_TICKS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 100)
_APART = 0.1  # of the scale's length, from the middle of one number to that of the next
_LETTER = 0.098  # inches of a letter of a class's name at most


def draw(result: BenchResult, path: Path) -> None:
    """Writes the picture; the ending says how: .svg or .png. Raises InputError for another, or where it cannot be."""
    if path.suffix.lower() not in (".svg", ".png"):
        raise InputError(f"--picture {path}: the name has to end with .svg or .png")
    # From the default style: what a user has set for other plots has no place here.
    with style.context(["default", {"font.size": 9.5, "svg.fonttype": "none", "svg.hashsalt": "hapgop"}]):
        figure = _figure(result)
        try:
            figure.savefig(path, dpi=160, facecolor="white", metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError as error:
            raise InputError(f"--picture {path}: cannot be written ({error.strerror}).") from error


def _figure(result: BenchResult) -> Figure:
    *means, every = class_means(result.rows)
    means = means or [every]
    row = min(_ROW, _TALLEST / every.rows)
    heights = [max(_CLASS, row * mean.rows) for mean in means]
    height = sum(heights) + _GAP * len(means)
    total = height + 1.75
    names = 0.2 + _LETTER * max(10, *(len(mean.family) for mean in means))
    width = names + 7.2
    figure = Figure(figsize=(width, total))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((names / width, 0.62 / total, 4.7 / width, height / total))
    axes.set_xscale("log")
    axes.set_ylim(height, 0)
    _columns(axes, result.rows)
    top = 0.0
    for number, (mean, high) in enumerate(zip(means, heights, strict=True)):
        if number % 2:
            axes.axhspan(top, top + high + _GAP, color="#f3f3f3", zorder=0, linewidth=0)
        _class(axes, mean, [row for row in result.rows if row.family == mean.family], top + _GAP / 2, high)
        top += high + _GAP
    _words(figure, result, every, total)
    return figure


def _columns(axes: Axes, rows: Sequence[Row]) -> None:
    """The scale: from the worst row to the best with some air, and one always in sight."""
    least, most = min(1.0, *(row.ratio for row in rows)) / 1.15, max(1.0, *(row.ratio for row in rows)) * 1.15
    least, most = min(least, 0.8), max(most, 1.6)
    axes.set_xlim(least, most)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(least, most)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.yaxis.set_major_locator(NullLocator())
    axes.grid(axis="x", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.axvline(1, color=_INK, linewidth=1.1, zorder=2)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.set_xlabel("time of the strongest peer / ours (right of the line ours is faster)", color=_INK)


def _ticks(least: float, most: float) -> list[float]:
    """As many as have room for their numbers, from one outwards; one is always among them."""
    room = _APART * log(most / least)
    ticks = [1.0]
    for tick in sorted(_TICKS, key=lambda tick: abs(log(tick))):
        if least <= tick <= most and all(abs(log(tick / other)) > room for other in ticks):
            ticks.append(tick)
    return sorted(ticks)


def _class(axes: Axes, mean: ClassMean, rows: list[Row], top: float, height: float) -> None:
    """One class: its rows sorted, a mark each, its mean as a line, and both in words beside them."""
    for number, row in enumerate(sorted(rows, key=lambda row: -row.ratio)):
        mark = axes.plot(
            row.ratio,
            top + height * (number + 0.5) / len(rows),
            marker=_SHAPES.get(row.op, "o"),
            markersize=4.2,
            markeredgewidth=0.9,
            color=SLOWER if row.ratio < 1 else FASTER,
            # Hollow and filled too, for print without colour.
            markerfacecolor="white" if row.ratio < 1 else FASTER,
            zorder=3,
        )[0]
        mark.set_gid(f"row-{row.case}-{row.op}-{row.batch}-{row.threads}")
    axes.plot([mean.ratio, mean.ratio], [top, top + height], color=_INK, linewidth=1.4, zorder=2.5, alpha=0.75)
    middle = top + height / 2
    place: Any = axes.get_yaxis_transform()
    axes.text(-0.02, middle, mean.family, transform=place, ha="right", va="center", color=_INK, fontweight="bold")
    below = sum(row.ratio < 1 for row in rows)
    words = f"{mean.rows} row{'s' * (mean.rows > 1)}" + (f", {below} below 1" if below else "")
    axes.text(
        1.02, middle, f"{mean.ratio:.2f}×", transform=place, ha="left", va="center", fontweight="bold", color=_INK
    )
    axes.text(1.15, middle, words, transform=place, ha="left", va="center", color=SLOWER if below else _SOFT)


def _words(figure: Figure, result: BenchResult, every: ClassMean, total: float) -> None:
    peers = sorted({peer for row in result.rows for peer in row.peers})
    what = "Nets" if result.machine.get("what") == "nets" else "Layers"
    title = f"{what} against the strongest of {len(peers)} peers"
    figure.text(0.02, 1 - 0.2 / total, title, va="center", fontweight="bold", fontsize=11.5, color=_INK)
    threads = ", ".join(map(str, result.machine.get("threads", "?")))
    allocator = str(result.machine.get("allocator", "?")).partition(" ")[0]
    where = f"{result.machine.get('name', '?')} · threads {threads} · allocator {allocator}"
    under = f"{every.rows} rows, geometric mean {every.ratio:.2f}× · {where}"
    figure.text(0.02, 1 - 0.44 / total, under, va="center", color=_SOFT)
    ops = [op for op in _SHAPES if any(row.op == op for row in result.rows)]
    marks = [Line2D([], [], marker=_SHAPES[op], color=_INK, linestyle="", markersize=4.5, label=op) for op in ops]
    slower = Line2D([], [], marker="o", color=SLOWER, markerfacecolor="white", linestyle="", markersize=4.5)
    slower.set_label("ours slower")
    mean = Line2D([], [], color=_INK, linewidth=1.4, label="geometric mean")
    figure.legend(
        handles=[*marks, slower, mean], loc="center left", bbox_to_anchor=(0.012, 1 - 0.72 / total), ncols=6,
        frameon=False, handletextpad=0.3, columnspacing=1.4, borderpad=0,
    )  # fmt: skip
