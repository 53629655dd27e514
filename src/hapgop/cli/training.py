"""From data to a judged run: what `hapgop train` and `hapgop demo` have in common."""

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import typer

from hapgop import engine, explain, nn, train
from hapgop.cli import console
from hapgop.cli.app import INTERRUPTED
from hapgop.cli.bars import Bar
from hapgop.errors import InputError
from hapgop.predict import Predictor
from hapgop.program import layers

REPORT = "report.html"
# So many images tell a filter that never answers from one that seldom does.
_HEALTH_IMAGES = 64


def use_threads(threads: int | None) -> None:
    """As many threads in PyTorch as in the engine; None leaves both as they are."""
    if threads is not None:
        torch.set_num_threads(threads)
        engine.set_threads(threads)


def go_on_with(run: Path, threads: int | None, workers: train.Workers = train.ALONE) -> str:
    """The command that continues an unfinished run; the same number of threads gives the same bits."""
    same = [] if threads is None else ["--threads", str(threads)]
    start = ["hapgop"] if workers.alone else ["torchrun", "--nproc-per-node", str(workers.count), "-m", "--", "hapgop"]
    return shlex.join([*start, "train", "--resume", "--run", str(run), *same])


def recipe_changes(path: Path | None, settings: Iterable[str]) -> dict[str, Any]:
    """The settings in a recipe's JSON file, with NAME=VALUE over them. Raises InputError on either that is none."""
    changes: dict[str, Any] = {}
    if path is not None:
        try:
            changes = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"--recipe {path}: cannot be read as JSON ({error}).") from error
        if not isinstance(changes, dict):
            raise InputError(f'--recipe {path}: a JSON object is wanted, as under "recipe" in a run\'s config.json.')
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise InputError(f"--set {setting}: NAME=VALUE is wanted, as in cutout=8.")
        try:
            changes[name.strip()] = json.loads(text)
        except ValueError:
            changes[name.strip()] = text.strip()
    return changes


def share(option: str, text: str) -> float:
    """0.99 or 99% as a number. Raises InputError for anything that is no share above 0."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*(%?)", text.strip())
    # In decimals, so that 99.9% is 0.999.
    value = float(Decimal(found[1]) / (100 if found[2] else 1)) if found else -1.0
    if not 0 < value <= 1:
        raise InputError(f"{option} {text}: a share is wanted, as in 0.99 or 99%.")
    return value


def only_report_missing(run: Path) -> bool:
    """Whether the run's training has come to its end, but its report was never written."""
    there = {path.name for path in run.iterdir()} if run.is_dir() else set()
    return {"config.json", "model.safetensors", "metrics.jsonl"} <= there and not there & {
        REPORT, "checkpoint.safetensors"
    }  # fmt: skip


def fitted(
    data: train.Data,
    run: Path,
    go_on: str,
    *,
    lines: bool = False,
    listeners: Iterable[Callable[[train.Progress], Any]] = (),
    **options: Any,
) -> train.Result:
    """`train.fit` with a bar; where Ctrl-C stops it, says `go_on`, the command that continues, and exits.

    listeners: each makes a progress of the one that it is given, and is closed at the end.
    """
    first = options.get("workers", train.ALONE).first
    nn.reset_report()
    with ExitStack() as closing:
        bar = closing.enter_context(Bar(lines=lines, quiet=not first))
        progress: Any = bar.training
        for listener in listeners:
            progress = listener(progress)
            closing.callback(progress.close)
        try:
            result = train.fit(data, run, progress=progress, **options)
        except KeyboardInterrupt:
            console.say(f"Stopped at once. From the last checkpoint on, this goes on:\n  {go_on}")
            raise typer.Exit(INTERRUPTED) from None
    if not result.finished:
        if first:
            console.say(f"Stopped and saved in {run}. This goes on where it stopped:\n  {go_on}")
        raise typer.Exit(INTERRUPTED)
    return result


