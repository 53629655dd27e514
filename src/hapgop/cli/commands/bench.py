"""`hapgop bench layers`, `nets`, `train`, `random`, `accuracy` and `start`"""

import json as codec
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Final

import typer

from hapgop import bench, train
from hapgop.cli import accuracy, console, surveying, training
from hapgop.cli.app import INTERRUPTED
from hapgop.cli.bars import Bar, clock
from hapgop.errors import InputError

_QUICK_REPEATS = 5


class _What(StrEnum):
    LAYERS = "layers"
    NETS = "nets"
    TRAIN = "train"
    RANDOM = "random"
    ACCURACY = "accuracy"
    START = "start"


# Of what is measured, the options that mean something there: one that did nothing would be believed.
_OPTIONS: Final[Mapping[_What, Sequence[str]]] = {
    what: options.split()
    for what, options in {
        _What.LAYERS: "--case --class --op --against --batch --threads --repeats --quick --allocator --cases --json"
        " --picture --from",
        _What.NETS: "--case --against --batch --threads --repeats --quick --allocator --json --picture --from",
        _What.TRAIN: "--case --against --batch --threads --repeats --quick --allocator --profile --tensorflow --json",
        _What.RANDOM: "--shapes --seed --op --threads --repeats --quick --json",
        _What.ACCURACY: "--target --net --seed --set --side --threads --allocator --json",
        _What.START: "--case --repeats --json",
    }.items()
}
_OPTIONS_SHOWING: Final = ("--from", "--json", "--picture")


