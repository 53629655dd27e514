"""What comes out of each operation: the shape of one image's result, without the batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Final

from hapgop.errors import InputError
from hapgop.shape import ConvShape, PoolShape, ShapeError

if TYPE_CHECKING:
    from hapgop.program.graph import Graph, Node

Size = tuple[int, ...]


def result_sizes(graph: Graph) -> dict[str, Size]:
    """The shape of the graph's input and of every node's result: (c, h, w), or (k,) for a vector.

    Raises ShapeError (an InputError) that begins with the layer's name and the shapes that it was given.
    """
    sizes: dict[str, Size] = {graph.input: graph.input_shape}
    for node in graph.nodes:
        given = [sizes[name] for name in node.inputs]
        try:
            sizes[node.name] = _result(node, given)
        except InputError as error:
            raise ShapeError(f"{node.name} ({node.op}) on {' and '.join(map(by, given))}: {error}") from error
    return sizes


def by(size: Size) -> str:
    """A shape for people: 3×32×32."""
    return "×".join(map(str, size))


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def conv_shape(node: Node, size: Size, n: int = 1) -> ConvShape:
    """The convolution that a conv2d node is on images of `size`; padding is counted, whatever its mode."""
    c, h, w = _image(size)
    a = node.attrs
    shape = ConvShape(
        n,
        c,
        h,
        w,
        a["out_channels"],
        *pair(a["kernel_size"]),
        stride=a["stride"],
        padding=a["padding"],
        dilation=a["dilation"],
        groups=a["groups"],
    )
    room = {"reflect": -1, "circular": 0}.get(a["padding_mode"])
    if room is not None and (max(shape.padding[:2]) > h + room or max(shape.padding[2:]) > w + room):
        raise InputError(
            f"padding {shape.padding} in mode {a['padding_mode']!r} needs more rows or columns than"
            f" {by(size)} has; at most {h + room} rows and {w + room} columns work."
        )
    return shape


def transposed_shape(node: Node, size: Size, n: int = 1) -> ConvShape:
    """The convolution whose way back from its result, images of `size`, a conv_transpose2d node is."""
    c, h, w = _image(size)
    a = node.attrs
    sides, padding = [], []
    for axis, side in enumerate((h, w)):
        kernel, stride, dilation = (pair(a[name])[axis] for name in ("kernel_size", "stride", "dilation"))
        around, more = pair(a["padding"])[axis], pair(a["output_padding"])[axis]
        if more >= stride:
            raise InputError(
                f"output_padding is {more}, but only up to {stride - 1} of stride {stride} has a convolution whose way"
                " back it is."
            )
        sides.append((side - 1) * stride + (kernel - 1) * dilation + 1 - 2 * around + more)
        if sides[-1] < 1:
            raise InputError(f"padding of {around} leaves nothing of {side} rows or columns.")
        padding += [around, around]
    return ConvShape(
        n,
        a["out_channels"],
        sides[0],
        sides[1],
        c,
        *pair(a["kernel_size"]),
        stride=a["stride"],
        padding=(padding[0], padding[1], padding[2], padding[3]),
        dilation=a["dilation"],
        groups=a["groups"],
    )


def transposed_formula(node: Node, size: Size) -> str:
    """(N - 1) * S + F - P - P with its numbers, and what output_padding adds: one line, or one for each axis."""
    shape = transposed_shape(node, size)
    lines = []
    for axis, more in zip((shape.rows, shape.columns), pair(node.attrs["output_padding"]), strict=True):
        text = f"({axis.out} - 1) * {axis.stride} + {axis.reach} - {axis.before} - {axis.after}"
        text += f"{f' + {more}' if more else ''} = {axis.size}"
        if axis.dilation > 1:
            text += f", where {axis.reach} = ({axis.kernel} - 1) * {axis.dilation} + 1"
        lines.append(text)
    return lines[0] if lines[0] == lines[1] else f"rows: {lines[0]}\ncolumns: {lines[1]}"


def padded_otherwise(node: Node) -> bool:
    """Whether a convolution's padding is none of zeros: the rare case, for which no kernel has a word."""
    padding = node.attrs["padding"]
    return node.attrs["padding_mode"] != "zeros" and padding not in (0, (0, 0), "valid")


