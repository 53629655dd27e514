"""`hapgop bench layers`"""

import json as codec
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hapgop import bench
from hapgop.cli import console
from hapgop.cli.bars import Bar


class _What(StrEnum):
    LAYERS = "layers"


class _Rival(StrEnum):
    TORCH = "torch"


def command(
    what: Annotated[_What, typer.Argument(metavar="layers", help="What to measure: layers.")],
    against: Annotated[_Rival, typer.Option(help="Whom to compare with.")] = _Rival.TORCH,
    case: Annotated[list[str] | None, typer.Option(help="Only cases whose names begin so; may be given again.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads on both sides.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each case; their median counts.")] = 15,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all measurements to FILE.")] = None,
) -> None:
    """Measure single layers against PyTorch, both sides interleaved in one process.

    Run it on a machine that does nothing else.
    """
    with Bar() as bar:
        result = bench.bench_layers(
            case or None, threads, repeats, lambda done, total, name: bar.count(name, done, total)
        )
    console.write(result.table())
    if json is not None:
        console.write_file(json, codec.dumps(result.to_json(), indent=2) + "\n")
        console.say(f"Wrote {json}.")
