"""A training in mid-flight as one file: weights, the optimiser's memory and the position."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from hapgop.errors import InputError
from hapgop.files import write_json, write_whole
from hapgop.train.average import Average
from hapgop.train.optimizer import Optimizers

TENSORS = "checkpoint.safetensors"
READABLE = "checkpoint.json"
_FORMAT = 1


@dataclass
class Position:
    """How far a training has come.

    epoch: epochs that are over; step: steps of the next one that are over; loss, correct, seen, seconds and waited:
    sums over these steps; metrics: one mapping for each epoch that is over; best: that of the best one. No generator
    has a state to keep: what is random follows from the seed and the step.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    correct: float = 0
    seen: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    metrics: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class State:
    """Everything of a training that changes as it goes, but its position."""

    net: torch.nn.Module
    optimizers: Optimizers
    average: Average | None = None
    filters: dict[str, torch.Tensor] = field(default_factory=dict)
    """The first layer's, by the epochs that were over."""


def save_checkpoint(folder: Path, state: State, position: Position, task: Mapping[str, Any]) -> None:
    """Writes checkpoint.safetensors, and checkpoint.json beside it for the eye.

    The position is inside the tensors' file too, so that no crash between the two can part them. task: what must
    be the same when the training goes on.
    """
    about = {"format": _FORMAT, "task": dict(task), "position": asdict(position)}
    tensors = {f"net.{name}": dense(tensor) for name, tensor in state.net.state_dict().items()}
    for name, parameter in state.net.named_parameters():
        for key, value in state.optimizers.memory(parameter).items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{name}.{key}"] = dense(value)
    if state.average is not None:
        tensors |= {f"average.{name}": dense(tensor) for name, tensor in state.average.tensors.items()}
    tensors |= {f"filters.{epoch}": tensor for epoch, tensor in state.filters.items()}
    write_whole(folder / TENSORS, save(tensors, {"state": json.dumps(about)}))
    write_json(folder / READABLE, about)


def load_checkpoint(path: Path, state: State, task: Mapping[str, Any]) -> Position:
    """Puts net, optimisers and average back as they were; path: a checkpoint's tensors.

    Raises InputError where the file is missing, damaged, or of another task.
    """
    folder, net = path.parent, state.net
    if not path.exists():
        raise InputError(
            f"{folder}: no training to go on with, as there is no {TENSORS}; it has come to its end, or never began."
        )
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        found, position = about["task"], Position(**about["position"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged or cut short, so the training cannot go on ({error}).") from error
    for key, wanted in task.items():
        if found.get(key) != wanted:
            since = " Images were added, taken away or changed since, or have become readable." if key == "data" else ""
            raise InputError(
                f"{folder}: this training began with another {key} ({found.get(key)}, now {wanted}).{since}"
                " It goes on only as it began; a new one needs another folder."
            )
    try:
        net.load_state_dict(_under("net.", tensors))
    except RuntimeError as error:
        raise InputError(f"{path}: made by another net ({' '.join(str(error).split())}).") from error
    for name, parameter in net.named_parameters():
        memory = _under(f"optimizer.{name}.", tensors)
        if memory:
            state.optimizers.remember(parameter, {key: _like(parameter, value) for key, value in memory.items()})
    if state.average is not None:
        averaged = _under("average.", tensors)
        if not averaged:
            raise InputError(f"{path}: keeps no average of the weights; average=0 goes on as it began.")
        state.average.load(averaged)
    state.filters.update(_under("filters.", tensors))
    return position


def remove_checkpoint(folder: Path) -> None:
    """A training that has ended needs none. What it goes on from goes last: a kill in between leaves nothing over."""
    (folder / READABLE).unlink(missing_ok=True)
    (folder / TENSORS).unlink(missing_ok=True)


def dense(tensor: torch.Tensor) -> torch.Tensor:
    """A copy that safetensors can write: contiguous, and sharing no memory with another."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose names begin so, under what is left of their names."""
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _like(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """`value` laid out as the parameter is, where it has its shape."""
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
