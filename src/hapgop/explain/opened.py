"""Any net as a graph with its tensors: what every other question here is asked of."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hapgop import program
from hapgop.errors import InputError
from hapgop.explain.steps import Steps
from hapgop.nn import capture
from hapgop.predict import Predictor
from hapgop.program import Graph, LayerInfo, Node

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Opened:
    """A net for images of one size: its graph and the tensors that it reads.

    `input` stands for the image wherever a layer's name is asked for.
    """

    graph: Graph
    tensors: Mapping[str, NDArray[Any]]

    @cached_property
    def layers(self) -> dict[str, LayerInfo]:
        """Sizes, formula, cost and receptive field of each layer, in running order."""
        return {layer.name: layer for layer in program.layers(self.graph)}

    @cached_property
    def nodes(self) -> dict[str, Node]:
        return {node.name: node for node in self.graph.nodes}

    @cached_property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """The shape of the image and of each layer's result, without the batch."""
        return {self.graph.input: self.graph.input_shape} | {n: one.output_shape for n, one in self.layers.items()}

    @cached_property
    def steps(self) -> Steps:
        """The same net in PyTorch's operators, for derivatives."""
        return Steps(self.graph, self.tensors).eval()

    def node(self, layer: str) -> Node:
        """Raises InputError with the names that there are."""
        if layer not in self.nodes:
            raise InputError(f"The net has no layer called {layer!r}. Its layers: {', '.join(self.nodes)}.")
        return self.nodes[layer]

    def unit(self, layer: str, oc: int, oh: int, ow: int) -> tuple[int, int, int]:
        """Raises InputError where the layer has no such unit. A vector of c numbers is c x 1 x 1."""
        self.node(layer)
        c, h, w = image_like(self.sizes[layer])
        if not (0 <= oc < c and 0 <= oh < h and 0 <= ow < w):
            raise InputError(
                f"{layer} makes {c} channels of {h} rows and {w} columns, counted from 0; "
                f"channel {oc}, row {oh}, column {ow} is not among them."
            )
        return oc, oh, ow

    def maps(self, x: Array) -> dict[str, Array]:
        """The image and what the engine makes of it in each layer, without the batch."""
        found = {self.graph.input: x}

        def observe(name: str, y: NDArray[Any]) -> None:
            found[name] = np.array(y[0], np.float32, order="C")

        program.run(self.graph, self.tensors, x[np.newaxis], observe=observe)
        return found


Model = torch.nn.Module | Predictor | Opened


def opened(model: Model, image: Any = None) -> Opened:
    """The net as a graph. A module is captured for images of the size of `image`, an array (c, h, w).

    Raises InputError where the module does what a graph cannot express.

    >>> list(opened(torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU()), np.zeros((1, 8, 8))).layers)
    ['0', '1']
    """
    if isinstance(model, Opened):
        return model
    if isinstance(model, Predictor):
        return Opened(model.graph, model.tensors)
    if image is None:
        raise InputError("A module is opened for images of one size; give an image (c, h, w).")
    c, h, w = prepared(model, image).shape
    # As a predictor's: the answer is the scores, of which `probabilities` takes the softmax.
    graph = capture(model, (c, h, w)).scores()
    state = {name: tensor.detach().to("cpu").numpy() for name, tensor in model.state_dict().items()}
    return Opened(graph, {name: np.ascontiguousarray(state[name], np.float32) for name in graph.tensor_names()})


def prepared(model: Model, image: Any) -> Array:
    """The image as the net reads it, float32 (c, h, w).

    A predictor takes a path, a Pillow image or an array of pixels; a module or an opened net an array or tensor
    (c, h, w) or (1, c, h, w). Raises InputError on anything else.
    """
    if isinstance(model, Predictor):
        return model.prepare(image)
    x = torch.as_tensor(image)
    if x.ndim == 4 and x.shape[0] == 1:
        x = x[0]
    if x.ndim != 3:
        raise InputError(f"One image is wanted, (c, h, w) or (1, c, h, w); this array has the shape {tuple(x.shape)}.")
    return np.ascontiguousarray(x.detach().to("cpu", torch.float32).numpy())


def image_like(size: tuple[int, ...]) -> tuple[int, int, int]:
    """(c, h, w); a vector of c numbers as c x 1 x 1."""
    return (size[0], size[1], size[2]) if len(size) == 3 else (size[0], 1, 1)