def command(
    context: typer.Context,
    what: Annotated[
        _What,
        typer.Argument(
            metavar="WHAT",
            help="What to measure: known layers, whole nets, their training steps, random layers, the time to an "
            "accuracy, or from a process's start to its first label.",
        ),
    ],
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="accuracy: what to train on, as for hapgop train.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only this peer: torch, onnxruntime, openvino, ncnn; of nets also torch.compile and litert. May be "
            "given again.",
        ),
    ] = None,
    case: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only cases whose names begin so, or nets so called; may be given again."),
    ] = None,
    family: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NAME", help="Only cases of this class, such as 3x3; may be given again."),
    ] = None,
    op: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only forward, grad_x, grad_w or backward; may be given again."),
    ] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="1,16", help="These batch sizes instead of each case's own.")
    ] = None,
    threads: Annotated[str, typer.Option(metavar="1,2", help="Numbers of threads, the same on all sides.")] = "1,2",
    repeats: Annotated[
        int, typer.Option(min=1, metavar="N", help="Rounds of a row at most; their median counts.")
    ] = 15,
    quick: Annotated[
        bool, typer.Option(help="A first look: one batch size and number of threads, few rounds, none again.")
    ] = False,
    allocator: Annotated[
        str,
        typer.Option(metavar="default|tuned", help="default, or tuned: memory is kept in the process, for both sides."),
    ] = "default",
    cases: Annotated[Path | None, typer.Option(metavar="FILE", help="Cases of your own instead of ours.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all measurements to FILE.")] = None,
    picture: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the ratios: FILE.svg or FILE.png.")] = None,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Measure nothing: show what --json has written.")
    ] = None,
    shapes: Annotated[int, typer.Option(min=1, metavar="N", help="random: how many layers.")] = 300,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="random: other layers; accuracy: other weights and order; 0 otherwise."),
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="0.99|99%", help="accuracy: on validation, at which each side may stop.")
    ] = None,
    net: Annotated[
        str | None, typer.Option(metavar="NAME", help="accuracy: the net; one that suits the images otherwise.")
    ] = None,
    side: Annotated[
        str | None, typer.Option(metavar="hapgop|PyTorch", help="accuracy: only this side, in this process.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="accuracy: any knob of the recipe.")
    ] = None,
    profile: Annotated[bool, typer.Option(help="train: show where the time of our step goes.")] = False,
    tensorflow: Annotated[
        str | None, typer.Option(metavar="PYTHON", help="train: a Python that has TensorFlow, to compare with it too.")
    ] = None,
) -> None:
    """Measure single layers or whole nets against PyTorch and other libraries, all interleaved in one process.

    `train` compares training steps of whole nets, which --case names; of the other options it takes --against (also
    torch.compile and tensorflow), --batch, --threads, --repeats, --quick, --allocator and --json.
    `random` draws layers that nobody tuned for, and measures each against PyTorch's operator on the same tensors, and
    our algorithms against one another; of the other options it takes --op, --threads, --repeats, --quick and --json.
    `accuracy` trains one recipe in our layers and then in PyTorch's own, each in a process of its own, and compares the
    times; of the other options it takes --threads (the last number), --allocator and --json.
    `start` starts processes that label one picture; of the other options it takes --case, --repeats and --json.
    Run it on a machine that does nothing else; Ctrl-C ends it with the rows so far. docs/benchmarks.md says what is
    measured and how.
    """
    _refuse_unknown(context, what, source)
    console.check_place("--json", json)
    console.check_place("--picture", picture)
    counts, batches = _numbers("--threads", threads), () if batch is None else _numbers("--batch", batch)
    if quick:
        counts, repeats = counts[-1:], min(repeats, _QUICK_REPEATS)
    if what is _What.ACCURACY:
        changes = training.recipe_changes(None, setting or ())
        if seed is not None:
            changes["seed"] = seed
        if target is not None:
            changes["target_accuracy"] = training.share("--target", target)
        _accuracy(data or "digits", net, changes, counts[-1], allocator, side, json)
        return
    if data is not None:
        raise InputError(f"{data}: only hapgop bench accuracy takes data.")
    if what is _What.START:
        _start(case or (), repeats, json)
        return
    if what is _What.TRAIN:
        trained = bench.plan_train(
            case or (),
            against=against or (),
            threads=counts,
            batches=batches,
            repeats=repeats,
            allocator=allocator,
            profile=profile,
            tensorflow=tensorflow,
        )
        _train(trained, json)
        return
    if what is _What.RANDOM:
        _survey(shapes, seed or 0, counts, tuple(op or bench.SURVEY_OPS), repeats, json)
        return
    if picture is not None and picture.suffix.lower() not in (".svg", ".png"):
        raise InputError(f"--picture {picture}: the name has to end with .svg or .png")
    if source is not None:
        result = bench.from_json(_read(source), str(source))
    elif what is _What.NETS:
        nets = bench.plan_nets(
            case or (),
            batches=batches,
            against=against or (),
            threads=counts,
            repeats=repeats,
            quick=quick,
            allocator=allocator,
        )
        result = _measured_nets(nets)
    else:
        wanted = bench.Wanted(
            names=case or (),
            families=family or (),
            ops=op or (),
            batches=batches,
            text=None if cases is None else _read(cases),
            source=str(cases),
            quick=quick,
        )
        run = bench.plan(
            wanted,
            against=against or (),
            threads=counts,
            repeats=repeats,
            allocator=allocator,
        )
        result = _measured(run)
    console.write(bench.table(result))
    if picture is not None:
        bench.draw(result, picture)
        console.say(f"Wrote {picture}.")
    _end(json, result.to_json(), source is None and result.machine["stopped"])


def _refuse_unknown(context: typer.Context, what: _What, source: Path | None) -> None:
    """Raises InputError for an option that was given and would do nothing."""
    whose, known = f"bench {what}", _OPTIONS[what]
    if source is not None and "--from" in known:
        whose, known = f"{whose} --from", _OPTIONS_SHOWING
    for parameter in context.command.params:
        option, where = parameter.opts[0], context.get_parameter_source(parameter.name or "")
        if option.startswith("--") and option not in known and where is not None and where.name != "DEFAULT":
            others = ", ".join(other for other, options in _OPTIONS.items() if option in options)
            raise InputError(f"{option}: {whose} does not know it, as these do: {others}. It knows {', '.join(known)}.")


