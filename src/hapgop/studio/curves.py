"""Curves over the epochs, as SVG inside the page: drawn by matplotlib, coloured by the page."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from matplotlib import style
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hapgop.studio.markup import Html, part

SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}"

# Matplotlib writes fixed colours; these stand for the page's own, which know of light and dark.
INKS = {
    "#010203": "var(--ink-soft)",
    "#010204": "var(--line)",
    "#010205": "var(--cold)",
    "#010206": "var(--warm)",
}
TEXT, RULE, COLD, WARM = INKS

STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "text.color": TEXT,
    "axes.edgecolor": RULE,
    "axes.labelcolor": TEXT,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "grid.color": RULE,
    "axes.formatter.useoffset": False,
}


@dataclass(frozen=True)
class Curve:
    """One line of a plot: its key in the metrics, what to call it, and its ink (COLD or WARM)."""

    key: str
    name: str
    ink: str


def plot(title: str, metrics: Sequence[Mapping[str, object]], curves: Sequence[Curve]) -> Html:
    """An SVG element with these curves over the epochs; empty where the metrics have none of them."""
    lines = [(curve, _points(metrics, curve.key)) for curve in curves]
    lines = [(curve, points) for curve, points in lines if points]
    if not lines:
        return Html()
    # From the default style: what a user has set for other plots has no place in a report.
    with style.context(["default", STYLE, {"svg.hashsalt": title}]):
        figure = Figure(figsize=(4.4, 2.9), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for curve, points in lines:
            epochs, values = zip(*points, strict=True)
            axes.plot(epochs, values, color=curve.ink, linewidth=2, marker="o" if len(points) < 3 else None)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="y", linewidth=0.8)
        axes.tick_params(length=0)
        axes.margins(x=0.02)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.set_xlabel("epoch")
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    said = "; ".join(f"{curve.name} from {points[0][1]:.3g} to {points[-1][1]:.3g}" for curve, points in lines)
    return inline(file.getvalue(), title, f"{title} by epoch: {said}")


def _points(metrics: Sequence[Mapping[str, object]], key: str) -> list[tuple[float, float]]:
    points = []
    for row in metrics:
        epoch, value = row.get("epoch"), row.get(key)
        if isinstance(epoch, int | float) and isinstance(value, int | float) and math.isfinite(value):
            points.append((float(epoch), float(value)))
    return points


def inline(svg: str, title: str, alt: str) -> Html:
    """The document as an element of a page: nothing that two plots might share, and the page's colours."""
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in {f"{SVG}metadata", f"{SVG}style"}:
                parent.remove(child)
    prefix = re.sub(r"\W+", "-", title.lower())
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        name = element.attrib.pop("id", None)
        if name is not None and f"#{name}" in svg:
            element.set("id", f"{prefix}-{name}")
        target = element.attrib.pop(f"{XLINK}href", None)
        if target is not None:
            element.set("href", f"#{prefix}-{target.removeprefix('#')}")
        for key, value in element.attrib.items():
            element.set(key, _restyled(value, prefix))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("class", "plot")
    root.set("role", "img")
    root.set("aria-label", alt)
    drawing = Html(ElementTree.tostring(root, encoding="unicode", short_empty_elements=True))
    return part("curve", title=title, drawing=drawing)


def _restyled(value: str, prefix: str) -> str:
    value = value.replace("url(#", f"url(#{prefix}-")
    value = re.sub(r"font-family: [^;]*; ?", "", value)
    for ink, name in INKS.items():
        value = value.replace(ink, name)
    return value
