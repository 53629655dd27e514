"""A run folder read back: config.json and model.safetensors, checked against each other."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from hapgop.errors import InputError
from hapgop.predict.preprocessing import Preprocessing
from hapgop.program import Graph, check_tensors
from hapgop.program.sizes import result_sizes

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"
FORMAT = 1

CARD_HEAD = "---\nlibrary_name: hapgop\n"
"""What a model card of ours begins with."""


@dataclass(frozen=True, eq=False)
class Run:
    """A trained net as it lies in its folder. `config` is config.json as it was read, with all its parts."""

    folder: Path
    config: Mapping[str, Any]
    graph: Graph
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    tensors: Mapping[str, NDArray[Any]]


def read_run(folder: str | os.PathLike[str]) -> Run:
    """The net in a run folder. Raises InputError naming the file and what is wrong with it."""
    folder = Path(folder)
    config = read_config(folder)
    graph, classes, preprocessing = described(config, folder / CONFIG)
    tensors = _weights(folder / WEIGHTS)
    try:
        check_tensors(graph, tensors)
    except InputError as error:
        raise InputError(f"{folder / WEIGHTS} does not fit {CONFIG}: {error}") from error
    return Run(folder, config, graph, classes, preprocessing, tensors)


def described(config: Mapping[str, Any], where: Path) -> tuple[Graph, tuple[str, ...], Preprocessing]:
    """The graph, the classes and the preprocessing of a net, by what a config says.

    Raises InputError naming the part that is wrong, or does not fit the others, and for a config of another format.
    """
    _check_format(config, where)
    try:
        graph = Graph.from_json(config.get("graph"))
        preprocessing = Preprocessing.from_json(config.get("preprocessing"))
        classes = _classes(config.get("classes"))
        outputs = result_sizes(graph)[graph.output]
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if graph.input_shape != (preprocessing.channels, *preprocessing.size):
        raise InputError(
            f"{where}: the net reads images of {_by(graph.input_shape)}, but the preprocessing makes"
            f" {_by((preprocessing.channels, *preprocessing.size))}."
        )
    if outputs != (len(classes),):
        raise InputError(f"{where}: the net gives {_by(outputs)} numbers for {len(classes)} classes.")
    return graph, classes, preprocessing


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """config.json of a run folder. Raises InputError where it is missing, damaged or of another format."""
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"{folder}: a run folder is wanted (as `hapgop train` makes it), but this {what}.")
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        hint = " Its training has not come to an end." if (folder / "checkpoint.json").exists() else ""
        raise InputError(f"{folder}: no run folder, as it holds no {CONFIG}.{hint}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise InputError(f"{path}: damaged, it is no JSON ({error}).") from error
    if not isinstance(config, dict):
        raise InputError(f"{path}: damaged, it must hold a JSON object.")
    _check_format(config, path)
    return config


def _check_format(config: Mapping[str, Any], where: Path) -> None:
    if config.get("format") != FORMAT:
        raise InputError(
            f"{where}: format {config.get('format')!r}; this hapgop reads format {FORMAT}."
            f" It was written by hapgop {config.get('hapgop', 'of an unknown version')}."
        )


def _weights(path: Path) -> dict[str, NDArray[Any]]:
    try:
        tensors = {name: _single(tensor) for name, tensor in load_file(path).items()}
    except FileNotFoundError as error:
        hint = " Its training has not come to an end." if (path.parent / "checkpoint.json").exists() else ""
        raise InputError(f"{path.parent}: holds no {WEIGHTS}.{hint}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: damaged or cut short, no safetensors file ({error}).") from error
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise InputError(f"{path}: holds values that are no numbers (NaN or infinite) in {name!r}.")
    return tensors


def _single(tensor: NDArray[Any]) -> NDArray[Any]:
    return tensor.astype(np.float32, copy=False) if tensor.dtype.kind == "f" else tensor


def _classes(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise InputError("'classes' must be a list of names.")
    return tuple(value)


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def is_own_card(path: Path) -> bool:
    """Whether a run's README.md is the card that a training wrote, and not what somebody has written."""
    try:
        with path.open("rb") as file:
            return file.read(len(CARD_HEAD)) == CARD_HEAD.encode()
    except OSError:
        return False
