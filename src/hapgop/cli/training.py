"""From data to a trained net: what `hapgop train` and `hapgop demo` have in common."""

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import torch
import typer

from hapgop import engine, nn, train
from hapgop.cli import console
from hapgop.cli.app import INTERRUPTED
from hapgop.cli.bars import Bar
from hapgop.errors import InputError
from hapgop.train.run import REPORT
from hapgop.train.starting import Stage, stage

DEMO: Final = Path("runs/demo")
# As Python and errors that quote it write them.
_TRUTHS: Final = {"True": "true", "False": "false"}


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
    """The settings in a recipe's JSON file, with NAME=VALUE over them. Raises InputError on either that is none.

    A run's config.json will do: its recipe is taken.
    """
    changes: dict[str, Any] = {}
    if path is not None:
        try:
            changes = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"--recipe {path}: cannot be read as JSON ({error}).") from error
        if isinstance(changes, dict) and "recipe" in changes:
            changes = changes["recipe"]
        try:
            train.Recipe.from_json(changes)
        except InputError as error:
            raise InputError(f'--recipe {path}: {error} A run\'s config.json works, as does "recipe" in it.') from error
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise InputError(f"--set {setting}: NAME=VALUE is wanted, as in cutout=8.")
        try:
            changes[name] = json.loads(_TRUTHS.get(text, text))
        except ValueError:
            changes[name] = text
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
    return stage(run) is Stage.OVER and not (run / REPORT).exists()


@contextmanager
def going_on(run: Path, command: str | None, *, quiet: bool = False) -> Iterator[None]:
    """Inside, a Ctrl-C that stops at once says what is left, and the command that continues; it exits.

    command: None where nothing of the run will be kept.
    """
    try:
        yield
    except KeyboardInterrupt:
        if not quiet:
            console.say("Stopped at once." if command is None else _left(run, command))
        raise typer.Exit(INTERRUPTED) from None


def _left(run: Path, command: str) -> str:
    found = stage(run)
    if found is Stage.UNDER_WAY:
        return f"Stopped at once. From the last checkpoint on, this goes on:\n  {command}"
    if found is Stage.BEGUN:
        return f"Stopped at once, before anything was trained. This begins again:\n  {command}"
    if only_report_missing(run):
        return f"Stopped at once. {run} holds the trained net; this writes its report:\n  {command}"
    return "Stopped at once, before the training began."


def fitted(
    data: train.Data,
    run: Path,
    go_on: str | None,
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
        closing.enter_context(going_on(run, go_on, quiet=not first))
        bar = closing.enter_context(Bar(lines=lines, quiet=not first))
        progress: Any = bar.training
        for listener in listeners:
            progress = listener(progress)
            closing.callback(progress.close)
        result = train.fit(data, run, progress=progress, **options)
    if not result.finished:
        if first:
            kept = f" and saved in {run}. This goes on where it stopped:\n  {go_on}"
            console.say(f"Stopped{kept if go_on else '.'}")
        raise typer.Exit(INTERRUPTED)
    return result


def accuracy(evaluation: train.Evaluation) -> str:
    """The accuracy in a sentence, with how surely it is known."""
    low, high = evaluation.interval
    what = "Accuracy" if evaluation.split == "all" else f"{evaluation.split.capitalize()} accuracy"
    return (
        f"{what}: {evaluation.accuracy:.2%}"
        f" ({evaluation.correct} of {len(evaluation.labels)} right; 95 % interval {low:.1%} to {high:.1%})"
    )


def notes(data: train.Data) -> None:
    """What loading had to decide or leave out."""
    for note in (*data.passed_over, *data.notes):
        console.note(note)


def checked(data: train.Data) -> None:
    """What a look at all images has found, as a table or a list on standard error, and what loading had to decide."""
    findings = train.scan(data)
    if not findings:
        console.say("The data are in order: all files readable, no image twice, no class too small.")
    elif console.is_narrow():
        console.list_on_the_way((f"{f.what} ({f.count:,}): {f.done}", f.examples) for f in findings)
    else:
        rows = [[finding.what, f"{finding.count:,}", finding.examples, finding.done] for finding in findings]
        table = console.table(["found in the data", "", "such as", "what is done"], rows, right=[""], folds=["such as"])
        console.err().print(table, highlight=False)
    for note in data.notes:
        console.note(note)