def pool_shape(node: Node, size: Size, n: int = 1) -> PoolShape | None:
    """The pooling that a pool node is on images of `size`; None where (adaptive) windows differ in size."""
    c, h, w = _image(size)
    a = node.attrs
    if node.op.startswith("adaptive"):
        oh, ow = adaptive_size(node, size)
        if h % oh or w % ow:
            return None
        return PoolShape(n, c, h, w, h // oh, w // ow)
    return PoolShape(
        n,
        c,
        h,
        w,
        *pair(a["kernel_size"]),
        stride=a["stride"],
        padding=a["padding"],
        dilation=a.get("dilation", 1),
        ceil_mode=a["ceil_mode"],
    )


def adaptive_size(node: Node, size: Size) -> tuple[int, int]:
    """The wanted (height, width), None meaning that of the input."""
    height, width = pair(node.attrs["output_size"])
    return (height or size[1], width or size[2])


def parameter_sizes(node: Node, size: Size) -> dict[str, Size]:
    """The shape that each parameter of the node must have for an input of `size`."""
    if node.op == "conv2d":
        weight: Size = conv_shape(node, size).w_shape
    elif node.op == "conv_transpose2d":
        return {role: transposed_shape(node, size).w_shape if role == "weight" else (node.attrs["out_channels"],)
                for role in node.params}  # fmt: skip
    elif node.op in ("linear", "pointwise"):
        weight = (node.attrs["out_features"], size[0])
    else:
        return dict.fromkeys(node.params, (size[0],))
    return {role: weight if role == "weight" else weight[:1] for role in node.params}


def _image(size: Size) -> tuple[int, int, int]:
    if len(size) != 3:
        raise InputError("it reads images (channels, height, width), not a vector; move it before the flatten.")
    c, h, w = size
    return c, h, w


def _conv(node: Node, given: Sequence[Size]) -> Size:
    return conv_shape(node, given[0]).y_shape[1:]


def _conv_transpose(node: Node, given: Sequence[Size]) -> Size:
    return transposed_shape(node, given[0]).x_shape[1:]


def _pool(node: Node, given: Sequence[Size]) -> Size:
    shape = pool_shape(node, given[0])
    if shape is None:
        return (given[0][0], *adaptive_size(node, given[0]))
    return shape.y_shape[1:]


def _linear(node: Node, given: Sequence[Size]) -> Size:
    if len(given[0]) != 1:
        works = f"flatten it to {prod(given[0])} numbers, or pool it to {given[0][0]}, first."
        raise InputError(f"it reads a vector, not an image of {by(given[0])}; {works}")
    return (node.attrs["out_features"],)


def _pointwise(node: Node, given: Sequence[Size]) -> Size:
    return (node.attrs["out_features"], *_image(given[0])[1:])


def _same(node: Node, given: Sequence[Size]) -> Size:
    return given[0]


def _meet(node: Node, given: Sequence[Size]) -> Size:
    a, b = given
    if len(a) != len(b) or any(x != y and 1 not in (x, y) for x, y in zip(a, b, strict=True)):
        raise InputError("the two must have the same shape, or 1 where they differ.")
    return tuple(max(x, y) for x, y in zip(a, b, strict=True))


def _concat(node: Node, given: Sequence[Size]) -> Size:
    first = given[0]
    if node.attrs["dim"] % (len(first) + 1) != 1:
        raise InputError(f"only channels (dim=1) can be joined, not dim={node.attrs['dim']}.")
    if any(len(size) != len(first) or size[1:] != first[1:] for size in given):
        raise InputError("all must have the same height and width.")
    return (sum(size[0] for size in given), *first[1:])


def _flatten(node: Node, given: Sequence[Size]) -> Size:
    rank = len(given[0]) + 1
    start, end = node.attrs["start_dim"] % rank, node.attrs["end_dim"] % rank
    if start != 1 or end != rank - 1:
        raise InputError("only all of an image (start_dim=1, end_dim=-1) can be flattened.")
    return (prod(given[0]),)


def _mean(node: Node, given: Sequence[Size]) -> Size:
    size = _image(given[0])
    axes = mean_axes(node)
    keep = node.attrs["keepdim"]
    if not axes <= {2, 3} or (len(axes) == 1 and not keep):
        raise InputError("only height and width (dim=(2, 3)) can be averaged.")
    kept = tuple(1 if axis in axes else side for axis, side in enumerate(size, start=1))
    return kept if keep else kept[:1]


def mean_axes(node: Node) -> set[int]:
    """The axes that a mean node removes, counted with the batch as 0."""
    dim = node.attrs["dim"]
    return {axis % 4 for axis in (dim if isinstance(dim, tuple) else (dim,))}


def _softmax(node: Node, given: Sequence[Size]) -> Size:
    if node.attrs["dim"] % (len(given[0]) + 1) != 1:
        raise InputError(f"only over the channels (dim=1), not dim={node.attrs['dim']}.")
    return given[0]


_RESULTS: Final[Mapping[str, Callable[[Node, Sequence[Size]], Size]]] = {
    "conv2d": _conv,
    "conv_transpose2d": _conv_transpose,
    "linear": _linear,
    "pointwise": _pointwise,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "adaptive_avg_pool2d": _pool,
    "adaptive_max_pool2d": _pool,
    "add": _meet,
    "mul": _meet,
    "concat": _concat,
    "flatten": _flatten,
    "mean": _mean,
    "softmax": _softmax,
    "log_softmax": _softmax,
}


def _result(node: Node, given: Sequence[Size]) -> Size:
    return _RESULTS.get(node.op, _same)(node, given)