def _survey(
    shapes: int, seed: int, threads: Sequence[int], ops: Sequence[str], repeats: int, json: Path | None
) -> None:
    for op in ops:
        if op not in bench.SURVEY_OPS:
            raise InputError(f"--op {op}: wanted is one of {', '.join(bench.SURVEY_OPS)}")
    found: list[bench.SurveyRow] = []
    for count in threads:
        try:
            with Bar() as bar:
                rows = bench.survey(shapes, seed, count, _counted(bar), ops=ops, repeats=repeats)
        except KeyboardInterrupt:
            if not found:
                raise
            done = 0
            break
        done = len(rows) // len(ops)
        some = "" if done == shapes else f"{done} of "
        console.write(f"{count} threads, {some}{shapes} random layers, seed {seed}\n\n{surveying.text(rows)}\n")
        found += rows
        if done < shapes:
            break
    _end(json, bench.survey_json(found, _command()), done < shapes)


def _start(nets: Sequence[str], repeats: int, json: Path | None) -> None:
    with Bar() as bar:
        starts = bench.bench_start(nets, repeats=repeats, progress=_counted(bar))
    rows = [
        [
            start.net,
            *(f"{seconds:.2f}" for times in (start.warm, start.cold) for seconds in (median(times), min(times))),
        ]
        for start in starts
    ]
    columns = ["net", "warm, s", "best", "cold, s", "best "]
    console.show(console.table(columns, rows, right=columns[1:]))
    console.write("\nSeconds from a process's start to its label; cold: all kernels are compiled first.")
    _end(json, bench.start_json(starts, _command()))


def _train(run: bench.TrainRun, json: Path | None) -> None:
    with Bar() as bar:
        result = bench.bench_train(run, _command(), _counted(bar))
    console.write(bench.train_table(result))
    _end(json, result.to_json(), result.machine["stopped"])


def _accuracy(
    source: str,
    net: str | None,
    changes: Mapping[str, Any],
    threads: int,
    allocator: str,
    side: str | None,
    json: Path | None,
) -> None:
    if side is None:
        told, sides = accuracy.in_processes(source, net, changes, threads, allocator)
        told = accuracy.compared(told, sides, _command())
    elif side in accuracy.SIDES:
        training.use_threads(threads)
        bench.use_allocator(allocator)
        with Bar() as bar:
            data = train.load(source, progress=bar.training)
        recipe, name = train.suggested_recipe(data, **changes), net or train.suggested_net(data)
        sides = [accuracy.measured(data, recipe, name, side)]
        told = accuracy.report(data, recipe, name, sides[0])
    else:
        raise InputError(f"--side {side}: wanted is one of {', '.join(accuracy.SIDES)}")
    accuracy.show(told, sides)
    _end(json, told)


def _end(json: Path | None, values: Mapping[str, Any], stopped: bool = False) -> None:
    """Writes what --json asks for. What Ctrl-C has stopped keeps its rows, and still ends as what is stopped does."""
    if json is not None:
        console.write_file(json, codec.dumps(values, indent=2, allow_nan=False) + "\n")
        console.say(f"Wrote {json}.")
    if stopped:
        console.complain("stopped; these are the rows until then.")
        raise typer.Exit(INTERRUPTED)


def _command() -> str:
    return shlex.join(["hapgop", *sys.argv[1:]])


def _measured(run: bench.Run) -> bench.BenchResult:
    for name, reason in run.missing.items():
        console.say(f"Without {name}: {reason}.")
    for words in run.left_out:
        console.say(f"Left out {words}.")
    console.say(f"{run.rows} rows, about {clock(60 * run.minutes)}.")
    with Bar() as bar:
        return bench.bench_layers(run, _command(), _counted(bar))


def _measured_nets(run: bench.NetRun) -> bench.BenchResult:
    for name, reason in run.missing.items():
        console.say(f"Without {name}: {reason}.")
    with Bar() as bar:
        return bench.bench_nets(run, _command(), _counted(bar))


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
