"""Time to a stated accuracy: one recipe, trained in our layers and in PyTorch's own, one after the other.

Each side has a process of its own, so that what counts for a user is measured too: from the start to a judged net.
"""

import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch
import typer

from hapgop import bench, engine, nn, train
from hapgop.cli import console
from hapgop.cli.bars import Bar
from hapgop.errors import InputError
from hapgop.machine import host

SIDES: Final = ("hapgop", "PyTorch")


@dataclass(frozen=True)
class Side:
    """One training: who computed, seconds of training and validation, epochs, and how often it was right.

    images_per_second: in training alone, the median of the epochs. reached: whether the validation accuracy came to
    what was wanted. seconds_from_start: of the whole process, with imports, reading and the test; None where it did
    more than that.
    """

    name: str
    seconds: float
    epochs: int
    images_per_second: float
    val_accuracy: float
    test_accuracy: float
    reached: bool
    seconds_from_start: float | None = None


def in_processes(
    source: str, net: str | None, changes: Mapping[str, Any], threads: int, allocator: str
) -> tuple[dict[str, Any], list[Side]]:
    """Both sides, ours first, each in a process of its own: (what one of them told of itself, both).

    Ends as the process of a side does where that fails; it has said why.
    """
    told: dict[str, Any] = {}
    sides = []
    for name in SIDES:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "side.json"
            command = [sys.executable, "-m", "hapgop", "bench", "accuracy", source, "--side", name, "--json", str(file)]
            command += ["--threads", str(threads), "--allocator", allocator, *(["--net", net] if net else [])]
            for key, value in changes.items():
                command += ["--set", f"{key}={json.dumps(value)}"]
            began = time.perf_counter()
            code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
            seconds = time.perf_counter() - began
            if code:
                raise typer.Exit(code)
            told = json.loads(file.read_text(encoding="utf-8"))
        sides.append(replace(Side(**told["sides"][0]), seconds_from_start=seconds))
    return told, sides


def measured(data: train.Data, recipe: train.Recipe, net: str, name: str) -> Side:
    """One side, here; both have the same first weights, batches and recipe.

    Raises InputError where an operator of ours would compute on PyTorch's side.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        ours = nn.nets.build(net, classes=len(data.classes), input_shape=data.input_shape)
    graph = nn.capture(ours, data.input_shape)
    module = bench.in_pytorch(ours) if name == "PyTorch" else ours
    nn.reset_report()
    with tempfile.TemporaryDirectory() as folder, Bar(lines=True) as bar:
        console.say(f"{name}:")
        began = time.perf_counter()
        result = train.fit(data, Path(folder) / "run", recipe, net=module, graph=graph, progress=bar.training)
        seconds = time.perf_counter() - began
        if not result.finished:
            raise KeyboardInterrupt
        if name == "PyTorch" and (nn.report().engine or nn.report().pytorch):
            raise InputError(f"{net} calls functions of ours by themselves, so that PyTorch alone cannot train it.")
        evaluation = train.evaluate(result.run, data)
    best = max(line["val_accuracy"] for line in result.metrics)
    speed = median(line["images_per_second"] for line in result.metrics)
    reached = best >= recipe.target_accuracy
    return Side(name, seconds, len(result.metrics), speed, best, evaluation.accuracy, reached)


def report(data: train.Data, recipe: train.Recipe, net: str, side: Side) -> dict[str, Any]:
    """Everything that someone needs who wants to do it again."""
    return {
        "machine": host().name,
        "threads": engine.get_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "data": {"source": data.source, "train": len(data.train), "validation": len(data.validation)},
        "net": net,
        "recipe": recipe.to_json(),
        "sides": [asdict(side)],
    }


def compared(told: Mapping[str, Any], sides: list[Side], command: str) -> dict[str, Any]:
    """What one side told, with both of them, and our share of PyTorch's time."""
    ours, theirs = sides
    shares = {"share": ours.seconds / theirs.seconds}
    if ours.seconds_from_start and theirs.seconds_from_start:
        shares["share_from_start"] = ours.seconds_from_start / theirs.seconds_from_start
    return {"command": command, **told, "sides": [asdict(side) for side in sides], **shares}


def show(told: Mapping[str, Any], sides: list[Side]) -> None:
    """The table and the sentences on standard output."""
    rows = [
        [
            side.name,
            f"{side.seconds:,.1f}",
            "" if side.seconds_from_start is None else f"{side.seconds_from_start:,.1f}",
            str(side.epochs),
            f"{side.images_per_second:,.0f}",
            f"{side.val_accuracy:.2%}",
            f"{side.test_accuracy:.2%}",
        ]
        for side in sides
    ]
    columns = ["layers", "training, s", "from start, s", "epochs", "images/s", "validation", "test"]
    console.show(console.table(columns, rows, right=columns[1:]))
    if "share" in told:
        console.write(
            f"\nOurs took {told['share']:.0%} of PyTorch's time; {told['share_from_start']:.0%} from the start of the"
            " process, with imports, reading and the test."
        )
    recipe = told["recipe"]
    for side in sides:
        if not side.reached:
            console.write(f"{side.name} did not reach {recipe['target_accuracy']:.2%} in {recipe['epochs']} epochs.")
