"""What a convolution looks for: its weights, seen as small pictures."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hapgop.errors import InputError
from hapgop.predict import Predictor


@dataclass(frozen=True, eq=False)
class Filters:
    """The weights of one convolution: its name in the net, and float32 (oc, ic / groups, kh, kw)."""

    layer: str
    array: NDArray[np.float32]


def filters(model: torch.nn.Module | Predictor, layer: str | None = None) -> Filters:
    """The filters of the convolution called `layer`, or of the net's first convolution.

    Raises `InputError` where there is no such layer, or where the net has no convolution.

    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5), torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 3))
    >>> filters(net).array.shape
    (8, 3, 5, 5)
    >>> filters(net, "2").array.shape
    (16, 8, 3, 3)
    """
    found = _in_module(model) if isinstance(model, torch.nn.Module) else _in_predictor(model)
    if not found:
        raise InputError("The net has no two-dimensional convolution, so there are no filters to show.")
    name = next(iter(found)) if layer is None else layer
    if name not in found:
        raise InputError(f"The net has no convolution called {name!r}. Its convolutions: {', '.join(found)}.")
    return Filters(name, np.array(found[name], np.float32))


def _in_module(model: torch.nn.Module) -> dict[str, Any]:
    """By what they have, not by their class: anyone's convolution is one."""
    found = {}
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        convolution = hasattr(module, "kernel_size") and not getattr(module, "transposed", False)
        if convolution and isinstance(weight, torch.Tensor) and weight.ndim == 4:
            found[name or type(module).__name__.lower()] = weight.detach().to("cpu", torch.float32).numpy()
    return found


def _in_predictor(predictor: Predictor) -> dict[str, Any]:
    return {
        node.name: predictor.tensors[node.params["weight"]] for node in predictor.graph.nodes if node.op == "conv2d"
    }
