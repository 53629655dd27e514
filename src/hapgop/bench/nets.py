"""Cases from the nets that ship: every layer that is computed by us."""

from __future__ import annotations

from collections.abc import Sequence

from hapgop.bench.case import Case, family_of
from hapgop.nn import capture, nets
from hapgop.program import Graph, LayerInfo, Node, layers
from hapgop.shape import ConvShape, PoolShape


def of_net(name: str, input_shape: tuple[int, int, int], classes: int, batch: int) -> list[Case]:
    """Every layer of a net that is computed by us, in running order."""
    net = nets.build(name, classes=classes, input_shape=input_shape)
    graph = capture(net, input_shape)
    ours = {path: layer for path, layer in net.named_modules() if type(layer).__module__.startswith("hapgop.")}
    found = []
    for info in layers(graph):
        if info.name in ours:
            pool = getattr(ours[info.name], "pool", None)
            case = _of_layer(f"{name}.{info.name}", _node(graph, info), info, batch, pool)
            found += [] if case is None else [case]
    return found


def _node(graph: Graph, info: LayerInfo) -> Node:
    return next(node for node in graph.nodes if node.name == info.name)


def _of_layer(name: str, node: Node, info: LayerInfo, batch: int, pool: tuple[int, int] | None) -> Case | None:
    a = node.attrs
    shape: ConvShape | PoolShape
    if info.op == "linear":
        shape = ConvShape(1, info.input_shape[-1], 1, batch, info.output_shape[-1], 1, 1)
        return Case(name, "linear", shape, "linear", (batch,), a.get("activation"))
    if info.op not in ("conv2d", "max_pool2d", "avg_pool2d"):
        return None
    c, h, w = info.input_shape
    kh, kw = _pair(a["kernel_size"])
    stride = _pair(a.get("stride") or (kh, kw))
    if info.op == "conv2d":
        setting = (stride, a.get("padding", 0), _pair(a.get("dilation", 1)), a.get("groups", 1))
        shape = ConvShape(batch, c, h, w, info.output_shape[0], kh, kw, *setting)
        return Case(name, "conv", shape, family_of("conv", shape, pool), (batch,), a.get("activation"), pool)
    kind = info.op[:8]
    shape = PoolShape(batch, c, h, w, kh, kw, stride, a.get("padding", 0))
    return Case(name, kind, shape, family_of(kind, shape), (batch,))


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
