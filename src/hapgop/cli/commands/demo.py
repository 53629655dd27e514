"""`hapgop demo`"""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from hapgop import train
from hapgop.cli import console, reporting, training
from hapgop.cli.commands.predict import command as predict
from hapgop.cli.computing import briefly
from hapgop.cli.options import ThreadsOption
from hapgop.train.run import REPORT

_UNSEEN = 8


def command(
    run: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to keep the trained net; runs/demo otherwise, replaced each time."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Passes over all training images.")] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Decides everything that is random.")] = 0,
    threads: ThreadsOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "--force", help="Replace the run that is in --run.")
    ] = False,
) -> None:
    """Train a small net on scikit-learn's handwritten digits, label digits that it has not seen, write a report."""
    training.use_threads(threads)
    briefly()
    folder = run or training.DEMO
    data = train.load("digits", seed=seed)
    recipe = train.suggested_recipe(data, seed=seed, **({} if epochs is None else {"epochs": epochs}))
    console.say(f"Training on {len(data.train):,} handwritten digits, 8×8 pixels, for {recipe.epochs} epochs ...")
    # Its own folder belongs to the demo; another one may hold something dear.
    go_on = training.go_on_with(folder, threads)
    command = reporting.this_command()
    result = training.fitted(data, folder, go_on, recipe=recipe, overwrite=overwrite or run is None, command=command)
    with training.going_on(folder, go_on):
        reporting.judged(data, result)
    pictures = _unseen(data, folder / "digits", seed)
    console.write(f"\n{len(pictures)} digits that the net has never seen (each file's name begins with the truth):")
    predict(folder, [str(picture) for picture in pictures], top=2)
    shown, program = shlex.quote(str(folder)), _program()
    console.write(
        f"\nOpen {folder / REPORT} in a browser to see where it is wrong and what each layer sees."
        f"\nTry next:"
        f"\n  {program} predict {shown} {shlex.quote(str(pictures[0]))} --top 3"
        f"\n  {program} shapes {shown}"
        f"\n  {program} train FOLDER   # a folder with a folder of pictures for each class"
    )


def _program() -> str:
    """hapgop as it can be typed here: by its name, or, in an environment that is not activated, by its path."""
    beside = Path(sys.executable).with_name("hapgop")
    if shutil.which("hapgop") or not beside.exists():
        return "hapgop"
    inside = beside.is_relative_to(Path.cwd())
    return shlex.quote(str(beside.relative_to(Path.cwd()) if inside else beside))


def _unseen(data: train.Data, folder: Path, seed: int) -> list[Path]:
    """A few test images as files, named after the truth."""
    split = data.split(data.unseen)
    folder.mkdir(exist_ok=True)
    for earlier in folder.glob("*_digit_*.png"):
        earlier.unlink()
    chosen = np.random.default_rng(seed).choice(len(split), _UNSEEN, replace=False)
    paths = []
    for position in np.sort(chosen).tolist():
        truth = data.classes[split.labels[position]]
        paths.append(folder / f"{truth}_digit_{position}.png")
        Image.fromarray(split.image(position).squeeze(2)).save(paths[-1])
    return sorted(paths)
