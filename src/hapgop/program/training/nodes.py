"""How each node of a graph is computed in a training step, and what is sent back through it.

A convolution takes along the ReLU and the pool behind it, a batch norm a sum and a ReLU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Final

from hapgop.algorithms import Problem
from hapgop.algorithms.maps import MapProblem
from hapgop.engine import Refused
from hapgop.program.fusing import Readers, image_map, quarters
from hapgop.program.graph import Graph, Node
from hapgop.program.sizes import (
    Size,
    conv_shape,
    mean_axes,
    padded_otherwise,
    pool_shape,
    result_sizes,
    transposed_shape,
)
from hapgop.program.training.norms import Norm
from hapgop.program.training.sums import Sum, masked, takes
from hapgop.program.training.tape import Place, Tape
from hapgop.shape import ConvShape, PoolShape

# Weights of a linear layer. A VGG-11's are 120 million; with them in its call, a step takes a tenth longer.
_LARGEST: Final = 4 << 20


@dataclass(frozen=True)
class Setting:
    """What a graph does not say of a training step.

    n: images; they lie channels last, as all maps do. weights: of each convolution's weight its layout, "oihw" or
    "ohwi". learned: the tensors whose derivative is wanted. by_images: whether that by the images is. momenta: of each
    running mean the share by which a step moves it, and the running variance of the same batch norm.
    """

    n: int
    weights: Mapping[str, str]
    learned: frozenset[str]
    by_images: bool
    momenta: Mapping[str, float]


def record(graph: Graph, setting: Setting) -> tuple[Tape, Place]:
    """A training step of a net, and the place of its result. Raises Refused where a node has no way back here."""
    shared = [
        name for name, times in Counter(n for node in graph.nodes for n in node.params.values()).items() if times > 1
    ]
    if shared:
        raise Refused(f"{shared[0]}: a tensor that several layers share")
    recorder = _Recorder(graph, setting)
    for node in graph.nodes:
        recorder.node(node)
    result = recorder.place[graph.output]
    if result == recorder.place[graph.input]:
        raise Refused("a net that computes nothing")
    recorder.tape.rewind(result)
    return recorder.tape, result


class _Recorder:
    def __init__(self, graph: Graph, setting: Setting) -> None:
        self.graph, self.setting, self.n = graph, setting, setting.n
        self.sizes = result_sizes(graph)
        self.readers = Readers(graph)
        self.tape = Tape(setting.learned)
        images = self.tape.new("value", graph.input, self.n * prod(graph.input_shape))
        if setting.by_images:
            self.tape.want(images)
        self.place: dict[str, Place] = {graph.input: images}
        self.taken: set[str] = set()  # nodes that are done with one before them

    def node(self, node: Node) -> None:
        if node.name in self.taken:
            return
        self.tape.node = node.name
        if node.op not in _RECORD:
            raise Refused(f"{node.name}: {node.op} has no way back in one call")
        _RECORD[node.op](self, node)

    def result(self, name: str, size: Size | None = None) -> Place:
        """A place for a node's result."""
        place = self.tape.new("value", name, self.n * prod(size or self.sizes[name]))
        self.place[name] = place
        return place

    def behind(self, links: list[Node], *ops: str) -> Node | None:
        """The node of such a kind that alone reads the last one's result; it becomes a part of them."""
        after = self.readers.only(links[-1].name)
        if after is None or after.op not in ops:
            return None
        links.append(after)
        self.taken.add(after.name)
        return after

    # Sums

    def conv(self, node: Node) -> None:
        if padded_otherwise(node):
            raise Refused(f"{node.name}: padding other than by zeros")
        x, links = self.place[node.inputs[0]], [node]
        shape = conv_shape(node, self.sizes[node.inputs[0]], self.n)
        weights = self.setting.weights[node.params["weight"]]
        layer = Sum(self.tape, shape, weights, x, node.params, self.activated(node, links))
        pool = self.readers.only(links[-1].name)
        if pool is not None and quarters(pool, self.sizes) and takes(replace(layer.problem, pooled=True)):
            self.behind(links, pool.op)
            layer.forward_pooled(self.result(links[-1].name))
        else:
            layer.forward(self.result(links[-1].name))

    def conv_transpose(self, node: Node) -> None:
        links = [node]
        shape = transposed_shape(node, self.sizes[node.inputs[0]], self.n)
        weights, relu = self.setting.weights[node.params["weight"]], self.activated(node, links)
        layer = Sum(self.tape, shape, weights, self.place[node.inputs[0]], node.params, relu, transposed=True)
        layer.forward(self.result(links[-1].name))

    def linear(self, node: Node) -> None:
        """A row of pixels, one for each image, under a 1x1 filter."""
        links, features = [node], self.sizes[node.inputs[0]][0]
        if features * node.attrs["out_features"] > _LARGEST:
            raise Refused(f"{node.name}: a linear layer of so many weights is faster as PyTorch's matrix product")
        shape = ConvShape(1, features, 1, self.n, node.attrs["out_features"], 1, 1)
        relu = self.activated(node, links)
        Sum(self.tape, shape, "oihw", self.place[node.inputs[0]], node.params, relu).forward(
            self.result(links[-1].name)
        )

    def activated(self, node: Node, links: list[Node]) -> bool:
        """Whether there is a ReLU, in the node or behind it; no other function has a way back."""
        own = node.attrs["activation"]
        if own not in (None, "relu"):
            raise Refused(f"{node.name}: {own} has no way back in one call")
        return own is not None or self.behind(links, "relu") is not None

    # Maps

    def batch_norm(self, node: Node) -> None:
        if not {"weight", "bias"} <= node.params.keys():
            raise Refused(f"{node.name}: a batch norm without weight or bias")
        size = self.sizes[node.name]
        if len(size) != 3 or self.n * size[1] * size[2] < 2:
            raise Refused(f"{node.name}: a batch norm of single numbers")
        links, beside = [node], None
        after = self.readers.only(node.name)
        if after is not None and after.op == "add":
            other = next((name for name in after.inputs if name != node.name), node.name)
            # Of two batch norms that are added the second one does it.
            if other in self.place and self.sizes[other] == size:
                self.behind(links, "add")
                beside = self.place[other]
        relu = self.behind(links, "relu") is not None
        c, h, w = size
        shape = PoolShape(self.n, c, h, w, 1, 1)
        momentum = self.setting.momenta[node.params["running_mean"]]
        norm = Norm(self.tape, shape, node, self.place[node.inputs[0]], beside, relu, momentum)
        norm.forward(self.result(links[-1].name))

    def relu(self, node: Node) -> None:
        tape, x, y, size = self.tape, self.place[node.inputs[0]], self.result(node.name), self.sizes[node.name]
        c, h, w = size if len(size) == 3 else (*size, 1, 1)
        tape.call(image_map("apply", size, self.n, "relu"), x, y)
        tape.back(y, lambda g: tape.send(x, masked(tape, g, y, (self.n, c, h, w))), of=tape.wants(x))

    def dropout(self, node: Node) -> None:
        """Times what is drawn anew for every step: 0, or one over the share that is kept."""
        if not node.attrs["p"]:
            self.identity(node)
            return
        if node.attrs["p"] == 1:
            raise Refused(f"{node.name}: dropout of everything")
        tape, x, y = self.tape, self.place[node.inputs[0]], self.result(node.name)
        kept = tape.new("drawn", node.name, tape.elements[y])
        problem = image_map("mul", self.sizes[node.name], self.n)
        tape.call(problem, x, kept, y)

        def back(g: Place) -> None:
            dx = tape.gradient_for(x)
            tape.call(problem, g, kept, dx)
            tape.send(x, dx)

        tape.back(y, back, of=tape.wants(x))

    def add(self, node: Node) -> None:
        a, b = (self.place[name] for name in node.inputs)
        if self.sizes[node.inputs[0]] != self.sizes[node.inputs[1]]:
            raise Refused(f"{node.name}: a sum of maps of different sizes")
        y = self.result(node.name)
        self.tape.call(image_map("add", self.sizes[node.name], self.n), a, b, y)

        def back(g: Place) -> None:
            for value in (a, b):
                self.tape.send(value, g, own=False)

        self.tape.back(y, back, of=self.tape.wants(a) or self.tape.wants(b))

    def number(self, node: Node) -> None:
        """Times a number."""
        if node.attrs.get("term"):
            raise Refused(f"{node.name}: a number that is added")
        x, y = self.place[node.inputs[0]], self.result(node.name)
        problem = MapProblem("blend", 1, 1, self.tape.elements[y], alpha=float(node.attrs["factor"]))
        self.tape.call(problem, x, x, y)

        def back(g: Place) -> None:
            dx = self.tape.gradient_for(x)
            self.tape.call(problem, g, g, dx)
            self.tape.send(x, dx)

        self.tape.back(y, back, of=self.tape.wants(x))

    # Pools

    def max_pool(self, node: Node) -> None:
        x, shape = self.place[node.inputs[0]], self.pool_shape(node)
        y = self.result(node.name)
        winners = self.tape.new("winners", node.name, self.tape.elements[y])
        self.tape.call(Problem("max_pool", shape), x, y, winners)

        def back(g: Place) -> None:
            dx = self.tape.gradient_for(x)
            self.tape.call(Problem("max_pool_grad", shape), g, winners, dx)
            self.tape.send(x, dx)

        self.tape.back(y, back, of=self.tape.wants(x))

    def avg_pool(self, node: Node) -> None:
        x, y = self.place[node.inputs[0]], self.result(node.name)
        count = bool(node.attrs.get("count_include_pad", True))
        shape = self.pool_shape(node)
        self.tape.call(Problem("avg_pool", shape, count_include_pad=count), x, y)

        def back(g: Place) -> None:
            dx = self.tape.gradient_for(x)
            self.tape.call(Problem("avg_pool_grad", shape, count_include_pad=count), g, dx)
            self.tape.send(x, dx)

        self.tape.back(y, back, of=self.tape.wants(x))

    def pool_shape(self, node: Node) -> PoolShape:
        size = self.sizes[node.inputs[0]]
        if node.op == "mean":
            if mean_axes(node) != {2, 3}:
                raise Refused(f"{node.name}: a mean over rows or columns alone")
            c, h, w = size
            return PoolShape(self.n, c, h, w, h, w)
        shape = pool_shape(node, size, self.n)
        if shape is None:
            raise Refused(f"{node.name}: windows of different sizes")
        return shape

    # Places

    def flatten(self, node: Node) -> None:
        """Features in the order channels, rows, columns, as the weights behind have them."""
        name = node.inputs[0]
        x, size = self.place[name], self.sizes[name]
        if len(size) < 3 or size[0] == 1 or size[1] * size[2] == 1:
            self.place[node.name] = x
            return
        c, pixels, y = size[0], size[1] * size[2], self.result(node.name)
        self.tape.call(MapProblem("first", self.n, pixels, c), x, y)

        def back(g: Place) -> None:
            dx = self.tape.gradient_for(x)
            self.tape.call(MapProblem("first", self.n, c, pixels), g, dx)
            self.tape.send(x, dx)

        self.tape.back(y, back, of=self.tape.wants(x))

    def identity(self, node: Node) -> None:
        self.place[node.name] = self.place[node.inputs[0]]


_RECORD: Final[Mapping[str, Callable[[_Recorder, Node], None]]] = {
    "conv2d": _Recorder.conv,
    "conv_transpose2d": _Recorder.conv_transpose,
    "linear": _Recorder.linear,
    "batch_norm2d": _Recorder.batch_norm,
    "relu": _Recorder.relu,
    "add": _Recorder.add,
    "number": _Recorder.number,
    "max_pool2d": _Recorder.max_pool,
    "avg_pool2d": _Recorder.avg_pool,
    "adaptive_avg_pool2d": _Recorder.avg_pool,
    "mean": _Recorder.avg_pool,
    "flatten": _Recorder.flatten,
    "dropout": _Recorder.dropout,
    "identity": _Recorder.identity,
}
