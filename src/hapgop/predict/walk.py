"""The pictures in a folder and below it, one walk for training and prediction alike, and what it passes over."""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hapgop.errors import InputError
from hapgop.predict.folder import CONFIG, WEIGHTS
from hapgop.predict.images import SUFFIXES
from hapgop.predict.kinds import BEGINNING, HEIC, begins_like_a_picture

_SEARCHED = SUFFIXES | HEIC
# What a run holds beside its config.json, finished or not.
_TRAINED = (WEIGHTS, "checkpoint.safetensors", "checkpoint.json")
# What Windows, Linux and Synology's system keep on their disks.
_SYSTEMS = frozenset({"system volume information", "$recycle.bin", "recycler", "lost+found", "@eadir", "#recycle"})
_NAMED = 3


class Found(NamedTuple):
    """A picture file: its path below the folder that was given, bytes, time of change in ns; -1 for a dead link."""

    path: str
    size: int
    mtime_ns: int


class Walk:
    """Finds pictures, by their suffix or, where there is none, by their first bytes; counts what it passes over.

    hidden: files and folders whose name begins with a dot, or __MACOSX, and the bins of systems and the like; stray:
    other files, by suffix; runs: folders that `hapgop train` made, which are not entered.
    """

    def __init__(self) -> None:
        self.hidden = 0
        self.stray: Counter[str] = Counter()
        self.runs: list[str] = []

    def notes(self) -> list[str]:
        """A sentence for each kind of thing that was passed over."""
        notes = []
        if self.hidden:
            notes.append(f"Ignored {self.hidden:,} hidden files and folders.")
        if self.stray:
            kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in self.stray.most_common(5))
            notes.append(f"Ignored {sum(self.stray.values()):,} stray files ({kinds}).")
        if self.runs:
            more = f" and {len(self.runs) - _NAMED:,} more" if len(self.runs) > _NAMED else ""
            notes.append(f"Not read, as trained nets are kept there: {', '.join(self.runs[:_NAMED])}{more}.")
        return notes

    def pictures(self, folder: str | os.PathLike[str]) -> Iterator[Found]:
        """The pictures in the folder and in the folders below it. Raises InputError where one cannot be read."""
        start = os.path.join(folder, "")
        below = [os.fspath(folder)]
        while below:
            for entry in self._entries(below.pop()):
                # A link to a folder might lead back up: links to files are followed, to folders not.
                if entry.is_dir(follow_symlinks=False):
                    if is_run(entry.path):
                        self.runs.append(entry.path)
                    else:
                        below.append(entry.path)
                elif (found := _found(entry, entry.path[len(start) :])) is not None:
                    yield found
                else:
                    self.stray[_kind(entry.name)] += 1

    def beside(self, folder: Path, known: list[Path]) -> None:
        """Counts what lies in the folder beside the folders that are known."""
        names = {path.name for path in known}
        for entry in self._entries(folder):
            if entry.name in names:
                continue
            if is_run(entry.path):
                self.runs.append(entry.path)
            else:
                self.stray[_kind(entry.name)] += 1

    def _entries(self, folder: str | Path) -> list[os.DirEntry[str]]:
        entries = _sorted(folder)
        shown = [entry for entry in entries if not _is_hidden(entry)]
        self.hidden += len(entries) - len(shown)
        return shown


def folders_in(folder: Path) -> list[Path]:
    """The folders in it that are neither hidden nor runs; links to folders count."""
    shown = [entry for entry in _sorted(folder) if not _is_hidden(entry)]
    return [folder / entry.name for entry in shown if _is_folder(entry) and not is_run(entry.path)]


def is_run(folder: str | os.PathLike[str]) -> bool:
    """Whether a training keeps its results in this folder."""
    return os.path.isfile(os.path.join(folder, CONFIG)) and any(
        os.path.isfile(os.path.join(folder, name)) for name in _TRAINED
    )


def holds_runs(folder: Path) -> bool:
    """Whether runs lie in this folder, as in the one called runs that a training makes."""
    return any(is_run(entry.path) for entry in _sorted(folder))


def _sorted(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder}: the folder cannot be read ({error.strerror}).") from error


def _is_hidden(entry: os.DirEntry[str]) -> bool:
    return entry.name.startswith((".", "__MACOSX")) or entry.name.lower() in _SYSTEMS


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Is it a folder, or a link to one? A link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _found(entry: os.DirEntry[str], path: str) -> Found | None:
    """The file if it is a picture; None for what is none: opening a pipe would wait for ever."""
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix and suffix not in _SEARCHED:
        return None
    try:
        status = entry.stat()
    except OSError:
        # A link to nothing: listed, so that it is skipped by name when it cannot be opened.
        return Found(path, -1, -1) if suffix else None
    if not stat.S_ISREG(status.st_mode) or not (suffix or _begins_like_a_picture(entry.path)):
        return None
    return Found(path, status.st_size, status.st_mtime_ns)


def _begins_like_a_picture(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return begins_like_a_picture(file.read(BEGINNING))
    except OSError:
        return False


def _kind(name: str) -> str:
    return os.path.splitext(name)[1].lower() or "without suffix"
