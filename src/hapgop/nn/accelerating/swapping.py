"""Putting our classes into a model and taking them out."""

from collections import Counter
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from hapgop.nn.accelerating.chains import AcceleratedSequential, sequential_class
from hapgop.nn.accelerating.layers import LAYERS

Model = TypeVar("Model", bound=nn.Module)

_ORIGINALS: Final = {ours: theirs for theirs, ours in LAYERS.items()}
# Set on a layer whose filters were laid out anew; restoring reads it, also in a copy of the model.
_TURNED: Final = "_hapgop_turned"


def accelerate(model: Model, *, channels_last: bool = True) -> Model:
    """The model itself, its convolutions, pools and batch norms computed by whichever is faster, ours or PyTorch's.

    Layers keep their parameters, names, hooks and places: only their class changes, to a subclass of the one they
    had. The first call with each kind of input tries both sides, forward and backward, and the faster one stays.
    In a Sequential, a convolution with the ReLU and the max-pool after it is computed in one, and so is a batch norm
    in training with the ReLU after it. `channels_last` lays
    the filters out as the fast kernels read them; results then follow, as they do in PyTorch. Layers that compute
    in ways of their own (subclasses, parametrized weights) are left alone: `hapgop.nn.acceleration(model)` tells
    of each layer what was done, or why not. `restore` undoes all of it.

    >>> net = accelerate(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()))
    >>> net(torch.ones(1, 3, 8, 8)).shape
    torch.Size([1, 8, 6, 6])
    """
    owners = Counter(_at(parameter) for parameter in model.parameters())
    for layer in model.modules():
        if refusal(layer) is not None:
            continue
        if isinstance(layer, nn.Sequential):
            layer.__class__ = sequential_class(type(layer))
            continue
        layer.__class__ = LAYERS[type(layer)]
        if channels_last and isinstance(layer, nn.Conv2d) and _may_turn(layer.weight, owners):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
            setattr(layer, _TURNED, True)
    return model


def restore(model: Model) -> Model:
    """The model itself, as it was before `accelerate`; parameters keep the values that they have now.

    >>> type(restore(accelerate(nn.Conv2d(3, 8, 3)))) is nn.Conv2d
    True
    """
    for layer in model.modules():
        if isinstance(layer, AcceleratedSequential):
            layer.__class__ = layer.original  # type: ignore[assignment]
        elif type(layer) in _ORIGINALS:
            layer.__class__ = _ORIGINALS[type(layer)]
        # Of a layer whose weight became computed since, there is none to lay out.
        weight = layer._parameters.get("weight")
        if layer.__dict__.pop(_TURNED, False) and weight is not None:
            weight.data = weight.data.contiguous()
    return model


def refusal(layer: nn.Module) -> str | None:
    """Why a layer that computes what ours do is left alone; empty where there is nothing to do; None: it is taken."""
    if type(layer) in _ORIGINALS or isinstance(layer, AcceleratedSequential):
        return ""
    if isinstance(layer, nn.Sequential):
        own = type(layer).forward is not nn.Sequential.forward or "forward" in layer.__dict__
        return "" if own or type(layer).__reduce_ex__ is not nn.Module.__reduce_ex__ else None
    if type(layer) in LAYERS:
        patched = [name for name in ("forward", "_conv_forward") if name in layer.__dict__]
        return f"its {patched[0]} was replaced" if patched else None
    if type(layer).__module__.startswith("hapgop.nn."):
        return ""
    if isinstance(layer, nn.modules.lazy.LazyModuleMixin):
        return "its sizes are not known yet: accelerate after a first call"
    kind = next((kind for kind in LAYERS if isinstance(layer, kind)), None)
    if kind is not None:
        if hasattr(layer, "parametrizations"):
            return "its weights are parametrized"
        return f"a {type(layer).__name__} is a class of its own, which may compute otherwise"
    if isinstance(layer, nn.modules.conv._ConvNd):
        return "three dimensions"
    return ""


def _may_turn(weight: Any, owners: Counter[int]) -> bool:
    """A tensor with memory of its own, which nobody else counts on as it lies."""
    if not isinstance(weight, Tensor) or type(weight) is not nn.Parameter or weight.device.type != "cpu":
        return False
    whole = weight.untyped_storage().nbytes() == weight.numel() * weight.element_size()
    alone = owners[_at(weight)] == 1 and not weight.is_shared()
    return whole and alone and weight.is_contiguous() and weight.numel() > 0


def _at(tensor: Tensor) -> int:
    """Where its memory begins; of what has none yet, or on another device: who it is."""
    here = tensor.device.type == "cpu" and not is_lazy(tensor)
    return tensor.untyped_storage().data_ptr() if here else id(tensor)
