"""`hapgop shapes NET|RUN|FILE.onnx`"""

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from hapgop.cli import console
from hapgop.errors import InputError
from hapgop.predict import read_config, read_onnx
from hapgop.program import Graph, LayerInfo, layers

# Beyond, numbers are no sizes of images; and products of them would not fit into 64 bits.
_LARGEST = 65_536
_LARGE = 1024
_COLUMNS = ("layer", "operation", "input", "filter", "formula", "output", "parameters", "MACs", "sees")


def command(
    net: Annotated[
        str,
        typer.Argument(metavar="NET|RUN|FILE.onnx", help="A net's name, the folder of a run, or an ONNX file."),
    ],
    input_shape: Annotated[
        str | None, typer.Option("--input", metavar="CxHxW", help="One image: channels, height, width.")
    ] = None,
    classes: Annotated[
        int, typer.Option(min=1, max=_LARGEST, metavar="N", help="Outputs of a net that is given by name.")
    ] = 10,
    json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    """Show each layer's sizes with the formula behind them, its parameters, its cost and what it sees.

    MACs are multiplications with an addition, for one image. "sees" is the receptive field: the rows and columns
    of the image that one unit of the layer depends on.
    """
    graph = _graph(net, None if input_shape is None else _shape(input_shape), classes)
    found = layers(graph)
    if json:
        console.write_json({"input": list(graph.input_shape), "layers": [_as_json(layer) for layer in found]})
        return
    rows = [_row(layer, graph.input_shape) for layer in found]
    parameters, macs = sum(layer.parameters for layer in found), sum(layer.macs for layer in found)
    total = ["total", "", "", "", "", "", f"{parameters:,}", f"{macs:,}", ""]
    console.show(console.table(_COLUMNS, [*rows, total], right=["parameters", "MACs"], folds=["filter", "formula"]))
    for layer in found:
        if layer.unread != (0, 0):
            console.write(f"{layer.name} does not read its whole input: {_unread(layer.unread)}.")


def _graph(net: str, shape: tuple[int, int, int] | None, classes: int) -> Graph:
    if net.lower().endswith(".onnx"):
        graph = read_onnx(net).graph
        return graph if shape is None else graph.with_input(shape)
    if Path(net).is_dir():
        try:
            graph = Graph.from_json(read_config(net).get("graph"))
        except InputError as error:
            raise InputError(str(error) if net in str(error) else f"{net}/config.json: {error}") from error
        return graph if shape is None else graph.with_input(shape)
    if shape is None:
        raise InputError(f"{net}: no run folder, and a net by name needs the size of its input: --input 3x32x32.")
    # Only a net by name has to be built, and for that PyTorch is needed.
    graph_of = importlib.import_module("hapgop.cli.named").graph
    if max(*shape, classes) <= _LARGE:
        return cast(Graph, graph_of(net, shape, classes))
    # Of so large images, some nets' weights would not fit into memory; on this device they take none, but a second to
    # import what it needs.
    with importlib.import_module("torch").device("meta"):
        return cast(Graph, graph_of(net, shape, classes))


def _shape(text: str) -> tuple[int, int, int]:
    sizes = re.fullmatch(r"(\d+)[x×,](\d+)[x×,](\d+)", text.strip().lower())
    if sizes is None:
        raise InputError(f"--input {text}: channels, height and width are wanted, as in 3x32x32.")
    c, h, w = (int(size) for size in sizes.groups())
    if not all(1 <= size <= _LARGEST for size in (c, h, w)):
        raise InputError(f"--input {text}: sizes from 1 to {_LARGEST:,} are wanted, as in 3x32x32.")
    return c, h, w


def _row(layer: LayerInfo, image: tuple[int, int, int]) -> Sequence[str]:
    sees = (min(size, side) for size, side in zip(layer.receptive_field.size, image[1:], strict=True))
    return (
        layer.name,
        layer.op,
        _by(layer.input_shape),
        layer.filter,
        layer.formula,
        _by(layer.output_shape),
        f"{layer.parameters:,}" if layer.parameters else "",
        f"{layer.macs:,}" if layer.macs else "",
        _by(tuple(sees)),
    )


def _unread(unread: tuple[int, int]) -> str:
    rows, columns = unread
    parts = [f"{rows} row{'s' * (rows > 1)} at the bottom"] if rows else []
    parts += [f"{columns} column{'s' * (columns > 1)} at the right"] if columns else []
    return " and ".join(parts) + (" are" if rows + columns > 1 else " is") + " never read"


def _as_json(layer: LayerInfo) -> dict[str, Any]:
    field = layer.receptive_field
    return {
        "name": layer.name,
        "op": layer.op,
        "input": list(layer.input_shape),
        "filter": layer.filter,
        "formula": layer.formula,
        "output": list(layer.output_shape),
        "parameters": layer.parameters,
        "macs": layer.macs,
        "receptive_field": {
            "size": list(field.size),
            "jump": list(field.jump),
            "start": list(field.start),
        },
        "unread": list(layer.unread),
    }


def _by(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size))
