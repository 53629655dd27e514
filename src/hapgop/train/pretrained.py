"""Weights from elsewhere: a file in the names that torchvision's and timm's nets have, for a net that is trained on."""

import os

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hapgop.errors import InputError

_SHOWN = 4
# Counts how often statistics were taken; older files have none, and nothing depends on it.
_COUNTER = "num_batches_tracked"


def load_pretrained(net: torch.nn.Module, path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Puts the tensors of a safetensors file into a net; gives the names of those that it keeps as they were.

    These are the last layer's, where the file is of a net with another number of classes. Raises InputError naming
    the file, and the tensors that are missing, too many or of another shape.

    >>> load_pretrained(net, "resnet18.safetensors")  # doctest: +SKIP
    ('fc.weight', 'fc.bias')
    """
    given, wanted = read_weights(path), net.state_dict()
    head = _last_layer(wanted)
    kept = tuple(name for name in head if name in given and given[name].shape != wanted[name].shape)
    missing = [name for name in wanted if name not in given and not name.endswith(_COUNTER)]
    foreign = [name for name in given if name not in wanted]
    shapes = [
        f"{name} is {_by(given[name])}, not {_by(wanted[name])}"
        for name in wanted
        if name in given and name not in kept and given[name].shape != wanted[name].shape
    ]
    wrong = [_some("missing", missing), _some("unknown", foreign), _some("of another shape", shapes)]
    if any(wrong):
        raise InputError(f"{path}: not the weights of this net; {'; '.join(filter(None, wrong))}.")
    net.load_state_dict({name: t for name, t in given.items() if name not in kept}, strict=False)
    return kept


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises InputError where it is missing, damaged or none."""
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file.") from error
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise InputError(
            f"{path}: no safetensors file, or a damaged one ({error}). A state dict of PyTorch becomes one by "
            "safetensors.torch.save_file(state_dict, path)."
        ) from error


def _last_layer(state: dict[str, Tensor]) -> list[str]:
    """The names of the weight and the bias that make the classes."""
    path = list(state)[-1].rpartition(".")[0]
    return [name for name in state if name.rpartition(".")[0] == path]


def _by(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"


def _some(what: str, names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{what}: {', '.join(names[:_SHOWN])}{more}" if names else ""
