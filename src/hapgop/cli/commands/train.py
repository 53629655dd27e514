"""`hapgop train DATA`"""

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import typer

from hapgop import nn, train
from hapgop.cli import beginning, console, reporting, training
from hapgop.cli.bars import Bar, clock
from hapgop.cli.computing import use_precision
from hapgop.cli.options import PrecisionOption, ThreadsOption
from hapgop.errors import InputError
from hapgop.train.load import changed_note

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class _Resize(StrEnum):
    STRETCH = "stretch"
    CROP = "crop"


def command(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA",
            help="digits (the default), a folder with a folder of pictures for each class, a folder of IDX files,"
            " or an .npz file.",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to keep the trained net; runs/<name of the data> otherwise."),
    ] = None,
    net: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The net, as in cifar or resnet18; one that fits the images otherwise."),
    ] = None,
    time_budget: Annotated[
        str | None, typer.Option(metavar="90s|10m|2h", help="Find net and epochs that fit into this time.")
    ] = None,
    target_accuracy: Annotated[
        str | None, typer.Option(metavar="0.99|99%", help="End once this validation accuracy is reached.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A .safetensors file to begin with; names as torchvision and timm have them."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Passes over all training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Images in one step.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--lr", metavar="RATE", help="The highest learning rate, as in 0.05.")
    ] = None,
    optimizer: Annotated[str | None, typer.Option(metavar="NAME", help="sgd, adamw or muon.")] = None,
    schedule: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="How the learning rate goes: onecycle, cosine, steps or constant."),
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(metavar="X", help="How strongly weights are drawn towards zero, as in 0.0005.")
    ] = None,
    label_smoothing: Annotated[
        float | None, typer.Option(metavar="X", help="The part of each label that all classes share, as in 0.1.")
    ] = None,
    flip: Annotated[
        bool | None, typer.Option("--flip/--no-flip", help="Mirror each image every other time that it is seen.")
    ] = None,
    shift: Annotated[int | None, typer.Option(metavar="N", help="Move each image by up to so many pixels.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other knob of the recipe; may be given again."),
    ] = None,
    recipe_from: Annotated[
        Path | None,
        typer.Option("--recipe", metavar="FILE", help="A recipe as JSON, or a run's config.json; options change it."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, metavar="N", help="Decides everything that is random.")] = None,
    size: Annotated[
        str | None, typer.Option(metavar="N|HxW", help="Size of the images; what they have otherwise.")
    ] = None,
    channels: Annotated[
        int | None, typer.Option(metavar="1|3", help="1 (grey) or 3 (colour); as the images are otherwise.")
    ] = None,
    resize: Annotated[
        _Resize | None, typer.Option(help="How images of other proportions are made to fit; stretch otherwise.")
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="0.05|5%",
            help="How much of the training images is held back to validate, where the data have no such part; 10%"
            " otherwise.",
        ),
    ] = None,
    threads: ThreadsOption = None,
    precision: PrecisionOption = None,
    check: Annotated[bool, typer.Option("--check", help="Only look at the data and say what is wrong.")] = False,
    calls: Annotated[
        bool, typer.Option("--calls", help="Show at the end which algorithms computed, and how often.")
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write for TensorBoard too.")] = False,
    look: Annotated[
        bool, typer.Option("--look", help="Watch it in the browser; then the page of hapgop look takes over.")
    ] = False,
    browser: Annotated[bool, typer.Option(help="With --look: open the page in the browser.")] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "--force", help="Replace the run that is in the folder.")
    ] = False,
) -> None:
    """Train a classifier, measure it on images that it has not seen, and write a report.

    Ctrl-C saves and says how to go on; a second one stops at once. Under torchrun, its processes share the work.
    """
    given = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "optimizer": optimizer,
        "schedule": schedule,
        "weight_decay": weight_decay,
        "label_smoothing": label_smoothing,
        "flip": flip,
        "shift": shift,
        "seed": seed,
        "target_accuracy": None if target_accuracy is None else training.share("--target-accuracy", target_accuracy),
    }
    changes = {**training.recipe_changes(recipe_from, setting or ()), **_only_given(given)}
    images = _only_given(
        {
            "size": _sides(size),
            "channels": channels,
            "resize": None if resize is None else resize.value,
            "validation": None if validation is None else training.share("--validation", validation),
        }
    )
    seconds = None if time_budget is None else _seconds("--time-budget", time_budget)
    with train.joined() as workers:
        if not resume:
            start = beginning.new(
                workers, source, run, changes, images, net=net, weights=weights, kept=not check, overwrite=overwrite
            )
        elif run is None:
            raise InputError("--resume needs the run: hapgop train --resume --run runs/NAME")
        elif seconds is not None or weights is not None or overwrite:
            raise InputError(
                "--resume goes on as the run began; --time-budget, --weights and --overwrite belong to a new one."
            )
        else:
            start = beginning.resumed(workers, source, run, changes, images, net=net)
        folder = start.folder
        listeners = [_tensorboard(folder)] if tensorboard and workers.first else []
        # A server that is seldom wanted takes a third of a second to import.
        watching = import_module("hapgop.cli.watching") if look and workers.first else None
        # The same number of threads gives the same bits.
        threads = threads or start.threads or _fair_share(workers)
        training.use_threads(threads)
        use_precision(precision or start.precision)
        data = _loaded(start, workers)
        if workers.first:
            # Arrays are data sets that others have made; what people gather in folders holds surprises.
            (training.checked if check or data.kind == "folder" else training.notes)(data)
        if check:
            return
        page = None if watching is None else watching.Page(folder.name, browser)
        if page is not None:
            listeners.append(page.listener)
        go_on = training.go_on_with(folder, threads, workers)
        if start.goes_on:
            recipe = start.recipe if resume else train.suggested_recipe(data, **changes)
            if seconds is not None:
                net, recipe = workers.told(
                    _fitting(data, recipe, seconds, net, workers) if workers.first else (net, recipe)
                )
            if workers.first:
                console.say(
                    f"{len(data.train):,} images to train on, {len(data.validation):,} to validate,"
                    f" {len(data.classes)} classes; kept in {folder}"
                )
            result = training.fitted(
                data,
                folder,
                go_on,
                lines=True,
                listeners=listeners,
                recipe=recipe,
                net=net,
                weights=weights,
                resume=resume,
                overwrite=overwrite,
                workers=workers,
                command=reporting.this_command(),
            )
        elif workers.first:  # the others need not have the folder
            result = train.finished_run(folder)
    if workers.first:
        with training.going_on(folder, go_on):
            reporting.judged(data, result, go_on)
        console.write(f"\nTry next: {shlex.join(['hapgop', 'predict', str(folder)])} PICTURES...")
        reporting.tell_calls(nn.report(), all_of_them=calls)
        if page is not None:
            page.stay(folder)


