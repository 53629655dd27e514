"""How a training begins or goes on: what is settled, and what is refused, before the data are read.

Reading them may take an hour, after which nobody wants to hear of a name mistyped.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from hapgop import train
from hapgop.cli import training
from hapgop.errors import InputError
from hapgop.nn import nets
from hapgop.predict import Preprocessing
from hapgop.train import starting
from hapgop.train.pretrained import read_weights


@dataclass(frozen=True)
class Beginning:
    """What is settled of a training before its data are read.

    how: with what `train.load` makes the images. threads, precision: those of a run that goes on, else None.
    goes_on: False where the training is over, and only its report missing. told: what its config.json tells of the
    data then.
    """

    source: str
    folder: Path
    recipe: train.Recipe
    how: Mapping[str, Any]
    threads: int | None = None
    precision: str | None = None
    goes_on: bool = True
    told: Mapping[str, Any] = field(default_factory=dict)


def new(
    workers: train.Workers,
    source: str | None,
    run: Path | None,
    changes: Mapping[str, Any],
    images: Mapping[str, Any],
    *,
    net: str | None,
    weights: Path | None,
    kept: bool,
    overwrite: bool,
) -> Beginning:
    """A new run. Raises InputError where it cannot be.

    changes: of the recipe. images: size, channels, resize and validation, those that were given. kept: whether
    anything will be written, so that the folder has to be fit for it.
    """
    source = _named("digits" if source is None else source)
    folder = Path(workers.told(str(run or _free(source))))
    recipe = train.Recipe().changed(**changes)
    if net is not None:
        nets.check(net, images.get("size"))
    if weights is not None:
        read_weights(weights)
    if kept and workers.first:
        starting.check_new(folder, overwrite=overwrite)
    return Beginning(source, folder, recipe, {**images, "seed": recipe.seed})


def resumed(
    workers: train.Workers,
    source: str | None,
    run: Path,
    changes: Mapping[str, Any],
    images: Mapping[str, Any],
    *,
    net: str | None,
) -> Beginning:
    """A run that goes on as it began. Raises InputError where it cannot, or something else is asked of it."""
    begun = workers.told(read(run) if workers.first else {})
    source = _named(begun["data"]["source"] if source is None else source)
    folder = Path(workers.told(str(run)))
    recipe = train.Recipe.from_json(begun.get("recipe")).changed(**changes)
    goes_on = workers.told(workers.first and _goes_on(folder, begun, recipe, net))
    # The same images to the last one: what could not be read then must not come in now.
    how = {**loaded_as(folder, begun, images), "retry": False}
    threads, precision = begun.get("threads"), begun.get("precision")
    return Beginning(source, folder, recipe, how, threads, precision, goes_on, begun["data"])


def read(run: Path) -> Mapping[str, Any]:
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


def loaded_as(run: Path, begun: Mapping[str, Any], images: Mapping[str, Any]) -> dict[str, Any]:
    """With what `train.load` makes the images of a run that goes on. Raises InputError where others are asked for."""
    how = train.loaded_as(begun, Preprocessing.from_json(begun.get("preprocessing")))
    other = [
        f"--{name} {_as_option(value)}, not {_as_option(how[name])}"
        for name, value in images.items()
        if value != how[name]
    ]
    if other:
        raise InputError(
            f"{run}: this training began with other images ({'; '.join(other)}) and can only go on as it began."
            " Leave these options out, or begin anew in another folder."
        )
    return how


def _goes_on(run: Path, begun: Mapping[str, Any], recipe: train.Recipe, net: str | None) -> bool:
    """Whether the training of a run goes on; False where it is over, and only its report missing.

    Raises InputError where neither can be, or recipe and net are not those that it began with.
    """
    starting.as_begun(run, begun, recipe, net)
    if not training.only_report_missing(run):
        starting.first_look(run)
        starting.check_place(run)
        return True
    changed = recipe.differences(train.Recipe.from_json(begun.get("recipe")))
    if changed:
        raise InputError(
            f"{run}: this training has come to its end, and only its report is missing. It cannot be changed any more"
            f" ({'; '.join(changed)}): leave these settings out, or begin anew in another folder."
        )
    return False


def _named(source: str) -> str:
    if not source:
        raise InputError("the data: an empty name. Give a folder of pictures, or leave it out for the digits.")
    return source


def _free(source: str) -> Path:
    """runs/<name>, or runs/<name>-2 and so on where that is taken, or the demo's, which is replaced without asking."""
    name = Path(os.path.realpath(source)).stem or "run"
    tried = (Path("runs") / (name if number == 1 else f"{name}-{number}") for number in count(1))
    return next(folder for folder in tried if folder != training.DEMO and not folder.exists())


def _as_option(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
