"""Where words and results go: results to standard output, everything else to standard error."""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hapgop.errors import InputError
from hapgop.files import write_whole

# What is read by a program or a pager must not be folded at 80 columns.
_WIDE = 500
# A table with sentences in it cannot be read in fewer columns.
_ROOM_FOR_A_TABLE = 110


def out() -> Console:
    """Standard output as it is now."""
    return _console(stderr=False)


def err() -> Console:
    """Standard error as it is now."""
    return _console(stderr=True)


def say(text: str) -> None:
    """A word on the way, on standard error."""
    err().print(text, markup=False, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """What is worth knowing, on standard error; a terminal has it folded between words."""
    console = err()
    console.print(f"note: {text}", markup=False, highlight=False, soft_wrap=not console.is_terminal)


def complain(text: str) -> None:
    """Why it did not work."""
    say(f"hapgop: {text}")


def write(text: str) -> None:
    """A result, word for word, on standard output."""
    print(text, flush=True)


def write_json(value: Any) -> None:
    """A result for a program: JSON alone on standard output."""
    write(json.dumps(value, indent=2, allow_nan=False))


def table(
    columns: Iterable[str],
    rows: Iterable[Iterable[str]],
    *,
    right: Iterable[str] = (),
    folds: Iterable[str] = (),
) -> Table:
    """A table without a frame; `right` are the columns of numbers, `folds` those that give way where it is narrow."""
    columns, right, folds = tuple(columns), set(right), set(folds)
    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=any(columns))
    for column in columns:
        result.add_column(
            column,
            justify="right" if column in right else "left",
            overflow="fold",
            no_wrap=column not in folds if folds else False,
        )
    for row in rows:
        # As Text, since file names may hold what rich reads as markup.
        result.add_row(*(Text(cell) for cell in row))
    return result


def show(value: Table) -> None:
    """A table on standard output, without the blanks that fill up its lines."""
    console = out()
    with console.capture() as captured:
        console.print(value, highlight=False)
    write("\n".join(line.rstrip() for line in captured.get().splitlines()))


def list_on_the_way(rows: Iterable[tuple[str, str]]) -> None:
    """On standard error: headings, and under each what it is about, folded between words."""
    console = err()
    for heading, details in rows:
        console.print(Text(heading, style="bold"), highlight=False)
        console.print(Padding(Text(details), (0, 0, 0, 2)), highlight=False)


def is_narrow() -> bool:
    """Whether standard error has too few columns for a table with sentences in it."""
    return err().width < _ROOM_FOR_A_TABLE


def check_place(option: str, path: Path | None) -> None:
    """Before long work: raises InputError where no file could be written in the end."""
    if path is None:
        return
    if path.is_dir():
        raise InputError(f"{option} {path}: that is a folder; the name of a file is wanted")
    if not path.parent.is_dir():
        raise InputError(f"{option} {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{option} {path}: nothing can be written into {path.parent}")


def write_file(path: Path, text: str) -> None:
    """Puts `text` into a file that appears whole or not at all. Raises InputError where that cannot be."""
    try:
        write_whole(path, text.encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}).") from error


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _WIDE
    return Console(stderr=stderr, width=width)
