"""`hapgop train DATA`"""

import re
import shlex
from dataclasses import replace
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import typer

from hapgop import train
from hapgop.cli import console, training
from hapgop.cli.bars import Bar
from hapgop.errors import InputError
from hapgop.predict import Preprocessing


class _Resize(StrEnum):
    STRETCH = "stretch"
    CROP = "crop"


def command(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]",
            help="digits (the default), a folder with a folder of pictures for each class, a folder of IDX files,"
            " or an .npz file.",
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Where to keep the trained net; runs/<name of the data> otherwise.")
    ] = None,
    net: Annotated[str | None, typer.Option(help="The net; one that fits the images otherwise.")] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .safetensors file to begin with; names as torchvision and timm have them."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over all training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in one step.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--lr", help="The highest learning rate.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd or adamw.")] = None,
    schedule: Annotated[str | None, typer.Option(help="onecycle, cosine or constant.")] = None,
    weight_decay: Annotated[float | None, typer.Option()] = None,
    label_smoothing: Annotated[float | None, typer.Option()] = None,
    flip: Annotated[bool | None, typer.Option("--flip/--no-flip", help="Mirror every other image.")] = None,
    shift: Annotated[int | None, typer.Option(help="Move each image by up to so many pixels.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides everything that is random.")] = None,
    size: Annotated[
        str | None, typer.Option(metavar="N|HxW", help="Size of the images; what they have otherwise.")
    ] = None,
    channels: Annotated[int | None, typer.Option(help="1 (grey) or 3 (colour); as the images are otherwise.")] = None,
    resize: Annotated[_Resize, typer.Option(help="How images of other proportions are made to fit.")] = _Resize.STRETCH,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; one for each core otherwise.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "--force", help="Replace the run that is in the folder.")
    ] = False,
) -> None:
    """Train a classifier, measure it on images that it has not seen, and write a report.

    Ctrl-C saves and says how to go on; a second one stops at once.
    """
    training.use_threads(threads)
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
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    how: dict[str, Any] = {"size": _sides(size), "channels": channels, "resize": resize.value, "seed": seed or 0}
    recipe = None
    if resume:
        if run is None:
            raise InputError("--resume needs the run: hapgop train --resume --run runs/NAME")
        config = training.begun(run)
        source = source or config["data"]["source"]
        how = _as_begun(config)
        recipe = replace(train.Recipe.from_json(config.get("recipe")), **changes) if changes else None
    source = source or "digits"
    # A folder that cannot be used is better known before an hour of decoding.
    folder = run or _free(source)
    with Bar() as bar:
        data = train.load(source, **how, progress=bar.training)
    training.notes(data)
    if not resume:
        recipe = train.suggested_recipe(data, **changes)
    console.say(
        f"{len(data.train):,} images to train on, {len(data.validation):,} to validate,"
        f" {len(data.classes)} classes; kept in {folder}"
    )
    go_on = training.go_on_with(folder, threads)
    result = training.fitted(
        data, folder, go_on, lines=True, recipe=recipe, net=net, weights=weights, resume=resume, overwrite=overwrite
    )
    evaluation = training.judged(data, result)
    training.tell(evaluation, result)
    console.write(f"\nTry next: {shlex.join(['hapgop', 'predict', str(folder)])} PICTURES...")


def _sides(text: str | None) -> int | tuple[int, int] | None:
    if text is None:
        return None
    sizes = re.fullmatch(r"(\d+)(?:[x×,](\d+))?", text.strip().lower())
    if sizes is None:
        raise InputError(f"--size {text}: a number of pixels, or height and width as in 48x64, is wanted.")
    height, width = sizes.groups()
    return int(height) if width is None else (int(height), int(width))


def _as_begun(config: Any) -> dict[str, Any]:
    """The arguments of `train.load` with which an unfinished run began."""
    rules = Preprocessing.from_json(config.get("preprocessing"))
    return {
        "size": rules.size,
        "channels": rules.channels,
        "resize": rules.resize,
        "seed": config["data"].get("seed", 0),
    }


def _free(source: str) -> Path:
    """runs/<name>, or runs/<name>-2 and so on where that is taken."""
    name = Path(source).resolve().stem or "run"
    tried = (Path("runs") / (name if number == 1 else f"{name}-{number}") for number in count(1))
    return next(folder for folder in tried if not folder.exists())
