"""The report of a run: one file that answers how good the net is, where it fails, and how it was made."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hapgop.files import write_whole
from hapgop.program import LayerInfo
from hapgop.studio import history, net, results, trust
from hapgop.studio.markup import Html, fill, join, part, stored

if TYPE_CHECKING:  # a page needs no PyTorch
    from hapgop.explain import FeatureMap, FilterHealth, Filters
    from hapgop.train import Calibration, Evaluation


def write_report(
    path: str | Path,
    *,
    title: str,
    config: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    evaluation: "Evaluation",
    filters: "Filters | None",
    feature_maps: "Sequence[FeatureMap]",
    image: NDArray[np.uint8],
    layers: Sequence[LayerInfo],
    calibration: "Calibration | None" = None,
    snapshots: Mapping[int, NDArray[np.float32]] | None = None,
    health: "Sequence[FilterHealth]" = (),
) -> None:
    """Writes one self-contained HTML file: no script, no network, every picture inside.

    config: what a run's config.json holds, with "command" and "versions" where they are known.
    metrics: what its metrics.jsonl holds, one mapping an epoch.
    filters: of the first layer; None where the net has no convolution.
    image: (h, w) or (h, w, c) bytes, the image whose feature maps are shown.
    calibration, snapshots (the first layer's filters by the epochs that were over) and health (of the convolutions):
    each a section more, where it is given.

    Nothing is computed here but how to show it. The file appears whole or not at all.
    """
    text = report(
        title, config, metrics, evaluation, filters, feature_maps, image, layers, calibration, snapshots, health
    )
    write_whole(Path(path), text.encode("utf-8", "backslashreplace"))


def report(
    title: str,
    config: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    evaluation: "Evaluation",
    filters: "Filters | None",
    feature_maps: "Sequence[FeatureMap]",
    image: NDArray[np.uint8],
    layers: Sequence[LayerInfo],
    calibration: "Calibration | None" = None,
    snapshots: Mapping[int, NDArray[np.float32]] | None = None,
    health: "Sequence[FilterHealth]" = (),
) -> Html:
    """The page as text; the arguments are those of `write_report`."""
    sections = [
        results.answer(evaluation),
        results.mistakes(evaluation),
        history.curves(metrics),
        results.confusion(evaluation),
        results.classes(evaluation),
        *([trust.calibration(calibration, _validated(config))] if calibration is not None else []),
        *([net.filters(filters)] if filters is not None else []),
        *([trust.over_time(snapshots)] if snapshots else []),
        *([trust.health(health, _filters_of(layers))] if health else []),
        *([net.feature_maps(feature_maps, image, layers, evaluation.classes)] if feature_maps else []),
        net.table(layers),
        history.recipe(config),
    ]
    return fill(
        stored("report.html"),
        title=title,
        style=stored("report.css"),
        links=join(part("link", anchor=one.anchor, name=one.name) for one in sections),
        sections=join(part("section", anchor=one.anchor, question=one.question, body=one.body) for one in sections),
        net=config.get("net", {}).get("name", ""),
        version=config.get("hapgop", ""),
    )


def _validated(config: Mapping[str, Any]) -> int | None:
    """How many validation images a run had, where its config says it."""
    data = config.get("data")
    told = data.get("validation") if isinstance(data, Mapping) else None
    return told if isinstance(told, int) else None


def _filters_of(layers: Sequence[LayerInfo]) -> dict[str, int]:
    return {layer.name: layer.output_shape[0] for layer in layers if layer.op == "conv2d"}
