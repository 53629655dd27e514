"""What each layer of a net makes of one image."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hapgop import program
from hapgop.errors import InputError
from hapgop.predict import Predictor

Observer = Callable[[str, torch.nn.Module, torch.Tensor], None]


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """The output of one layer for one image.

    `layer` is the layer's name in its net ("features.0"), `op` its kind ("Conv2d" in a module, "conv2d" in a
    predictor) and `array` its output, float32 (c, h, w). A vector of c features has h = w = 1, a sequence of
    length l has h = 1 and w = l, and the slices of a volume lie below each other.
    """

    layer: str
    op: str
    array: NDArray[np.float32]


def feature_maps(model: torch.nn.Module | Predictor, image: Any) -> list[FeatureMap]:
    """Every layer's output for one image, in the order of the calculation.

    `image` is, for a module, what the module takes: an array or tensor (c, h, w) or (1, c, h, w); for a
    predictor, what a predictor takes: a path, a Pillow image or an array of pixels.

    A module is observed from outside (forward hooks on its leaves), in eval mode and without gradients; its
    modes are put back and its hooks taken off, whatever happens. What its `forward` computes by functions has
    no leaf, hence no map. A layer that is called again gives one more map, named "layer_1".

    Raises `InputError` where the image does not fit the net.

    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten())
    >>> for map in feature_maps(net, np.zeros((1, 8, 8), np.float32)):
    ...     print(map.layer, map.op, map.array.shape)
    0 Conv2d (4, 6, 6)
    1 ReLU (4, 6, 6)
    2 Flatten (144, 1, 1)
    """
    if isinstance(model, torch.nn.Module):
        return _of_module(model, image)
    return _of_predictor(model, image)


def _of_module(model: torch.nn.Module, image: Any) -> list[FeatureMap]:
    x = _batch_of_one(model, image)
    maps: list[FeatureMap] = []
    calls: Counter[str] = Counter()

    def observe(name: str, module: torch.nn.Module, y: torch.Tensor) -> None:
        again = calls[name]
        calls[name] += 1
        # A copy: a ReLU in place may be about to overwrite this very memory.
        values = y.detach().to("cpu", torch.float32, copy=True).numpy()
        maps.append(FeatureMap(f"{name}_{again}" if again else name, type(module).__name__, _planes(values)))

    with _evaluating(model), _observed(model, observe), torch.no_grad():
        try:
            model(x)
        except RuntimeError as error:
            raise InputError(f"The net does not take an image of shape {tuple(x.shape[1:])}: {error}") from error
    return maps


def _of_predictor(predictor: Predictor, image: Any) -> list[FeatureMap]:
    ops = {node.name: node.op for node in predictor.graph.nodes}
    maps: list[FeatureMap] = []

    def observe(name: str, y: NDArray[Any]) -> None:
        if name in ops:
            maps.append(FeatureMap(name, ops[name], _planes(np.array(y, np.float32))))

    x = predictor.prepare(image)[np.newaxis]
    program.run(predictor.graph, predictor.tensors, x, observe=observe)
    return maps


def _batch_of_one(model: torch.nn.Module, image: Any) -> torch.Tensor:
    x = torch.as_tensor(image)
    if x.ndim == 3:
        x = x.unsqueeze(0)
    if x.ndim != 4 or x.shape[0] != 1:
        raise InputError(f"One image is wanted, (c, h, w) or (1, c, h, w); this array has the shape {tuple(x.shape)}.")
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return x.to(like.device, like.dtype)


def _planes(y: NDArray[np.float32]) -> NDArray[np.float32]:
    """(1, c, ...) as (c, h, w)."""
    y = y[0]
    if y.ndim < 2:
        return y.reshape(-1, 1, 1)
    return np.ascontiguousarray(y.reshape(y.shape[0], -1, y.shape[-1]))


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards each module has its own mode again (a frozen batch norm stays frozen)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _observed(model: torch.nn.Module, observe: Observer) -> Iterator[None]:
    """Calls `observe` with each leaf's floating-point output of one image; other outputs are no picture."""
    handles = []

    def hook(name: str) -> Callable[[torch.nn.Module, Any, Any], None]:
        def after(module: torch.nn.Module, _inputs: Any, y: Any) -> None:
            if isinstance(y, torch.Tensor) and y.is_floating_point() and y.ndim >= 1 and y.shape[0] == 1:
                observe(name, module, y)

        return after

    try:
        for name, module in model.named_modules():
            if not any(True for _ in module.children()):
                # The net may itself be a single leaf: its qualified name is empty.
                handles.append(module.register_forward_hook(hook(name or type(module).__name__.lower())))
        yield
    finally:
        for handle in handles:
            handle.remove()
