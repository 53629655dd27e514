"""`hapgop export RUN FILE.onnx`"""

import importlib
import importlib.util
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from hapgop.cli import console
from hapgop.cli.computing import briefly
from hapgop.cli.opening import opened_net
from hapgop.cli.options import ClassesOption, MeanOption, NetArgument, StdOption
from hapgop.errors import InputError
from hapgop.export import Exported, Parity, compared, to_onnx
from hapgop.predict import Picture, Predictor

_FAILED = 1
_MADE_UP = 8


def command(
    run: NetArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="What to write.")],
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PICTURES", help="Compare the file with the net on these; on some that it was judged by otherwise."
        ),
    ] = None,
    mean: MeanOption = None,
    std: StdOption = None,
    classes: ClassesOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", "--force", help="Replace a file that is there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    """Write a trained net as one ONNX file: pixels go in, of any size, and probabilities come out.

    The file holds the preprocessing, resizing included, and the labels. It is then asked about pictures, as is the net:
    exit code 1 where it does not give each the same label.
    """
    if file.suffix.lower() != ".onnx":
        raise InputError(f"{file}: a file whose name ends in .onnx is wanted.")
    console.check_place("FILE.onnx", file)
    briefly()
    predictor = opened_net(run, mean, std, classes)
    written = to_onnx(predictor, file, overwrite=overwrite)
    asked, of_what = (pictures, "given") if pictures else _judged(predictor)
    parity = compared(file, predictor, asked)
    if json:
        told = {**asdict(written), "path": str(file), "classes": list(predictor.classes), "parity": asdict(parity)}
        console.write_json(told)
    else:
        _tell(written, parity, of_what)
    if parity.same < parity.pictures:
        raise typer.Exit(_FAILED)


def _tell(written: Exported, parity: Parity, of_what: str) -> None:
    console.write(
        f"Wrote {written.path} ({written.size / 1e6:,.2f} MB, opset {written.opset}).\n"
        f"  in:  {written.takes}, in RGB\n  out: {written.gives}"
    )
    console.write(
        f"{parity.runtime} gives {parity.same} of {parity.pictures} pictures ({of_what}) the label that the net itself"
        f" gives them; probabilities differ by {parity.difference:.1g} at most."
    )
    console.write(f"\nTry next: {shlex.join(['hapgop', 'predict', str(written.path)])} PICTURES...")


def _judged(predictor: Predictor) -> tuple[Sequence[Picture], str]:
    """Pictures that the net was judged by, where they are still there; else made-up ones."""
    # What reads data sets needs PyTorch, which whoever deploys a net may not have.
    if importlib.util.find_spec("torch") is not None:
        samples: Any = importlib.import_module("hapgop.cli.looking").samples(predictor)
        if samples:
            return [sample.picture for sample in samples], "that it was judged by"
    chance = np.random.default_rng(0)
    made = []
    for _ in range(_MADE_UP):
        height, width = chance.integers(20, 400, 2)
        # A net's answer to noise alone says little: coarse patches of colour.
        patches = chance.integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
        made.append(patches.repeat(8, axis=0).repeat(8, axis=1)[:height, :width])
    return made, "made up"
