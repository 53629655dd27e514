"""A net as data: nodes in the order in which they run, written to JSON and read back."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from hapgop.errors import InputError
from hapgop.program.ops import OPS, checked_attrs
from hapgop.program.sizes import result_sizes


@dataclass(frozen=True)
class Node:
    """One operation: its name, what it reads, its attributes and its parameters.

    `name` is the module's qualified name ("features.0") or a generated one ("add_1"). `params` maps a role
    ("weight", "bias", "running_mean", "running_var") to a key of the state dict. The operations and their
    attributes are the table `hapgop.program.ops.OPS`; defaults are filled in. Raises InputError on what that
    table does not know.

    >>> sizes = {"out_channels": 6, "kernel_size": 5}
    >>> Node("c1", "conv2d", ("input",), sizes, {"weight": "c1.weight"}).attrs["stride"]
    1
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"Node {self.name!r}"
        if self.op not in OPS:
            raise InputError(f"{where}: there is no operation {self.op!r}; there are {', '.join(OPS)}.")
        op = OPS[self.op]
        attrs = {name: _frozen(value) for name, value in self.attrs.items()}
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "attrs", checked_attrs(where, self.op, attrs))
        object.__setattr__(self, "params", dict(self.params))
        least, most = op.inputs
        if not least <= len(self.inputs) <= most:
            wanted = str(least) if least == most else f"{least} or more"
            raise InputError(f"{where}: {self.op} reads {wanted} inputs, not {len(self.inputs)}.")
        for role in sorted(op.required - self.params.keys()):
            raise InputError(f"{where}: {self.op} needs a tensor for its {role}.")
        for role in sorted(self.params.keys() - op.required - op.optional):
            raise InputError(f"{where}: {self.op} has no parameter {role!r}.")

    @property
    def weighted(self) -> bool:
        """Whether it sums what it reads times weights: a convolution, transposed or not, or a linear layer."""
        return self.op in ("conv2d", "conv_transpose2d", "linear", "pointwise")


@dataclass(frozen=True)
class Graph:
    """A net: what goes in, the nodes in running order, and the name of the node whose result comes out.

    input_shape: (c, h, w) of one image. Raises InputError on names that are doubled or used too early.

    >>> net = Graph((1, 8, 8), (Node("flat", "flatten", ("input",)),), "flat")
    >>> Graph.from_json(net.to_json()) == net
    True
    """

    input_shape: tuple[int, int, int]
    nodes: tuple[Node, ...]
    output: str
    input: str = "input"

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", tuple(self.input_shape))
        object.__setattr__(self, "nodes", tuple(self.nodes))
        sizes = self.input_shape
        if len(sizes) != 3 or not all(isinstance(s, int) and not isinstance(s, bool) and s > 0 for s in sizes):
            raise InputError(f"A graph's input_shape is (channels, height, width), all positive, not {sizes!r}.")
        known = {self.input}
        for node in self.nodes:
            if node.name in known:
                raise InputError(f"Two nodes of the graph are called {node.name!r}.")
            for name in node.inputs:
                if name not in known:
                    raise InputError(f"Node {node.name!r} reads {name!r}, which no earlier node makes.")
            known.add(node.name)
        if self.output not in known:
            raise InputError(f"The graph's output is {self.output!r}, but no node has that name.")

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`; `from_json` reads them back to an equal graph."""
        return {
            "input": self.input,
            "input_shape": list(self.input_shape),
            "nodes": [
                {
                    "name": node.name,
                    "op": node.op,
                    "inputs": list(node.inputs),
                    "attrs": {name: _thawed(value) for name, value in node.attrs.items()},
                    "params": dict(node.params),
                }
                for node in self.nodes
            ],
            "output": self.output,
        }

    @classmethod
    def from_json(cls, value: Any) -> "Graph":
        """The graph that `to_json` wrote. Raises InputError saying which part is not what a graph holds."""
        shape = _part(value, "input_shape", list, "the graph")
        nodes = [_node(number, item) for number, item in enumerate(_part(value, "nodes", list, "the graph"))]
        output = _part(value, "output", str, "the graph")
        return cls(tuple(shape), tuple(nodes), output, _part(value, "input", str, "the graph"))

    def tensor_names(self) -> tuple[str, ...]:
        """The keys of the state dict that running this graph reads, each once, in order."""
        return tuple(dict.fromkeys(name for node in self.nodes for name in node.params.values()))

    def with_input(self, shape: tuple[int, int, int]) -> "Graph":
        """The same net on images of another shape (c, h, w)."""
        return replace(self, input_shape=shape)

    def needed(self) -> "Graph":
        """The same net without the nodes that its result does not depend on."""
        wanted, nodes = {self.output}, []
        for node in reversed(self.nodes):
            if node.name in wanted:
                wanted.update(node.inputs)
                nodes.append(node)
        return replace(self, nodes=tuple(reversed(nodes)))

    def scores(self) -> "Graph":
        """The same net without a softmax at its end: what it scores, before that becomes probabilities.

        Behind the softmax there may be what changes no number: identity, dropout, flatten. A softmax for each of
        several pixels stays, as those are no probabilities of labels. Raises InputError where sizes do not fit.
        """
        nodes, name = {node.name: node for node in self.nodes}, self.output
        while name in nodes and nodes[name].op in ("identity", "dropout", "flatten"):
            name = nodes[name].inputs[0]
        last = nodes.get(name)
        if last is None or last.op not in ("softmax", "log_softmax") or prod(result_sizes(self)[name][1:]) > 1:
            return self
        now = {name: last.inputs[0]}
        # Of the nodes that the result needs, only the one behind the softmax can read it.
        kept = [node for node in self.needed().nodes if node is not last]
        kept = [replace(node, inputs=tuple(now.get(one, one) for one in node.inputs)) for node in kept]
        return replace(self, nodes=tuple(kept), output=now.get(self.output, self.output))


def _node(number: int, value: Any) -> Node:
    where = f"node {number} of the graph"
    name = _part(value, "name", str, where)
    inputs = _part(value, "inputs", list, where)
    attrs = _part(value, "attrs", dict, where)
    params = _part(value, "params", dict, where)
    if not all(isinstance(item, str) for item in [*inputs, *params.values()]):
        raise InputError(f"Inputs and params of {where} ({name!r}) must be names.")
    return Node(name, _part(value, "op", str, where), tuple(inputs), attrs, params)


def _part(value: Any, key: str, kind: type, where: str) -> Any:
    if not isinstance(value, dict):
        raise InputError(f"{where.capitalize()} must be a JSON object, not {type(value).__name__}.")
    if not isinstance(value.get(key), kind):
        wanted = {"list": "a list", "str": "a text", "dict": "an object"}[kind.__name__]
        raise InputError(f"{where.capitalize()} needs {wanted} under {key!r}.")
    return value[key]


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


def _thawed(value: Any) -> Any:
    return [_thawed(item) for item in value] if isinstance(value, tuple) else value
