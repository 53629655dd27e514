"""A trained net judged on images that it has never seen: the words at the end of a training, and its report."""

import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np

from hapgop import explain, nn, train
from hapgop.cli import console, training
from hapgop.cli.bars import Bar
from hapgop.errors import InputError
from hapgop.predict import Predictor
from hapgop.predict.folder import CARD
from hapgop.program import layers
from hapgop.train.run import REPORT

# So many images tell a filter that never answers from one that seldom does.
_HEALTH_IMAGES = 64


def this_command() -> str:
    """What was typed."""
    return shlex.join(["hapgop", *sys.argv[1:]])


def judged(data: train.Data, result: train.Result, go_on: str | None = None) -> None:
    """Tells how good the trained net is, then writes its report and says where.

    go_on: the command that writes it later. Raises InputError where it cannot be written now.
    """
    predictor = Predictor(result.run)
    seconds = sum(line["seconds"] for line in result.metrics)
    console.write(f"{result.message} It took {seconds:,.0f} seconds.")
    with Bar() as bar:
        evaluation = train.evaluate(predictor, data, progress=lambda done, n: bar.count("judging", done, n))
    console.write(training.accuracy(evaluation))
    # A temperature that was fitted on the very images that it is judged by would flatter.
    validation = train.evaluate(predictor, data, "validation") if evaluation.split == "test" else None
    try:
        _write_report(data, result, predictor, evaluation, validation)
    except OSError as error:
        raise InputError(
            f"{result.run}: the report cannot be written ({error.strerror or error}). The net is trained and kept; this"
            f" writes it:\n  {go_on or training.go_on_with(result.run, None)}"
        ) from error
    console.write(f"Report: {result.run / REPORT}")


def tell_calls(calls: nn.CallReport, *, all_of_them: bool = False) -> None:
    """Who computed the convolutions and pools: a line where some went to PyTorch, or the whole table."""
    if all_of_them:
        console.write(f"\nConvolutions and pools, by who computed them:\n{calls}")
    elif calls.pytorch:
        elsewhere = sum(calls.pytorch.values())
        every = elsewhere + sum(calls.engine.values())
        reasons = _some([reason for _, reason in calls.pytorch])
        console.note(f"PyTorch computed {elsewhere:,} of {every:,} convolutions and pools ({reasons}).")


def _some(words: Sequence[str]) -> str:
    """The first different ones."""
    different = list(dict.fromkeys(words))
    more = len(different) - 2
    return "; ".join(different[:2]) + (f"; {more} other reason{'s' * (more > 1)}" if more > 0 else "")


def _write_report(
    data: train.Data,
    result: train.Result,
    predictor: Predictor,
    evaluation: train.Evaluation,
    validation: train.Evaluation | None,
) -> None:
    image, calibration = evaluation.images(0), None if validation is None else train.calibration(validation, evaluation)
    table = layers(predictor.graph)
    # What draws takes more than half a second to import, which nobody should wait for before the training.
    studio = import_module("hapgop.studio")
    # The report last: a run that has one is over.
    studio.write_card(
        result.run / CARD, config=predictor.config, evaluation=evaluation, layers=table, calibration=calibration
    )
    studio.write_report(
        result.run / REPORT,
        title=f"{predictor.config['net']['name']} on {Path(data.source).name}",
        config=predictor.config,
        metrics=result.metrics,
        evaluation=evaluation,
        filters=_filters(predictor),
        feature_maps=explain.feature_maps(predictor, image),
        image=image,
        layers=table,
        calibration=calibration,
        snapshots=train.load_filters(result.run),
        health=_health(predictor, evaluation),
    )


def _filters(predictor: Predictor) -> explain.Filters | None:
    convolutions = any(node.op == "conv2d" for node in predictor.graph.nodes)
    return explain.filters(predictor) if convolutions else None


def _health(predictor: Predictor, evaluation: train.Evaluation) -> list[explain.FilterHealth]:
    """All convolutions of the net, judged on images evenly from all that it was judged on."""
    convolutions = [node.name for node in predictor.graph.nodes if node.op == "conv2d"]
    n = len(evaluation.labels)
    numbers = np.linspace(0, n - 1, min(n, _HEALTH_IMAGES)).round().astype(int).tolist()
    images = [predictor.prepare(evaluation.images(number)) for number in numbers]
    return explain.health_of_all(explain.opened(predictor), images, convolutions)
