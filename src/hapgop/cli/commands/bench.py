"""`hapgop bench layers` and `hapgop bench nets`"""

import json as codec
import shlex
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hapgop import bench
from hapgop.cli import console
from hapgop.cli.bars import Bar, clock
from hapgop.errors import InputError

_QUICK_REPEATS = 5


class _What(StrEnum):
    LAYERS = "layers"
    NETS = "nets"


def command(
    what: Annotated[
        _What, typer.Argument(metavar="layers|nets", help="What to measure: single layers, or whole nets.")
    ],
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this peer: torch, onnxruntime, openvino, ncnn; of nets also torch.compile; may be given again."
        ),
    ] = None,
    case: Annotated[
        list[str] | None, typer.Option(help="Only cases whose names begin so, or nets so called; may be given again.")
    ] = None,
    family: Annotated[
        list[str] | None, typer.Option("--class", help="Only cases of this class, such as 3x3; may be given again.")
    ] = None,
    op: Annotated[
        list[str] | None, typer.Option(help="Only forward, grad_x, grad_w or backward; may be given again.")
    ] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="1,16", help="These batch sizes instead of each case's own.")
    ] = None,
    threads: Annotated[str, typer.Option(metavar="1,2", help="Numbers of threads, the same on all sides.")] = "1,2",
    repeats: Annotated[int, typer.Option(min=1, help="Rounds of a row at most; their median counts.")] = 15,
    quick: Annotated[
        bool, typer.Option(help="A first look: one batch size and number of threads, few rounds, none again.")
    ] = False,
    allocator: Annotated[
        str, typer.Option(help="default, or tuned: memory is kept in the process, for both sides.")
    ] = "default",
    cases: Annotated[Path | None, typer.Option(metavar="FILE", help="Cases of your own instead of ours.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all measurements to FILE.")] = None,
    picture: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the ratios: FILE.svg or FILE.png.")] = None,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Measure nothing: show what --json has written.")
    ] = None,
) -> None:
    """Measure single layers or whole nets against PyTorch and other libraries, all interleaved in one process.

    Run it on a machine that does nothing else. docs/benchmarks.md says what is measured and how.
    """
    if picture is not None and picture.suffix.lower() not in (".svg", ".png"):
        raise InputError(f"--picture {picture}: the name has to end with .svg or .png")
    if source is not None:
        result = bench.from_json(_read(source), str(source))
    elif what is _What.NETS:
        for option, given in (("--class", family), ("--op", op), ("--cases", cases)):
            if given:
                raise InputError(f"{option}: only bench layers has it; bench nets knows --case, --batch and --against")
        counts = _numbers("--threads", threads)
        nets = bench.plan_nets(
            case or (),
            batches=_numbers("--batch", batch) if batch is not None else (),
            against=against or (),
            threads=counts[-1:] if quick else counts,
            repeats=min(repeats, _QUICK_REPEATS) if quick else repeats,
            quick=quick,
            allocator=allocator,
        )
        result = _measured_nets(nets)
    else:
        wanted = bench.Wanted(
            names=case or (),
            families=family or (),
            ops=op or (),
            batches=_numbers("--batch", batch) if batch is not None else (),
            text=None if cases is None else _read(cases),
            source=str(cases),
            quick=quick,
        )
        counts = _numbers("--threads", threads)
        run = bench.plan(
            wanted,
            against=against or (),
            threads=counts[-1:] if quick else counts,
            repeats=min(repeats, _QUICK_REPEATS) if quick else repeats,
            allocator=allocator,
        )
        result = _measured(run)
    console.write(bench.table(result))
    if json is not None:
        console.write_file(json, codec.dumps(result.to_json(), indent=2, allow_nan=False) + "\n")
        console.say(f"Wrote {json}.")
    if picture is not None:
        bench.draw(result, picture)
        console.say(f"Wrote {picture}.")


def _measured(run: bench.Run) -> bench.BenchResult:
    for name, reason in run.missing.items():
        console.say(f"Without {name}: {reason}.")
    for words in run.left_out:
        console.say(f"Left out {words}.")
    console.say(f"{run.rows} rows, about {clock(60 * run.minutes)}.")
    with Bar() as bar:
        return bench.bench_layers(run, shlex.join(["hapgop", *sys.argv[1:]]), _counted(bar))


def _measured_nets(run: bench.NetRun) -> bench.BenchResult:
    for name, reason in run.missing.items():
        console.say(f"Without {name}: {reason}.")
    with Bar() as bar:
        return bench.bench_nets(run, shlex.join(["hapgop", *sys.argv[1:]]), _counted(bar))


def _counted(bar: Bar) -> Callable[[int, int, str], None]:
    start = time.monotonic()

    def count(done: int, total: int, name: str) -> None:
        # The peaks come first and take as long as a few rows.
        left = (time.monotonic() - start) * (total - done) / done if done else 0.0
        bar.count(name, done, total, f"{done}/{total}, {clock(left)} left" if done else "")

    return count


def _numbers(option: str, text: str) -> tuple[int, ...]:
    """1,16 as numbers. Raises InputError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts) or len(set(parts)) < len(parts):
        raise InputError(f"{option} {text}: whole numbers of at least 1 are wanted, each once, as in 1,16")
    return tuple(map(int, parts))


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
