"""The sections about the making: curves, recipe, how to make it again."""

from collections.abc import Mapping, Sequence
from typing import Any

from hapgop.studio.curves import COLD, WARM, Curve, plot
from hapgop.studio.markup import Html, fill, join, part
from hapgop.studio.words import Section, said

PLOTS = {
    "Loss": (Curve("train_loss", "training", COLD), Curve("val_loss", "validation", WARM)),
    "Accuracy": (Curve("train_accuracy", "training", COLD), Curve("val_accuracy", "validation", WARM)),
    "Learning rate": (Curve("learning_rate", "learning rate", COLD),),
}


def curves(metrics: Sequence[Mapping[str, Any]]) -> Section:
    """Loss, accuracy and learning rate over the epochs."""
    plots = [drawing for title, lines in PLOTS.items() if (drawing := plot(title, metrics, lines))]
    body = _curves(metrics, plots) if plots else part("no epoch")
    return Section("curves", "Training", "Did it learn, and did it stop in time?", body)


def _curves(metrics: Sequence[Mapping[str, Any]], plots: Sequence[Html]) -> Html:
    columns = list(dict.fromkeys(key for row in metrics for key in row))
    heads = (fill('<th scope="col">$name</th>', name=name.replace("_", " ")) for name in columns)
    rows = ([fill("<td>$it</td>", it=_number(row.get(key))) for key in columns] for row in metrics)
    return part(
        "curves",
        plots=join(plots),
        heads=join(heads, ""),
        rows=join(fill("<tr>$cells</tr>", cells=join(row, "")) for row in rows),
    )


def _number(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def recipe(config: Mapping[str, Any]) -> Section:
    """Every setting of the run, and the command that makes it again."""
    groups = {
        "Training": config.get("recipe"),
        "Data": config.get("data"),
        "Images": config.get("preprocessing"),
        "Versions": {"hapgop": config.get("hapgop"), **(config.get("versions") or {})},
    }
    cards = (_facts(name, values) for name, values in groups.items() if isinstance(values, Mapping) and values)
    command = config.get("command")
    again = part("again", command=command) if command else ""
    body = part("recipe", again=again, groups=join(cards))
    return Section("recipe", "Recipe", "How was it made, and how is it made again?", body)


def _facts(name: str, values: Mapping[str, Any]) -> Html:
    facts = (part("fact", name=key.replace("_", " "), value=said(value)) for key, value in values.items())
    return part("facts", name=name, facts=join(facts))