def judged(data: train.Data, result: train.Result) -> train.Evaluation:
    """The trained net on images that it has never seen; writes the report."""
    predictor = Predictor(result.run)
    with Bar() as bar:
        evaluation = train.evaluate(predictor, data, progress=lambda done, n: bar.count("judging", done, n))
        # A temperature that was fitted on the very images that it is judged by would flatter.
        validation = train.evaluate(predictor, data, "validation") if evaluation.split == "test" else None
    image = evaluation.images(0)
    command = shlex.join(["hapgop", *sys.argv[1:]])
    # What draws takes more than half a second to import, which nobody should wait for before the training.
    import_module("hapgop.studio").write_report(
        result.run / REPORT,
        title=f"{predictor.config['net']['name']} on {Path(data.source).name}",
        config={**predictor.config, "command": command},
        metrics=result.metrics,
        evaluation=evaluation,
        filters=_filters(predictor),
        feature_maps=explain.feature_maps(predictor, image),
        image=image,
        layers=layers(predictor.graph),
        calibration=None if validation is None else train.calibration(validation, evaluation),
        snapshots=train.load_filters(result.run),
        health=_health(predictor, evaluation),
    )
    return evaluation


def tell(evaluation: train.Evaluation, result: train.Result) -> None:
    """The result on standard output: how good, where the report is, who computed."""
    seconds = sum(line["seconds"] for line in result.metrics)
    console.write(f"{result.message} It took {seconds:,.0f} seconds.")
    console.write(accuracy(evaluation))
    console.write(f"Report: {result.run / REPORT}")
    calls = nn.report()
    console.write(f"\nConvolutions and pools, by who computed them:\n{calls}")
    if not calls.pytorch:
        console.write("All of them ran in the engine; none went to PyTorch.")


def accuracy(evaluation: train.Evaluation) -> str:
    """The accuracy in a sentence, with how surely it is known."""
    low, high = evaluation.interval
    return (
        f"{evaluation.split.capitalize()} accuracy: {evaluation.accuracy:.2%}"
        f" ({evaluation.correct} of {len(evaluation.labels)} right; 95 % interval {low:.1%} to {high:.1%})"
    )


def notes(data: train.Data) -> None:
    """What loading had to decide or leave out."""
    for note in (*data.passed_over, *data.notes):
        console.say(f"note: {note}")


def checked(data: train.Data) -> None:
    """What a look at all images has found, as one table on standard error, and what loading had to decide."""
    findings = train.scan(data)
    if findings:
        rows = [[finding.what, f"{finding.count:,}", finding.examples, finding.done] for finding in findings]
        table = console.table(["found in the data", "", "such as", "what is done"], rows, right=[""], folds=["such as"])
        console.err().print(table, highlight=False)
    else:
        console.say("The data are in order: all files readable, no image twice, no class too small.")
    for note in data.notes:
        console.say(f"note: {note}")


def begun(run: Path) -> Mapping[str, Any]:
    """What an unfinished run says about its data, recipe and net. Raises InputError where it says nothing."""
    path = run / "config.json"
    try:
        config: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config["data"]["source"], str):
            raise TypeError("data.source")
    except FileNotFoundError as error:
        raise InputError(f"{run}: no run to go on with, as it holds no config.json.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged, it does not say how the run began ({error}).") from error
    return config


def _filters(predictor: Predictor) -> explain.Filters | None:
    convolutions = any(node.op == "conv2d" for node in predictor.graph.nodes)
    return explain.filters(predictor) if convolutions else None


def _health(predictor: Predictor, evaluation: train.Evaluation) -> list[explain.FilterHealth]:
    """All convolutions of the net, judged on images evenly from all that it was judged on."""
    convolutions = [node.name for node in predictor.graph.nodes if node.op == "conv2d"]
    every = max(1, len(evaluation.labels) // _HEALTH_IMAGES)
    images = [predictor.prepare(evaluation.images(number)) for number in range(0, len(evaluation.labels), every)]
    net = explain.opened(predictor)
    return [explain.filter_health(net, images[:_HEALTH_IMAGES], name) for name in convolutions]
