"""Before a training: what its folder says, and what can be refused without the data."""

import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import torch

from hapgop.errors import InputError
from hapgop.nn import nets
from hapgop.predict import read_config
from hapgop.predict.folder import CONFIG, WEIGHTS
from hapgop.train.checkpoint import TENSORS
from hapgop.train.only_here import only_here
from hapgop.train.recipe import Recipe
from hapgop.train.run import METRICS, check_free, read_metrics

# What the checkpoint's numbers mean depends on these.
FIXED = ("seed", "batch_size", "optimizer", "rest", "average")


class Stage(Enum):
    """How far the training of a run's folder has come."""

    NONE = "there is no run"
    BEGUN = "there is a config.json and nothing else: a kill came before the first checkpoint"
    UNDER_WAY = "there is a checkpoint"
    LOST = "it has not come to its end, and there is no checkpoint to go on from"
    OVER = "it has come to its end"


def stage(folder: Path) -> Stage:
    """How far a run has come, by its files. Raises InputError where they are damaged."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if CONFIG not in names:
        return Stage.NONE
    if TENSORS in names:
        return Stage.UNDER_WAY
    if not names & {WEIGHTS, METRICS}:
        return Stage.BEGUN
    if not {WEIGHTS, METRICS} <= names:
        return Stage.LOST
    recipe = Recipe.from_json(read_config(folder).get("recipe"))
    return Stage.OVER if recipe.ended(read_metrics(folder)) else Stage.LOST


def first_look(folder: Path) -> tuple[Mapping[str, Any], Stage]:
    """config.json and the stage of a run that is to go on. Raises InputError where it cannot."""
    config, found = read_config(folder), stage(folder)
    if found is Stage.OVER:
        raise InputError(
            f"{folder}: this training has come to its end, after {len(read_metrics(folder))} epochs."
            " overwrite=True (--overwrite) begins anew, another folder keeps it."
        )
    if found is Stage.LOST:
        raise InputError(
            f"{folder}: this training has not come to its end, but its {TENSORS} is gone, so it cannot go on."
            f" {WEIGHTS}, where it is there, holds the best weights so far; overwrite=True (--overwrite) begins anew."
        )
    if found is Stage.BEGUN and (weights := net_of(config).get("weights")):
        raise InputError(
            f"{folder}: this training was stopped before its first checkpoint, and was to begin with the weights of"
            f" {weights}. overwrite=True (--overwrite) with these weights begins anew."
        )
    return config, found


def net_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What config.json says of the net: its name, and the file of the weights that it began with, if there was one."""
    net = config.get("net")
    return net if isinstance(net, Mapping) else {}


def as_begun(
    folder: Path, config: Mapping[str, Any], recipe: Recipe | None, net: torch.nn.Module | str | None
) -> tuple[Recipe, torch.nn.Module | str]:
    """The recipe and the net of a run that goes on, unless others are given that can take their place.

    Raises InputError where they cannot.
    """
    begun = Recipe.from_json(config.get("recipe"))
    fixed = [line for line in (recipe or begun).differences(begun) if line.split(":")[0] in FIXED]
    if fixed:
        raise InputError(
            f"{folder}: this training began otherwise ({'; '.join(fixed)}) and can only go on as it began."
            " Leave these settings out, or begin anew in another folder."
        )
    name = str(net_of(config).get("name"))
    if net is None and name not in nets.NAMES:
        raise InputError(f"{folder}: its net is {name}, which only you can build: give net= such a one again.")
    if isinstance(net, str) and net != name:
        raise InputError(f"{folder}: this training began with the net {name}, not {net}.")
    return recipe or begun, name if net is None else net


def check_new(folder: Path, *, overwrite: bool) -> None:
    """Raises InputError where a new run cannot be kept in this folder, or would destroy something."""
    check_free(folder, overwrite=overwrite)
    check_place(folder)


def check_place(folder: Path) -> None:
    """Raises InputError where nothing can be written into a folder, made or not, or another process trains there."""
    path = Path(os.path.abspath(folder))
    there = next(place for place in (path, *path.parents) if os.path.exists(place))
    if not there.is_dir():
        raise InputError(f"{folder}: the run cannot be kept there, as {there} is a file. Another folder works.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: the run cannot be kept there, as nothing can be written into {there}.")
    if there == path:
        with only_here(folder):
            pass
