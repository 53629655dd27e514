"""One number of a net, taken apart: the window it was made from, the filter, their products, and their sum."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hapgop.errors import InputError
from hapgop.explain.algorithm import Algorithm, algorithm
from hapgop.explain.opened import Array, Model, Opened, image_like, opened, prepared
from hapgop.explain.taps import taps, windowed
from hapgop.program import Node
from hapgop.program.sizes import pool_shape

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Window:
    """How one unit got its value. k is the number of input channels that it reads.

    layer, reads: the layer's name, and that of the layer (or "input") that it reads. unit: (oc, oh, ow).
    channels (k,), rows (kh,), columns (kw,): where the window lies in the input; a place outside it is padding.
    values (k, kh, kw): the input there, float32. padding (kh, kw): is this place outside the input?
    filter (k, kh, kw): float32; None for a pooling. products, total, bias, before, value: float64, from these
    float32 numbers: total = sum of products (of a pooling: the largest, or the mean), before = total + bias,
    value = activation(before). engine: what the engine gave, float32; difference = engine - value.
    algorithm: what made it.
    """

    layer: str
    op: str
    reads: str
    unit: tuple[int, int, int]
    channels: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: Array
    padding: NDArray[np.bool_]
    filter: Array | None
    products: Doubles
    total: float
    bias: float
    before: float
    activation: str | None
    value: float
    engine: float
    difference: float
    algorithm: Algorithm | None

    def __str__(self) -> str:
        oc, oh, ow = self.unit
        relu = f" -> {self.activation} -> {self.value:.6g}" if self.activation else ""
        what = "sum of products" if self.filter is not None else "of the window"
        made = f" by {self.algorithm.name}" if self.algorithm else ""
        return (
            f"{self.layer} ({self.op}), channel {oc}, row {oh}, column {ow}\n"
            f"  {what} {self.total:.6g} + bias {self.bias:.6g} = {self.before:.6g}{relu}\n"
            f"  the engine: {self.engine:.6g}{made} (difference {self.difference:.2g})"
        )


def window(model: Model, image: Any, layer: str, oc: int, oh: int, ow: int) -> Window:
    """How unit (oc, oh, ow) of `layer` got its value from `image`.

    For convolutions, poolings and fully connected layers, whose units are (oc, 0, 0). Raises InputError for
    other layers and for a unit that there is not.

    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, padding=1))
    >>> w = window(net, np.ones((1, 5, 5), np.float32), "0", 1, 0, 0)
    >>> w.values.shape, int(w.padding.sum()), abs(w.difference) < 1e-6
    ((1, 3, 3), 5, True)
    """
    net = opened(model, image)
    return taken_apart(net, net.maps(prepared(model, image)), layer, oc, oh, ow)


def taken_apart(net: Opened, maps: Mapping[str, Array], layer: str, oc: int, oh: int, ow: int) -> Window:
    """`window`, where the maps of the image are there already."""
    unit = net.unit(layer, oc, oh, ow)
    node = net.node(layer)
    x = maps[node.inputs[0]]
    if node.op == "linear":
        x = x.reshape(-1, 1, 1)
        here = np.zeros(1, np.int64)
        place = _Place(unit, np.arange(len(x)), here, here, np.zeros((1, 1), bool))
        return _summed(net, node, place, x, maps)
    if not windowed(node):
        raise InputError(
            f"{layer} ({node.op}) has no window: each of its values is made from one value of each input. "
            "Convolutions, poolings and fully connected layers have one."
        )
    rows, columns = taps(node, x.shape)
    reads = rows.reads[oh], columns.reads[ow]
    channels = channels_read(node, x.shape[0], oc)
    nothing = (reads[0] < 0)[:, None] | (reads[1] < 0)
    values = np.where(nothing, np.float32(0), x[np.ix_(channels, *reads)])
    place = _Place(unit, channels, rows.places[oh], columns.places[ow], nothing)
    if node.op in ("conv2d", "conv_transpose2d", "pointwise"):
        return _summed(net, node, place, values, maps)
    inside = values[0].astype(np.float64)[~nothing]
    largest = node.op.endswith("max_pool2d")
    total = float(inside.max() if largest else inside.sum() / _counted(net, node, place))
    return _made(net, node, place, values, None, values.astype(np.float64), total, 0.0, maps)


@dataclass(frozen=True, eq=False)
class _Place:
    unit: tuple[int, int, int]
    channels: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    nothing: NDArray[np.bool_]


def channels_read(node: Node, ic: int, oc: int) -> NDArray[np.int64]:
    """The input channels that an output channel reads: those of its group; of a pooling its own."""
    if node.op == "pointwise":
        return np.arange(ic)
    if node.op not in ("conv2d", "conv_transpose2d"):
        return np.array([oc])
    groups = node.attrs["groups"]
    group = oc // (node.attrs["out_channels"] // groups)
    return np.arange(ic // groups) + group * (ic // groups)


def filters_of(net: Opened, node: Node) -> NDArray[Any]:
    """What each output channel multiplies its window by: (oc, channels read, kh, kw), or (oc, features)."""
    weight = net.tensors[node.params["weight"]]
    if node.op != "conv_transpose2d":
        return weight
    # There outputs are the second axis, within each group's inputs.
    groups, (ic, each, kh, kw) = node.attrs["groups"], weight.shape
    apart = weight.reshape(groups, ic // groups, each, kh, kw)
    return apart.swapaxes(1, 2).reshape(groups * each, ic // groups, kh, kw)


def _summed(net: Opened, node: Node, place: _Place, values: Array, maps: Mapping[str, Array]) -> Window:
    """A convolution, or a fully connected layer, whose window is everything."""
    oc = place.unit[0]
    weight = np.asarray(filters_of(net, node)[oc], np.float32).reshape(values.shape)
    products = values.astype(np.float64) * weight
    bias = float(net.tensors[node.params["bias"]][oc]) if "bias" in node.params else 0.0
    return _made(net, node, place, values, weight, products, float(products.sum()), bias, maps)


def _counted(net: Opened, node: Node, place: _Place) -> int:
    """Over how many places an average pooling divides: of the padding those that lie within it, where it counts."""
    if node.op == "mean":
        return int(place.nothing.size)
    size = net.sizes[node.inputs[0]]
    shape = pool_shape(node, size)
    if shape is None or not node.attrs.get("count_include_pad", True):
        return int((~place.nothing).sum())
    # With ceil_mode a window may hang over the padding too; what lies past it does not count.
    ends = shape.ih + shape.padding[1], shape.iw + shape.padding[3]
    return int((place.rows < ends[0]).sum() * (place.columns < ends[1]).sum())


def _made(
    net: Opened, node: Node, place: _Place, values: Array, weight: Array | None, products: Doubles,
    total: float, bias: float, maps: Mapping[str, Array],
) -> Window:  # fmt: skip
    activation = node.attrs.get("activation")
    value = ACTIVATIONS[activation](total + bias)
    engine = float(maps[node.name].reshape(image_like(net.sizes[node.name]))[place.unit])
    return Window(
        layer=node.name,
        op=node.op,
        reads=node.inputs[0],
        unit=place.unit,
        channels=place.channels,
        rows=place.rows,
        columns=place.columns,
        values=values,
        padding=place.nothing,
        filter=weight,
        products=products,
        total=total,
        bias=bias,
        before=total + bias,
        activation=activation,
        value=value,
        engine=engine,
        difference=engine - value,
        algorithm=algorithm(net, node.name),
    )


ACTIVATIONS: Final[Mapping[str | None, Callable[[float], float]]] = {
    None: lambda x: x,
    "relu": lambda x: max(x, 0.0),
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "hardswish": lambda x: x * min(max(x + 3.0, 0.0), 6.0) / 6.0,
}
