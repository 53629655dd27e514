"""`hapgop learn`"""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from hapgop import train
from hapgop.cli import console, looking, training
from hapgop.cli.commands.look import opened
from hapgop.cli.options import BrowserOption, PortOption
from hapgop.errors import InputError
from hapgop.predict import Predictor
from hapgop.studio.look import Subject, serve
from hapgop.web import free_socket

_EPOCHS = 12


def command(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="A trained net for the examples; a small one is made else.")
    ] = None,
    port: PortOption = None,
    lang: Annotated[
        str | None, typer.Option(metavar="en|ko", help="The language; the browser's own otherwise.")
    ] = None,
    browser: BrowserOption = True,
) -> None:
    """A lesson on convolutional networks, from the first window to filters that learn, each idea on real numbers.

    Without RUN, a small net is trained on handwritten digits first, which takes seconds.
    """
    if lang not in (None, "en", "ko"):
        raise InputError(f"--lang {lang}: en and ko are there.")
    place = free_socket(port)
    path = "/#/learn" + (f"?lang={lang}" if lang else "")
    with tempfile.TemporaryDirectory(prefix="hapgop-learn-") as folder:
        predictor = Predictor(run or _trained(Path(folder) / "digits"))
        title = "digits" if run is None else run.resolve().name
        subject = Subject.of(title, predictor, looking.samples(predictor))
        serve(subject, place, lambda address: opened(address, browser), path)


def _trained(folder: Path) -> Path:
    data = train.load("digits")
    console.say(f"Training a small net on {len(data.train):,} handwritten digits for the examples ...")
    recipe = train.suggested_recipe(data, epochs=_EPOCHS)
    training.fitted(data, folder, None, recipe=recipe)
    return folder
