"""Which nodes a convolution can take along: a sum, an activation, a pool; and whether that pays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from hapgop.algorithms import Problem
from hapgop.algorithms.maps import MapProblem
from hapgop.engine import Refused
from hapgop.errors import InputError
from hapgop.program.graph import Graph, Node
from hapgop.program.sizes import Size, pair, pool_shape
from hapgop.program.steps import cost
from hapgop.shape import ConvShape

ACTIVATIONS = ("relu", "relu6", "hardswish")


class Readers:
    """Who reads what in a graph."""

    def __init__(self, graph: Graph) -> None:
        self._count = Counter(name for node in graph.nodes for name in node.inputs)
        self._count[graph.output] += 1
        self._last = {name: node for node in graph.nodes for name in node.inputs}
        self.of: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in node.inputs:
                self.of.setdefault(name, []).append(node)

    def only(self, name: str) -> Node | None:
        """The one node that reads a value, which is not the net's result; None where there is no such node."""
        return self._last.get(name) if self._count[name] == 1 else None


def chain(node: Node, readers: Readers, sizes: Mapping[str, Size], taken: frozenset[str]) -> list[Node]:
    """A convolution and the nodes behind it that could become one step with it, in their order."""
    links, kinds = [node], set()
    if node.attrs["activation"] is not None:
        kinds.add("activation")
    while (link := readers.only(links[-1].name)) is not None and link.name not in taken:
        if link.op == "add" and not kinds and sizes[link.inputs[0]] == sizes[link.inputs[1]]:
            kinds.add("add")
        elif link.op in ACTIVATIONS and "activation" not in kinds:
            kinds.add("activation")
        elif quarters(link, sizes) and node.op != "linear":
            links.append(link)
            break
        else:
            break
        links.append(link)
    return links


def quarters(node: Node, sizes: Mapping[str, Size]) -> bool:
    """Whether it is a max pool of 2 x 2 without overlap, gap or padding, that drops what fills no window."""
    if node.op != "max_pool2d":
        return False
    a, (_, h, w) = node.attrs, sizes[node.inputs[0]]
    plain = pair(a["kernel_size"]) == (2, 2) and pair(a["stride"] or 2) == (2, 2) and pair(a["dilation"]) == (1, 1)
    return plain and a["padding"] in (0, (0, 0), "valid") and not (a["ceil_mode"] and (h % 2 or w % 2))


def fused(problem: Problem, links: list[Node]) -> Problem:
    """The convolution with the nodes behind it. Raises InputError where a `Problem` has no word for one."""
    for link in links[1:]:
        if link.op == "add":
            problem = replace(problem, residual=True)
        elif link.op in ACTIVATIONS:
            problem = replace(problem, activation=link.op)
        else:
            problem = replace(problem, pooled=True, winners=False)
    return problem


def best(problem: Problem, links: list[Node], sizes: Mapping[str, Size], n: int, team: int) -> tuple[Problem, int]:
    """(the problem, how many of the links are in it): the fusion for which all of them together are fastest.

    By predictions alone: where one way was measured and the other was not, the two cannot be compared.
    """
    found: tuple[float, Problem, int] | None = None
    for count in range(len(links), 0, -1):
        try:
            candidate = fused(problem, links[:count])
            total = cost(candidate, known=False).shared(team)
        except (InputError, TypeError):  # nobody can do that in one step
            continue
        total += sum(cost(p, known=False).shared(team) for p in _rest(links[count:], sizes, n))
        if found is None or total < found[0]:
            found = total, candidate, count
    if found is None:
        raise Refused("no algorithm takes this convolution")
    return found[1], found[2]


def _rest(links: list[Node], sizes: Mapping[str, Size], n: int) -> list[Problem | MapProblem]:
    """What is left to do without a fusion: a sum takes its activation along."""
    out: list[Problem | MapProblem] = []
    for link in links:
        if link.op == "max_pool2d":
            shape = pool_shape(link, sizes[link.inputs[0]], n)
            assert shape is not None
            out.append(Problem("max_pool", shape, winners=False))
        elif link.op == "add":
            out.append(image_map("add", sizes[link.name], n))
        elif not out:
            out.append(image_map("apply", sizes[link.name], n, link.op))
    return out


def image_map(op: str, size: Size, n: int, function: str | None = None) -> MapProblem:
    """A map of every number of a value."""
    channels = size[0]
    pixels = size[1] * size[2] if len(size) == 3 else 1
    return MapProblem(op, n, pixels, channels, function)  # type: ignore[arg-type]


def function_of(node: Node) -> str:
    """The map's word for a node's function."""
    return "gelu_tanh" if node.attrs.get("approximate") == "tanh" else node.op


def linear_shape(n: int, features: int, outputs: int) -> ConvShape:
    """A linear layer as the convolution that it is."""
    return ConvShape(n, features, 1, 1, outputs, 1, 1)