def _only_given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _loaded(start: beginning.Beginning, workers: train.Workers) -> train.Data:
    data = None
    for _ in workers.in_turn():
        # The first process of each machine decodes; the others find the decoded pictures in the cache.
        with Bar(quiet=not workers.first) as bar:
            data = train.load(start.source, **start.how, progress=bar.training)
    assert data is not None
    # Of a training that goes on, other images are refused.
    note = "" if start.goes_on else changed_note(data, start.told)
    return replace(data, notes=(*data.notes, note)) if note else data


def _fitting(
    data: train.Data, recipe: train.Recipe, seconds: float, net: str | None, workers: train.Workers
) -> tuple[str, train.Recipe]:
    """The net and the recipe that fit into the time; says so."""
    with Bar() as bar:
        tried = count(1)
        found = train.fitting(
            data,
            recipe,
            seconds,
            net,
            workers=workers.count,
            tell=lambda name: bar.count(f"timing {name}", next(tried), 4),
        )
    for reason in found.reasons:
        console.say(reason)
    epochs = f"{found.recipe.epochs} epoch{'s' * (found.recipe.epochs != 1)}"
    spent = f", after {clock(found.spent)} of timing and making kernels" if found.spent >= 1 else ""
    console.say(f"In {clock(seconds)}: {found.net} for {epochs}, which should take {clock(found.seconds)}{spent}.")
    return found.net, found.recipe


def _tensorboard(folder: Path) -> Any:
    try:
        module = import_module("hapgop.cli.tensorboard")
    except ModuleNotFoundError as error:
        raise InputError(
            f"--tensorboard needs {error.name}, which is not installed: pip install 'hapgop[tensorboard]' brings it."
        ) from error
    return lambda progress: module.Writer(folder, progress)


def _fair_share(workers: train.Workers) -> int | None:
    """The cores of this machine for each of its processes, where there are several; None for one."""
    if workers.alone:
        return None
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _seconds(option: str, text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    if found is None or float(found[1]) == 0:
        raise InputError(f"{option} {text}: a time is wanted, as in 90s, 10m or 2h.")
    return float(found[1]) * _UNITS[found[2]]


def _sides(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sizes = re.fullmatch(r"([1-9]\d{0,3})(?:[x×,]([1-9]\d{0,3}))?", text.strip().lower())
    if sizes is None:
        raise InputError(f"--size {text}: a number of pixels, or height and width as in 48x64, is wanted.")
    height, width = sizes.groups()
    return int(height), int(width or height)
