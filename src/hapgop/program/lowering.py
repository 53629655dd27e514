"""A graph as steps: every node becomes a kernel's call, a part of one, another name for a value, or Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Final

from hapgop.algorithms import Problem
from hapgop.algorithms.maps import FUNCTIONS, MapProblem
from hapgop.engine import Refused
from hapgop.program.fusing import Readers, best, chain, function_of, image_map, linear_shape
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
from hapgop.program.steps import Step, cost
from hapgop.shape import ConvShape, PoolShape


def lower(graph: Graph, n: int, layout: str, team: int, fuse: bool = True) -> tuple[list[Step], dict[str, str]]:
    """The steps of a net for batches of n images, and for each value the one in whose memory it lies.

    layout: how the images lie, "nhwc" or "nchw"; all values between are channels last. team: the threads that
    fusions are judged for. fuse: whether nodes may become one step.
    """
    graph = graph.needed()
    lowering = _Lowering(graph, n, team, fuse)
    lowering.images(layout)
    for node in graph.nodes:
        lowering.node(node)
    return lowering.steps, lowering.alias


class _Lowering:
    def __init__(self, graph: Graph, n: int, team: int, fuse: bool) -> None:
        self.graph, self.n, self.team, self.fuse = graph, n, team, fuse
        self.sizes = result_sizes(graph)
        self.readers = Readers(graph)
        self.steps: list[Step] = []
        self.alias: dict[str, str] = {graph.input: graph.input}
        self.flattened: dict[str, Size] = {}  # vectors that lie channels last: the size of the image
        self.taken: dict[str, Step | None] = {}  # nodes that are a part of another step; where they end it, the step
        self.input_layout = "nhwc"

    def images(self, layout: str) -> None:
        """What has to be done before the first node."""
        name, size = self.graph.input, self.graph.input_shape
        if layout == "nhwc" or size[0] == 1 or size[1] * size[2] == 1:
            return
        reader = self.readers.only(name)
        if reader is not None and _reads_either(reader):
            self.input_layout = "nchw"
            return
        node = Node(f"{name}:channels_last", "identity", (name,))
        # Channels first is the way back: with pixels for channels.
        problem = MapProblem("first", self.n, size[0], size[1] * size[2])
        self.steps.append(Step(node.name, (node,), problem, (name,), node.name))
        self.alias[name] = self.alias[node.name] = node.name
        self.sizes[node.name] = size

    def node(self, node: Node) -> None:
        if node.name in self.taken:
            step = self.taken[node.name]
            if step is not None:
                self.add(step)
            return
        self.alias[node.name] = node.name
        _LOWER.get(node.op, _Lowering.python)(self, node)

    def add(self, step: Step) -> None:
        self.alias[step.writes] = step.writes
        reads = tuple(self.alias[name] for name in step.reads)
        self.steps.append(replace(step, reads=reads))

    def step(self, node: Node, problem: Problem | MapProblem) -> None:
        self.add(Step(node.name, (node,), problem, node.inputs, node.name))

    def python(self, node: Node) -> None:
        self.add(Step(node.name, (node,), None, node.inputs, node.name))

    # Sums

    def conv(self, node: Node) -> None:
        if padded_otherwise(node):
            self.python(node)
            return
        shape = conv_shape(node, self.sizes[node.inputs[0]], self.n)
        layout = self.input_layout if node.inputs[0] == self.graph.input else "nhwc"
        self.sums(node, Problem("conv", shape, x_layout=layout, bias="bias" in node.params, packed=True))

    def transposed(self, node: Node) -> None:
        shape = transposed_shape(node, self.sizes[node.inputs[0]], self.n)
        self.sums(node, Problem("grad_x", shape, bias="bias" in node.params, packed=True))

    def linear(self, node: Node) -> None:
        features = self.sizes[node.inputs[0]][0]
        shape = linear_shape(self.n, features, node.attrs["out_features"])
        self.sums(node, Problem("conv", shape, bias="bias" in node.params, packed=True))

    def pointwise(self, node: Node) -> None:
        c, h, w = self.sizes[node.inputs[0]]
        shape = ConvShape(self.n, c, h, w, node.attrs["out_features"], 1, 1)
        layout = self.input_layout if node.inputs[0] == self.graph.input else "nhwc"
        self.sums(node, Problem("conv", shape, x_layout=layout, bias="bias" in node.params, packed=True))

    def sums(self, node: Node, problem: Problem) -> None:
        """A convolution with what it can take along."""
        problem = replace(problem, activation=node.attrs["activation"])
        links = chain(node, self.readers, self.sizes, frozenset(self.taken)) if self.fuse else [node]
        try:
            problem, count = best(problem, links, self.sizes, self.n, self.team)
        except Refused:
            self.python(node)
            return
        links = links[:count]
        reads = list(node.inputs)
        for before, link in pairwise(links):
            if link.op == "add":
                reads += [name for name in link.inputs if name != before.name]
        image = self.flattened.get(node.inputs[0])
        step = Step(links[-1].name, tuple(links), problem, tuple(reads), links[-1].name, image=image)
        for link in links[1:-1]:
            self.taken[link.name] = None
        if count == 1:
            self.add(step)
        else:
            # Where its last node was: what it adds may be computed in between.
            self.taken[links[-1].name] = step

    # Pools

    def pool(self, node: Node) -> None:
        shape = pool_shape(node, self.sizes[node.inputs[0]], self.n)
        if shape is None:
            self.python(node)
        elif node.op.endswith("max_pool2d"):
            self.engine(node, Problem("max_pool", shape, winners=False))
        else:
            count = bool(node.attrs.get("count_include_pad", True))
            self.engine(node, Problem("avg_pool", shape, count_include_pad=count))

    def mean(self, node: Node) -> None:
        c, h, w = self.sizes[node.inputs[0]]
        axes = mean_axes(node)
        if axes != {2, 3}:
            self.python(node)
            return
        self.engine(node, Problem("avg_pool", PoolShape(self.n, c, h, w, h, w)))

    def engine(self, node: Node, problem: Problem) -> None:
        try:
            cost(problem)
        except Refused:
            self.python(node)
            return
        self.step(node, problem)

    # Maps

    def apply(self, node: Node) -> None:
        alpha = float(node.attrs.get("negative_slope", node.attrs.get("alpha", 0.0)))
        problem = image_map("apply", self.sizes[node.name], self.n, function_of(node))
        self.step(node, replace(problem, alpha=alpha))

    def meet(self, node: Node) -> None:
        """add or mul, of numbers that stand each for itself, or with a gate for each channel or each pixel."""
        a, b = node.inputs
        if self.sizes[a] != self.sizes[node.name]:
            a, b = b, a
        large, small = self.sizes[a], self.sizes[b]
        if large != self.sizes[node.name]:
            self.python(node)
            return
        problem = image_map(node.op, large, self.n)
        if small != large and len(small) == 3 and small == (large[0], 1, 1):
            problem = replace(problem, over="image")
        elif small != large and len(small) == 3 and small == (1, *large[1:]):
            problem = replace(problem, over="pixel")
        elif small != large:
            self.python(node)
            return
        self.with_activation(node, problem, (a, b))

    def norm(self, node: Node) -> None:
        self.with_activation(node, image_map("norm", self.sizes[node.name], self.n), node.inputs)

    def layer_norm(self, node: Node) -> None:
        problem = image_map("layer_norm", self.sizes[node.name], self.n)
        self.with_activation(node, replace(problem, eps=float(node.attrs["eps"])), node.inputs)

    def with_activation(self, node: Node, problem: MapProblem, reads: tuple[str, ...]) -> None:
        """A map, and the activation behind it if nobody else reads what comes between."""
        after = self.readers.only(node.name) if self.fuse else None
        if after is None or after.op not in FUNCTIONS or after.name in self.taken:
            self.add(Step(node.name, (node,), problem, reads, node.name))
            return
        alpha = float(after.attrs.get("negative_slope", after.attrs.get("alpha", 0.0)))
        problem = replace(problem, function=function_of(after), alpha=alpha)
        self.taken[after.name] = Step(after.name, (node, after), problem, reads, after.name)

    def softmax(self, node: Node) -> None:
        self.step(node, image_map("softmax", self.sizes[node.name], self.n))

    # Places

    def flatten(self, node: Node) -> None:
        name = node.inputs[0]
        size = self.sizes[name]
        readers = self.readers.of.get(node.name, [])
        if len(size) < 3 or size[0] == 1 or size[1] * size[2] == 1:
            self.alias[node.name] = self.alias[name]
        elif node.name != self.graph.output and all(reader.op == "linear" for reader in readers):
            self.alias[node.name] = self.alias[name]
            self.flattened[node.name] = size
        else:
            self.step(node, MapProblem("first", self.n, size[1] * size[2], size[0]))

    def concat(self, node: Node) -> None:
        """A copy of each input to its channels."""
        total, done = self.sizes[node.name][0], 0
        for name in node.inputs:
            size = self.sizes[name]
            problem = replace(image_map("copy", size, self.n), pitch=total)
            self.add(Step(node.name, (node,), problem, (name,), node.name, offset=done))
            done += size[0]

    def identity(self, node: Node) -> None:
        self.alias[node.name] = self.alias[node.inputs[0]]
        if node.inputs[0] in self.flattened:
            self.flattened[node.name] = self.flattened[node.inputs[0]]


def _reads_either(node: Node) -> bool:
    """Whether a node reads images in either memory order."""
    return node.op == "pointwise" or (node.op == "conv2d" and not padded_otherwise(node))


_LOWER: Final[Mapping[str, Callable[[_Lowering, Node], None]]] = {
    "conv2d": _Lowering.conv,
    "conv_transpose2d": _Lowering.transposed,
    "linear": _Lowering.linear,
    "pointwise": _Lowering.pointwise,
    "max_pool2d": _Lowering.pool,
    "avg_pool2d": _Lowering.pool,
    "adaptive_avg_pool2d": _Lowering.pool,
    "adaptive_max_pool2d": _Lowering.pool,
    "mean": _Lowering.mean,
    **dict.fromkeys(FUNCTIONS, _Lowering.apply),  # of GELU its two forms are one op
    "add": _Lowering.meet,
    "mul": _Lowering.meet,
    "batch_norm2d": _Lowering.norm,
    "scale": _Lowering.norm,
    "number": _Lowering.norm,
    "layer_norm": _Lowering.layer_norm,
    "softmax": _Lowering.softmax,
    "flatten": _Lowering.flatten,
    "concat": _Lowering.concat,
    "dropout": _Lowering.identity,
    "identity": _Lowering.identity,
}
