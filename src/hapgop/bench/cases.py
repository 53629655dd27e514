"""What is measured: layers of the nets that ship, and those of `layers.txt`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib import resources

from hapgop.errors import InputError
from hapgop.nn import capture, nets
from hapgop.program import Graph, LayerInfo, Node, layers
from hapgop.shape import ConvShape, PoolShape

# The nets whose layers are always measured, with the batch size that training uses for them.
_NETS = (("digits", (1, 8, 8), 10, 64), ("lenet5", (1, 28, 28), 10, 128))

_CONV = ("forward", "grad_x", "grad_w")
_OTHER = ("forward", "backward")


@dataclass(frozen=True, slots=True)
class Case:
    """One layer at one batch size; a linear layer is the 1x1 convolution that it is."""

    name: str
    kind: str
    shape: ConvShape | PoolShape
    activation: str | None = None
    pool: tuple[int, int] | None = None

    @property
    def ops(self) -> tuple[str, ...]:
        return _CONV if self.kind == "conv" and self.pool is None else _OTHER


def cases(only: Sequence[str] | None = None) -> list[Case]:
    """All cases, or those whose name starts with one of `only`. Raises InputError for a name that none starts with."""
    every = [case for net, size, classes, batch in _NETS for case in of_net(net, size, classes, batch)]
    every += from_text(resources.files("hapgop.bench").joinpath("layers.txt").read_text())
    if not only:
        return every
    for wanted in only:
        if not any(case.name.startswith(wanted) for case in every):
            near = get_close_matches(wanted, [case.name for case in every], n=3, cutoff=0.3)
            raise InputError(f"no case starts with {wanted!r}; near it are {', '.join(near) or every[0].name}")
    return [case for case in every if case.name.startswith(tuple(only))]


def of_net(name: str, input_shape: tuple[int, int, int], classes: int, batch: int) -> list[Case]:
    """Every layer of a net that is computed by us, in running order."""
    net = nets.build(name, classes=classes, input_shape=input_shape)
    graph = capture(net, input_shape)
    ours = {path: layer for path, layer in net.named_modules() if type(layer).__module__.startswith("hapgop.")}
    infos = [info for info in layers(graph) if info.name in ours]
    found = []
    for info in infos:
        case = _of_layer(f"{name}.{info.name}", _node(graph, info), info, batch)
        if case is not None:
            found.append(replace(case, pool=getattr(ours[info.name], "pool", None)))
    return found


def _node(graph: Graph, info: LayerInfo) -> Node:
    return next(node for node in graph.nodes if node.name == info.name)


def _of_layer(name: str, node: Node, info: LayerInfo, batch: int) -> Case | None:
    a = node.attrs
    if info.op == "linear":
        shape = ConvShape(1, info.input_shape[-1], 1, batch, info.output_shape[-1], 1, 1)
        return Case(name, "linear", shape, a.get("activation"))
    if info.op not in ("conv2d", "max_pool2d", "avg_pool2d"):
        return None
    c, h, w = info.input_shape
    kh, kw = _pair(a["kernel_size"])
    stride = _pair(a.get("stride") or (kh, kw))
    if info.op == "conv2d":
        setting = (stride, a.get("padding", 0), _pair(a.get("dilation", 1)), a.get("groups", 1))
        return Case(
            name, "conv", ConvShape(batch, c, h, w, info.output_shape[0], kh, kw, *setting), a.get("activation")
        )
    return Case(name, info.op[:8], PoolShape(batch, c, h, w, kh, kw, stride, a.get("padding", 0)))


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def from_text(text: str) -> list[Case]:
    """Cases as `layers.txt` writes them, a line each: NAME ic=64 size=56 oc=64 kernel=3 [stride= padding= groups= n=].

    >>> from_text("toy ic=3 size=32 oc=6 kernel=5 n=2")[0].shape.y_shape
    (2, 6, 28, 28)
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = shlex.split(line, comments=True)
        if not words:
            continue
        try:
            given = {key: int(value) for key, _, value in (word.partition("=") for word in words[1:])}
            shape = ConvShape(
                given.pop("n", 1),
                given.pop("ic"),
                given["size"],
                given.pop("size"),
                given.pop("oc"),
                given["kernel"],
                given.pop("kernel"),
                given.pop("stride", 1),
                given.pop("padding", 0),
                given.pop("dilation", 1),
                given.pop("groups", 1),
            )
        except (KeyError, ValueError) as error:
            raise InputError(f"line {number} of the cases, {line.strip()!r}: {error}") from None
        if given:
            raise InputError(f"line {number} of the cases has {', '.join(given)}, which means nothing here")
        found.append(Case(words[0], "conv", shape, "relu"))
    return found
