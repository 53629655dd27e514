"""Time to a stated accuracy: one recipe, trained in our layers and in PyTorch's own, one after the other."""

import platform
import shlex
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from hapgop import bench, engine, nn, train
from hapgop.cli import console
from hapgop.cli.bars import Bar
from hapgop.errors import InputError
from hapgop.machine import host


@dataclass(frozen=True)
class Side:
    """One training: who computed, seconds of training and validation, epochs, and how often it was right.

    images_per_second: in training alone, the median of the epochs. reached: whether the validation accuracy came to
    what was wanted.
    """

    name: str
    seconds: float
    epochs: int
    images_per_second: float
    val_accuracy: float
    test_accuracy: float
    reached: bool


def measured(data: train.Data, recipe: train.Recipe, net: str) -> list[Side]:
    """Both sides, ours first; the same first weights, batches and recipe.

    Raises InputError where an operator of ours would compute on PyTorch's side.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        ours = nn.nets.build(net, classes=len(data.classes), input_shape=data.input_shape)
    theirs = bench.in_pytorch(ours)
    graph = nn.capture(ours, data.input_shape)
    sides = []
    for name, module in (("hapgop", ours), ("PyTorch", theirs)):
        nn.reset_report()
        with tempfile.TemporaryDirectory() as folder, Bar(lines=True) as bar:
            console.say(f"{name}:")
            began = time.perf_counter()
            result = train.fit(
                data, Path(folder) / "run", recipe, net=module, graph=graph, progress=bar.training
            )  # fmt: skip
            seconds = time.perf_counter() - began
            if not result.finished:
                raise KeyboardInterrupt
            if name == "PyTorch" and (nn.report().engine or nn.report().pytorch):
                raise InputError(f"{net} calls functions of ours by themselves, so that PyTorch alone cannot train it.")
            evaluation = train.evaluate(result.run, data)
        best = max(line["val_accuracy"] for line in result.metrics)
        speed = median(line["images_per_second"] for line in result.metrics)
        reached = best >= recipe.target_accuracy
        sides.append(Side(name, seconds, len(result.metrics), speed, best, evaluation.accuracy, reached))
    return sides


def report(data: train.Data, recipe: train.Recipe, net: str, sides: list[Side]) -> dict[str, Any]:
    """Everything that someone needs who wants to do it again."""
    machine = host()
    return {
        "command": shlex.join(["hapgop", *sys.argv[1:]]),
        "machine": machine.name,
        "threads": engine.get_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "data": {"source": data.source, "train": len(data.train), "validation": len(data.validation)},
        "net": net,
        "recipe": recipe.to_json(),
        "sides": [asdict(side) for side in sides],
        "share": sides[0].seconds / sides[1].seconds,
    }


def show(recipe: train.Recipe, sides: list[Side]) -> None:
    """The table and the sentence on standard output."""
    rows = [
        [
            side.name,
            f"{side.seconds:,.1f}",
            str(side.epochs),
            f"{side.images_per_second:,.0f}",
            f"{side.val_accuracy:.2%}",
            f"{side.test_accuracy:.2%}",
        ]
        for side in sides
    ]
    columns = ["layers", "seconds", "epochs", "images/s", "validation", "test"]
    console.show(console.table(columns, rows, right=columns[1:]))
    ours, theirs = sides
    console.write(f"\nOurs took {ours.seconds / theirs.seconds:.0%} of PyTorch's time.")
    for side in sides:
        if not side.reached:
            console.write(f"{side.name} did not reach {recipe.target_accuracy:.2%} in {recipe.epochs} epochs.")
