"""The sections about trust: whether it is right as often as it is sure, and filters that do nothing of their own."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import style
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hapgop.studio.curves import COLD, RULE, STYLE, inline
from hapgop.studio.markup import Html, fill, join, part
from hapgop.studio.pictures import colour, signed
from hapgop.studio.words import Section, percent, several

if TYPE_CHECKING:  # a page needs no PyTorch
    from hapgop.explain import FilterHealth
    from hapgop.train import Calibration

# So many filters of the first layer are followed over time.
FOLLOWED = 16
NAMED = 8
# Within this, a temperature changes nothing that anyone would notice.
_NEARLY_ONE = 0.03
# With fewer images, chance says more than the net.
ENOUGH = 100
# A temperature beyond, or below one over it, stands where its search ends, from 1/50 to 50.
_FARTHEST = 49.0


def calibration(found: "Calibration", fitted: int | None = None) -> Section:
    """Sureness against accuracy, the error between them, and the temperature that lessens it, if it does.

    fitted: on how many images the temperature was, where that is known.
    """
    judged = sum(images for _, _, images in found.bins)
    body = part(
        "calibration",
        error=percent(found.error),
        rough=f"It rests on {several(judged, 'image')} only: so few that chance has a large part in it."
        if judged < ENOUGH
        else "",
        temperature=_temperature(found, fitted),
        plot=_reliability(found),
    )
    return Section("calibration", "Calibration", "When it says it is sure, is it?", body)


def _temperature(found: "Calibration", fitted: int | None) -> Html:
    if fitted is not None and fitted < ENOUGH:
        return part("no temperature", why=f"{several(fitted, 'validation image')} would be too few to fit it on.")
    if found.temperature < 1 / _FARTHEST:
        why = "on the validation images it is right so often that the surer it were, the better it would seem."
        return part("no temperature", why=why)
    if found.temperature > _FARTHEST:
        why = "on the validation images it is no better than chance, so that the less sure it were, the better."
        return part("no temperature", why=why)
    return part(
        "temperature",
        after=percent(found.error_with_temperature),
        temperature=f"{found.temperature:.2f}",
        verdict=_verdict(found),
    )


def _verdict(found: "Calibration") -> str:
    if abs(found.temperature - 1) <= _NEARLY_ONE:
        return "about as sure as it is right"
    # Fitted on other images: on these it may do harm, and then it says nothing about how sure the net is.
    if found.error_with_temperature > found.error:
        return "best left as it is: no temperature helps here"
    return "too sure of itself" if found.temperature > 1 else "less sure than it could be"


def _reliability(found: "Calibration") -> Html:
    sure, right, images = (np.array(column, float) for column in zip(*found.bins, strict=True))
    with style.context(["default", STYLE, {"svg.hashsalt": "calibration"}]):
        figure = Figure(figsize=(4.4, 3.4), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=RULE, linewidth=1.5)
        axes.plot(sure, right, color=COLD, linewidth=1.5)
        # The area of a point is its number of images.
        axes.scatter(sure, right, s=12 + 160 * images / images.max(), color=COLD, zorder=3)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="y", linewidth=0.8)
        axes.tick_params(length=0)
        axes.set_xlim(0, 1.03)
        axes.set_ylim(0, 1.03)
        axes.set_xlabel("how sure it says it is")
        axes.set_ylabel("share right")
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    said = "; ".join(f"{s:.2f} sure, {r:.2f} right" for s, r, _ in found.bins)
    return inline(file.getvalue(), "Sureness and accuracy", f"Sureness against the share right: {said}")


def over_time(snapshots: Mapping[int, NDArray[np.float32]]) -> Section:
    """The first filters of the first layer after some of the epochs, a row each."""
    last = snapshots[max(snapshots)]
    followed = min(FOLLOWED, len(last))
    rows = []
    for epoch, weights in sorted(snapshots.items()):
        tiles = []
        for number in range(followed):
            # Of one scale down a column, so that growing is seen.
            largest = float(max(np.abs(each[number]).max() for each in snapshots.values()))
            weight = weights[number]
            uri = colour(weight, largest) if weight.shape[0] == 3 else signed(weight[0], largest)
            tiles.append(part("filter", uri=uri, number=number, layer=f"epoch {epoch}"))
        when = "before training" if epoch == 0 else f"after epoch {epoch}"
        rows.append(part("filters then", when=when, tiles=join(tiles)))
    body = part("filters over time", filters="filter" if followed == 1 else f"{followed} filters", rows=join(rows))
    return Section("over-time", "Over time", "How did its first filters come about?", body)


def health(found: Sequence["FilterHealth"], filters: Mapping[str, int]) -> Section:
    """A row for each convolution with filters that are dead or doubled; filters: how many each layer has."""
    dead, double = sum(len(one.dead) for one in found), sum(len(_doubles(one)) for one in found)
    rows = [
        fill(
            '<tr><th scope="row">$layer</th><td class="n">$all</td><td>$dead</td><td>$double</td></tr>',
            layer=one.layer,
            all=filters.get(one.layer, ""),
            dead=_listed([str(number) for number in one.dead]),
            double=_listed([f"{a} = {b}" for a, b in one.duplicates]),
        )
        for one in found
        if one.dead or one.duplicates
    ]
    body = part(
        "health",
        all=several(sum(filters.values()), "filter"),
        dead=dead,
        double=double,
        images=several(found[0].images if found else 0, "image"),
        table=part("health table", rows=join(rows)) if rows else "",
    )
    return Section("health", "Health", "Are there filters that do nothing of their own?", body)


def _doubles(one: "FilterHealth") -> set[int]:
    return {second for _, second in one.duplicates} - set(one.dead)


def _listed(words: list[str]) -> str:
    return ", ".join(words[:NAMED]) + (f" and {len(words) - NAMED} more" if len(words) > NAMED else "")
