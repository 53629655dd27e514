"""A net to measure: its graph, seeded weights of usual sizes, a batch of images, and what it should give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan, prod

import numpy as np
import torch
from torch import Tensor
from torch import nn as torch_nn

from hapgop.bench.whole.plain import PlainNet
from hapgop.errors import InputError
from hapgop.machine import host
from hapgop.nn import capture, nets
from hapgop.program import Graph, layers

# The size and the classes of the images that a net is known for; others take photographs.
_SIZES: Mapping[str, tuple[tuple[int, int, int], int]] = {
    "digits": ((1, 8, 8), 10),
    "lenet5": ((1, 28, 28), 10),
    "tinyvgg": ((3, 64, 64), 10),
    "cifar": ((3, 32, 32), 10),
    "resnet20": ((3, 32, 32), 10),
    "resnet56": ((3, 32, 32), 10),
}
_PHOTOGRAPHS = ((3, 224, 224), 1000)
_CHECKED = 2  # images whose results are computed in float64 as well


@dataclass(frozen=True, eq=False)
class Task:
    """x: float32 (n, c, h, w), contiguous. tensors: by the graph's names. flops: two a multiplication."""

    name: str
    graph: Graph
    tensors: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]
    x: Tensor
    flops: int

    @property
    def batch(self) -> int:
        return int(self.x.shape[0])

    def plain(self) -> PlainNet:
        """The net of PyTorch's own operators, with weights of its own."""
        return PlainNet(self.graph, {name: torch.from_numpy(t.copy()) for name, t in self.tensors.items()})


def task(name: str, batch: int) -> Task:
    """A net by name. Raises InputError for a name that is unknown."""
    shape, classes = _SIZES.get(name, _PHOTOGRAPHS)
    torch.manual_seed(1)
    net = nets.build(name, classes=classes, input_shape=shape).eval()
    for part in net.modules():
        # As a trained net's: results neither vanish nor grow from layer to layer.
        if isinstance(part, torch_nn.BatchNorm2d):
            torch_nn.init.uniform_(part.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            torch_nn.init.normal_(part.running_mean, 0, 0.2)  # type: ignore[arg-type]
        elif (weight := getattr(part, "weight", None)) is not None and weight.dim() > 1:
            torch_nn.init.kaiming_normal_(weight, nonlinearity="relu")
    graph = capture(net, shape)
    state = net.state_dict()
    tensors = {key: state[key].detach().numpy() for key in graph.tensor_names()}
    flops = 2 * batch * sum(layer.macs for layer in layers(graph))
    x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(2))
    return Task(name, graph, tensors, x, flops)


class NetJudge:
    """What a net should give for the first images, computed once in float64."""

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(host().cores)
        with torch.no_grad():
            self._want = task.plain().double()(task.x[:_CHECKED].double())
        self._scale = float(self._want.abs().max().clamp(min=1e-30))

    def error(self, result: Tensor) -> float:
        """The largest difference from what it should be over the largest value; infinite for NaN or another shape."""
        first = result[:_CHECKED].double()
        if prod(first.shape) != prod(self._want.shape):
            return float("inf")
        largest = float((first.reshape(self._want.shape) - self._want).abs().max())
        return float("inf") if isnan(largest) else largest / self._scale


def known(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of nets, or all where none is given. Raises InputError for one that is unknown."""
    for name in names:
        if name not in nets.NAMES:
            raise InputError(f"--case {name}: there is no such net; there are {', '.join(nets.NAMES)}")
    return names or nets.NAMES
