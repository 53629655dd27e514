"""Which commands there are, and what happens when one fails."""

import functools
import gc
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Annotated, Any, Final

import typer

from hapgop._version import __version__
from hapgop.cli import console
from hapgop.errors import InputError

# Each is a module of hapgop.cli.commands with a function `command`, imported only when it is asked for:
# `hapgop predict` and `hapgop --help` must not wait for PyTorch.
COMMANDS: Final = {
    "train": "Train a classifier on pictures and write a report.",
    "predict": "Label pictures with a trained net; needs no PyTorch.",
    "evaluate": "Measure a trained net on labelled pictures.",
    "export": "Write a trained net for other runtimes, as one ONNX file.",
    "serve": "Answer pictures by HTTP with their labels, as JSON.",
    "look": "Look inside a trained net, in the browser: why this label?",
    "learn": "A lesson on convolutional networks, to play with in the browser.",
    "shapes": "Show each layer's sizes, formula, parameters and cost.",
    "demo": "See it work: train on digits, label unseen ones.",
    "bench": "Measure the speed against PyTorch on this machine.",
    "doctor": "Show the machine, the versions and the kept kernels.",
}
INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line (default: the process's own) and exits.

    Exit codes: 0 done; 1 failed; 2 what was given cannot be used; 130 stopped by Ctrl-C.
    """
    # A thread that waits for its team spins this long before it sleeps: on a machine that also does other things, the
    # runtime's own default lets it hold a core for whole time slices. Read when the OpenMP runtime is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = given[: given.index("--")] if "--" in given else given
    debug = "--debug" in options
    if debug:
        # It may stand anywhere, as it is usually added to a line that has just failed.
        given.remove("--debug")
    # Where one was closed (`>&-`), what is said goes nowhere.
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        warnings.filterwarnings("ignore", module="PIL")
        _build(given, debug)(args=given, prog_name="hapgop")


def _build(given: Sequence[str], debug: bool) -> typer.Typer:
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_top)
    wanted = next((word for word in given if not word.startswith("-")), None)
    for name, words in COMMANDS.items():
        command: Callable[..., Any] = _not_loaded
        if name == wanted:
            command = _guarded(name, _loaded(name, debug), debug)
        app.command(name, short_help=words)(command)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"hapgop {__version__}")
        raise typer.Exit


def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from (a traceback).")] = False,
) -> None:
    """Convolutional networks: fast on the CPU that you have, in training as in prediction, and open to the eye."""


def _not_loaded() -> None:
    raise AssertionError("a command that was not asked for ran")


def _guarded(name: str, command: Callable[..., Any], debug: bool) -> Callable[..., Any]:
    """The command with every failure as one message and an exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            console.complain("stopped.")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:  # whatever it is, a person reads a sentence; --debug shows the rest
            raise typer.Exit(_explained(name, error, debug)) from None

    return run


def _loaded(name: str, debug: bool) -> Callable[..., Any]:
    # What libraries make as they are imported stays to the end. To look through it for garbage while it grows, and once
    # more when the process ends, would take half a second of PyTorch's half a million objects.
    gc.disable()
    try:
        command: Callable[..., Any] = importlib.import_module(f"hapgop.cli.commands.{name}").command
    except KeyboardInterrupt:
        console.complain("stopped.")
        sys.exit(INTERRUPTED)
    except Exception as error:  # a library that is missing or broken, as often as not
        sys.exit(_explained(name, error, debug))
    finally:
        gc.freeze()
        gc.enable()
    return command


def _explained(command: str, error: Exception, debug: bool) -> int:
    """Says what went wrong, in one message, and gives the exit code."""
    # PyTorch has no error of its own for it.
    starved = isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
    if debug:
        traceback.print_exception(error)
    elif isinstance(error, InputError):
        console.complain(str(error))
    elif starved:
        console.complain(
            "there is too little memory for this: smaller images, or fewer at a time, need less (--size, --batch-size,"
            " where a command has them)."
        )
    elif isinstance(error, OSError):
        console.complain(f"{error.filename or ''}: {error.strerror or error}".removeprefix(": "))
    elif isinstance(error, ModuleNotFoundError):
        page = "serve" if command == "serve" else "look"
        extra = page if error.name in ("starlette", "uvicorn", "captum") else "train"
        console.complain(f"this needs {error.name}, which is not installed: pip install 'hapgop[{extra}]' brings it.")
    else:
        console.complain(
            f"this is a mistake of hapgop itself ({type(error).__name__}: {error})."
            " The same command with --debug shows where."
        )
    return 2 if starved or isinstance(error, InputError) else 1


def _show_warning(message: Warning | str, *where: Any, **options: Any) -> None:
    console.say(f"note: {message}")
