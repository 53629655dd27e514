"""What each layer of a net is: sizes, the formula behind them, cost, and what one unit of it sees."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from hapgop.program.graph import Graph, Node
from hapgop.program.sizes import (
    Size,
    adaptive_size,
    conv_shape,
    mean_axes,
    parameter_sizes,
    pool_shape,
    result_sizes,
    transposed_formula,
    transposed_shape,
)
from hapgop.shape import ConvShape, ReceptiveField

_BUFFERS = ("running_mean", "running_var")


@dataclass(frozen=True)
class LayerInfo:
    """One layer, for one image. Shapes are (c, h, w), or (k,) for a vector.

    `formula` is the output size with its numbers, one line, or one for rows and one for columns, or empty.
    `macs` counts multiplications with an addition. `unread` are the rows and columns of the input that no
    window reads. `receptive_field` is what one unit sees of the image, exact through skips and dilation.
    `parameters` leaves out those of an earlier layer: a module that is called twice has them once.
    """

    name: str
    op: str
    input_shape: Size
    output_shape: Size
    filter: str
    formula: str
    parameters: int
    macs: int
    receptive_field: ReceptiveField
    unread: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class _Seen:
    """A result: the field of its units, and over how many rows and columns of units it is spread.

    A flattened image is a vector whose units still lie at different places of the image.
    """

    field: ReceptiveField
    spread: tuple[int, int]

    def all_of_it(self) -> "_Seen":
        return _Seen(self.field.then(self.spread), (1, 1))


def layers(graph: Graph) -> tuple[LayerInfo, ...]:
    """Every node of the graph in running order. Raises ShapeError naming the layer that does not fit.

    >>> sizes = {"out_channels": 6, "kernel_size": 5}
    >>> conv = Node("conv", "conv2d", ("input",), sizes, {"weight": "conv.weight"})
    >>> info = layers(Graph((1, 32, 32), (conv,), "conv"))[0]
    >>> info.formula, info.output_shape, info.macs, info.receptive_field.size
    ('(32 - 5 + 0 + 0) / 1 + 1 = 28', (6, 28, 28), 117600, (5, 5))
    """
    sizes = result_sizes(graph)
    seen = {graph.input: _Seen(ReceptiveField.identity(), graph.input_shape[1:])}
    found = []
    counted: set[str] = set()
    for node in graph.nodes:
        size, result = sizes[node.inputs[0]], sizes[node.name]
        seen[node.name] = _sees(node, size, result, [seen[name] for name in node.inputs])
        tensors = parameter_sizes(node, size)
        weights = prod(tensors["weight"]) if node.weighted else 0
        own = [role for role, name in node.params.items() if role not in _BUFFERS and name not in counted]
        counted.update(node.params.values())
        # A transposed convolution multiplies every pixel that it reads by all of its weights.
        places = prod(size[1:]) if node.op == "conv_transpose2d" else prod(result[1:])
        found.append(
            LayerInfo(
                name=node.name,
                op=node.op,
                input_shape=size,
                output_shape=result,
                filter=_filter(node, size),
                formula=_formula(node, size),
                parameters=sum(prod(tensors[role]) for role in own),
                macs=weights * places,
                receptive_field=seen[node.name].field,
                unread=_unread(node, size),
            )
        )
    return tuple(found)


def _sees(node: Node, size: Size, result: Size, given: Sequence[_Seen]) -> _Seen:
    first = given[0]
    spread = (result[1], result[2]) if len(result) == 3 else (1, 1)
    if node.op == "conv2d":
        conv = conv_shape(node, size)
        before = (conv.padding[0], conv.padding[2])
        return _Seen(first.field.then((conv.kh, conv.kw), conv.stride, before, conv.dilation), spread)
    if node.op == "conv_transpose2d":
        return _Seen(_backwards(first, transposed_shape(node, size), spread), spread)
    if node.op.endswith("pool2d"):
        pool = pool_shape(node, size)
        if pool is None:
            # Windows of unequal size: the longest, at the average distance.
            (oh, ow), (_, h, w) = adaptive_size(node, size), size
            kernel = (_longest(h, oh), _longest(w, ow))
            return _Seen(first.field.then(kernel, (max(1, h // oh), max(1, w // ow))), spread)
        before = (pool.padding[0], pool.padding[2])
        return _Seen(first.field.then((pool.kh, pool.kw), pool.stride, before, pool.dilation), spread)
    if node.op == "linear":
        return first.all_of_it()
    if node.op == "mean":
        axes = mean_axes(node)
        kernel = (first.spread[0] if 2 in axes else 1, first.spread[1] if 3 in axes else 1)
        return _Seen(first.field.then(kernel), spread)
    if len(given) > 1:
        if len(result) == 1:
            spread = (max(one.spread[0] for one in given), max(one.spread[1] for one in given))
        return _Seen(_together(given, spread), spread)
    return first


def _backwards(seen: _Seen, conv: ConvShape, spread: tuple[int, int]) -> ReceptiveField:
    """The field behind a transposed convolution: the smallest of the form start + u * jump that holds what each unit
    u sees, as two units of `stride` see the same inputs."""
    size, jump, start = [], [], []
    for axis, (track, units) in enumerate(zip((conv.rows, conv.columns), spread, strict=True)):
        far, step = (track.kernel - 1) * track.dilation, seen.field.jump[axis]
        common = max(1, step // track.stride)
        low, high = [], []
        for unit in range(units):
            first = max(0, -(-(unit + track.before - far) // track.stride))
            last = min(seen.spread[axis] - 1, (unit + track.before) // track.stride)
            if first <= last:  # else in a gap that no tap reaches
                begin = seen.field.start[axis] + first * step
                low.append(begin - unit * common)
                high.append(begin + (last - first) * step + seen.field.size[axis] - unit * common)
        if not low:  # all that is left of the result lies in gaps
            low, high = [seen.field.start[axis]], [seen.field.start[axis] + seen.field.size[axis]]
        start.append(min(low))
        size.append(max(high) - min(low))
        jump.append(common)
    return ReceptiveField((size[0], size[1]), (jump[0], jump[1]), (start[0], start[1]))


def _together(given: Sequence[_Seen], spread: tuple[int, int]) -> ReceptiveField:
    """The field where paths meet. Paths with the same jump join exactly.

    Where one path has a single unit for all places (the gate of squeeze-and-excitation), or other strides,
    the field is the smallest of the form start + u * jump that holds what every unit u sees.
    """
    fields = [one.field for one in given]
    if len({field.jump for field in fields}) == 1 and len({one.spread for one in given}) == 1:
        joined = fields[0]
        for field in fields[1:]:
            joined = joined.join(field)
        return joined
    size, jump, start = [], [], []
    for axis, units in enumerate(spread):
        common = max((one.field.jump[axis] for one in given if one.spread[axis] == units), default=1)
        low, high = [], []
        for one in given:
            step = (one.field.jump[axis] if one.spread[axis] > 1 else 0) - common
            for unit in (0, units - 1):
                low.append(one.field.start[axis] + unit * step)
                high.append(low[-1] + one.field.size[axis])
        start.append(min(low))
        size.append(max(high) - min(low))
        jump.append(common)
    return ReceptiveField((size[0], size[1]), (jump[0], jump[1]), (start[0], start[1]))


def _longest(inputs: int, outputs: int) -> int:
    return max(-(-(i + 1) * inputs // outputs) - i * inputs // outputs for i in range(outputs))


def _filter(node: Node, size: Size) -> str:
    if node.op == "conv2d":
        conv = conv_shape(node, size)
        groups = f", {conv.groups} groups" if conv.groups > 1 else ""
        return f"{conv.oc} of {conv.ic // conv.groups}×{conv.kh}×{conv.kw}{groups}"
    if node.op == "conv_transpose2d":
        conv = transposed_shape(node, size)
        groups = f", {conv.groups} groups" if conv.groups > 1 else ""
        return f"{conv.ic} of {conv.oc // conv.groups}×{conv.kh}×{conv.kw}{groups}"
    if node.op in ("linear", "pointwise"):
        return f"{node.attrs['out_features']} of {size[0]}"
    if node.op.endswith("pool2d"):
        pool = pool_shape(node, size)
        return "windows of unequal size" if pool is None else f"{pool.kh}×{pool.kw}"
    return ""


def _formula(node: Node, size: Size) -> str:
    if node.op == "conv2d":
        return conv_shape(node, size).formula()
    if node.op == "conv_transpose2d":
        return transposed_formula(node, size)
    if node.op == "flatten":
        return f"{' · '.join(map(str, size))} = {prod(size)}"
    if node.op.endswith("pool2d"):
        pool = pool_shape(node, size)
        return "" if pool is None else pool.formula()
    return ""


def _unread(node: Node, size: Size) -> tuple[int, int]:
    if node.op == "conv2d":
        return conv_shape(node, size).unread
    pool = pool_shape(node, size) if node.op.endswith("pool2d") else None
    return (0, 0) if pool is None else pool.unread
