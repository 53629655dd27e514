"""A run is a folder: what is written there, and when a folder may be used."""

import json
import math
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from hapgop._version import __version__
from hapgop.engine import get_precision
from hapgop.errors import InputError
from hapgop.files import write_json, write_whole
from hapgop.nn import nets, settle
from hapgop.predict.folder import CARD, CONFIG, FORMAT, WEIGHTS, is_own_card, read_config
from hapgop.program import Graph
from hapgop.train.checkpoint import READABLE, TENSORS, dense
from hapgop.train.data import Data
from hapgop.train.recipe import Recipe

METRICS = "metrics.jsonl"
FILTERS = "filters.safetensors"
REPORT = "report.html"
# What each line of metrics.jsonl tells at the least.
_MEASURED = ("epoch", "val_accuracy", "seconds")
# What `write_whole` begins with; a process that was killed while it wrote leaves it behind.
_SCRATCH = ".*.part"
_OURS = (CONFIG, WEIGHTS, METRICS, FILTERS, REPORT, TENSORS, READABLE)


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Raises InputError where a new run in this folder would destroy something."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: a file; a run needs a folder. Another name works.")
    if not folder.is_dir():
        return
    names = {path.name for path in folder.iterdir()} - {path.name for path in folder.glob(_SCRATCH)}
    if names & {CONFIG, WEIGHTS, TENSORS}:
        if not overwrite:
            unfinished = TENSORS in names
            go_on = "resume=True (--resume) goes on with it, " if unfinished else ""
            raise InputError(
                f"{folder}: there is {'an unfinished' if unfinished else 'a'} run already. {go_on}"
                "overwrite=True (--overwrite) replaces it, another folder keeps it."
            )
    elif names:
        raise InputError(f"{folder}: holds other files and is no run. An empty or new folder works.")


def clear(folder: Path) -> None:
    """Makes the folder, or takes away what an earlier run left in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _OURS:
            (folder / name).unlink(missing_ok=True)
        if is_own_card(folder / CARD):
            (folder / CARD).unlink()
        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        clear_scratch(folder)
    except OSError as error:
        raise InputError(f"{folder}: the run cannot be kept there ({error.strerror}).") from error


def clear_scratch(folder: Path) -> None:
    """Takes away what a process that was killed while it wrote has left behind."""
    for path in folder.glob(_SCRATCH):
        path.unlink(missing_ok=True)


def write_config(
    folder: Path, data: Data, recipe: Recipe, net: Mapping[str, Any], graph: Graph, command: str | None = None
) -> None:
    """config.json: the net, its classes, its preprocessing, and how it was made; command: by which line of a shell."""
    config = {
        "format": FORMAT,
        "hapgop": __version__,
        "command": command,
        "net": dict(net),
        "graph": graph.to_json(),
        "classes": list(data.classes),
        "preprocessing": data.preprocessing.to_json(),
        "recipe": recipe.to_json(),
        "prediction": {"mirror": recipe.test_flip},
        "threads": torch.get_num_threads(),
        "precision": get_precision(),
        "data": {
            "source": data.source,
            "kind": data.kind,
            "train": len(data.train),
            "validation": len(data.validation),
            "test": 0 if data.test is None else len(data.test),
            "skipped": len(data.skipped),
            "seed": data.seed,
            "validation_share": data.validation_share,
            "mark": data.mark,
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
    write_json(folder / CONFIG, config)


def write_weights(folder: Path, net: torch.nn.Module, epoch: int) -> None:
    """model.safetensors: the net's state dict, and how many epochs were over."""
    tensors = {name: dense(tensor) for name, tensor in net.state_dict().items()}
    # One word only: of several, each process writes another order, and equal runs would differ.
    write_whole(folder / WEIGHTS, save(tensors, {"epoch": str(epoch)}))


def kept_epoch(folder: Path) -> int:
    """After how many epochs model.safetensors was written; 0 where it does not say so, or is not there."""
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            return int((file.metadata() or {}).get("epoch", 0))
    except (OSError, SafetensorError, ValueError):
        return 0


def write_metrics(folder: Path, metrics: Sequence[Mapping[str, Any]]) -> None:
    """metrics.jsonl: one line for each epoch."""
    write_whole(folder / METRICS, "".join(json.dumps(line) + "\n" for line in metrics).encode())


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl. Raises InputError where there are none, or one that an epoch cannot have written."""
    path = folder / METRICS
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}).") from error
    for number, line in enumerate(lines, 1):
        for key in _MEASURED:
            if not isinstance(line, dict) or not _is_number(line.get(key)):
                raise InputError(f"{path}: damaged, line {number} has no number for {key!r}.")
    return lines


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def write_filters(folder: Path, filters: Mapping[str, torch.Tensor]) -> None:
    """filters.safetensors: the first layer's filters (oc, ic, kh, kw) by the epochs that were over; none, no file."""
    if filters:
        write_whole(folder / FILTERS, save(dict(filters), {"format": "pt"}))


def load_filters(folder: Path) -> dict[int, NDArray[np.float32]]:
    """What `write_filters` wrote, by epochs; empty where there is no such file or it cannot be read."""
    try:
        return {int(epoch): tensor.numpy() for epoch, tensor in sorted(load_file(folder / FILTERS).items())}
    except (OSError, SafetensorError, ValueError, TypeError):
        return {}


def load_model(run: str | os.PathLike[str], net: torch.nn.Module | None = None) -> torch.nn.Module:
    """The trained net of a run as a module in eval mode, its weights channels last.

    net: where the run's net was not built by name, a module of the same kind; its weights are replaced. Raises
    InputError naming the file that is missing, damaged, cut short or of another net.

    >>> net = load_model("runs/digits")  # doctest: +SKIP
    """
    folder = Path(run)
    config = read_config(folder)
    if net is None:
        net = _rebuilt(folder, config)
    load_weights(folder, net)
    return settle(net).eval()


def load_weights(folder: Path, net: torch.nn.Module) -> None:
    """Puts model.safetensors into the net; raises as `load_model` does."""
    path = folder / WEIGHTS
    try:
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file; no weights have been kept here yet.") from error
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"{path}: damaged or cut short, no safetensors file ({error}).") from error
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"{path}: not the weights of this net. {' '.join(str(error).split())}") from error


def _rebuilt(folder: Path, config: Mapping[str, Any]) -> torch.nn.Module:
    try:
        name, args = config["net"]["name"], config["net"]["args"]
        if name not in nets.NAMES:
            raise InputError(
                f"{folder}: its net is {name}, which only you can build; load_model(run, net) with such a net works."
            )
        classes, (channels, height, width) = args["classes"], args["input_shape"]
        if not all(type(count) is int and count > 0 for count in (classes, channels, height, width)):
            raise TypeError(f"{classes!r} classes, images {args['input_shape']!r}")
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / CONFIG}: damaged, it does not say how its net is built ({error!r}).") from error
    return nets.build(name, classes=classes, input_shape=(channels, height, width))
