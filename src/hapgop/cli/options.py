"""Options that several commands have, each said once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Precision(StrEnum):
    """What `--precision` takes."""

    FAST = "fast"
    EXACT = "exact"


ThreadsOption = Annotated[int | None, typer.Option(min=1, metavar="N", help="Threads; one for each core otherwise.")]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option(
        metavar="fast|exact",
        help="fast, or exact: plain sums only, which differ less from arithmetic without rounding.",
    ),
]
PortOption = Annotated[
    int | None,
    typer.Option(min=0, max=65535, metavar="N", help="The port; a free one from 7007 on otherwise."),
]
BrowserOption = Annotated[bool, typer.Option(help="Open the page in the browser.")]

# A trained net: the folder of a run, or an ONNX file and what it does not say of itself.
NetArgument = Annotated[
    Path, typer.Argument(metavar="RUN|FILE.onnx", help="The folder of a trained net, or an ONNX file (.onnx).")
]
MeanOption = Annotated[
    str | None,
    typer.Option(
        metavar="R,G,B",
        help="ONNX: the mean that pictures, from 0 to 1, are normalised by, for each channel; 0 otherwise.",
    ),
]
StdOption = Annotated[
    str | None,
    typer.Option(metavar="R,G,B", help="ONNX: the standard deviation that they are divided by; 1 otherwise."),
]
ClassesOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="ONNX: the labels, one to a line; numbers otherwise.")
]
