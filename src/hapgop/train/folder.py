"""What a folder of class folders holds: found by names alone, no file is opened here."""

import os
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hapgop.errors import InputError
from hapgop.predict import SUFFIXES

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


class Listed(NamedTuple):
    """One picture file: its path below the root (with /), split, class number, bytes, time of change in ns."""

    path: str
    split: str
    label: int
    size: int
    mtime_ns: int


@dataclass(frozen=True, eq=False)
class Listing:
    """All picture files below a root, sorted, and what was passed over.

    stray: other files by suffix; unread: folders beside train/, val/ and test/.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[Listed, ...]
    hidden: int
    stray: Counter[str]
    unread: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        """A sentence for each kind of file that was ignored."""
        notes = []
        if self.hidden:
            notes.append(f"Ignored {self.hidden:,} hidden files and folders.")
        if self.stray:
            kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in self.stray.most_common(5))
            notes.append(f"Ignored {sum(self.stray.values()):,} stray files ({kinds}).")
        if self.unread:
            notes.append(f"Not read, as they are no split: {', '.join(f'{name}/' for name in self.unread)}.")
        return notes


def listing(root: Path) -> Listing:
    """The class folders of `root`, or of its train/, val/ and test/; classes sorted by name.

    train/ splits the data where it holds folders itself; where it holds pictures, it is a class like any
    other. Raises InputError where there are no class folders, a class is empty, or there is only one.
    """
    root = Path(os.path.abspath(root))
    walk = _Walk(root)
    folders = walk.folders(root)
    splits = _splits(walk, folders)
    walk.stray_in(root, folders)
    unread: tuple[str, ...] = ()
    if splits is None:
        classes = tuple(sorted(folder.name for folder in folders))
        if not classes:
            raise InputError(_no_classes(walk, root))
        for folder in folders:
            walk.gather(folder, "train", classes.index(folder.name))
    else:
        inner = {name: walk.folders(folder) for name, folder in splits.items()}
        classes = tuple(sorted(folder.name for folder in inner["train"]))
        unread = tuple(sorted(folder.name for folder in folders if folder not in splits.values()))
        for name, folder in splits.items():
            walk.stray_in(folder, inner[name])
            for class_folder in inner[name]:
                if class_folder.name not in classes:
                    raise InputError(
                        f"{class_folder}: class {class_folder.name!r} has no folder in {splits['train']}/,"
                        " so it cannot be learned."
                    )
                walk.gather(class_folder, name, classes.index(class_folder.name))
    _check(walk, root, classes, splits)
    return Listing(root, classes, tuple(sorted(walk.files)), walk.hidden, walk.stray, unread)


class _Walk:
    """Collects files and counts what it passes over."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: list[Listed] = []
        self.hidden = 0
        self.stray: Counter[str] = Counter()

    def entries(self, folder: str | Path) -> list[os.DirEntry[str]]:
        """What lies in the folder and is not hidden, sorted."""
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"{folder}: the folder cannot be read ({error.strerror}).") from error
        shown = [entry for entry in entries if not entry.name.startswith((".", "__MACOSX"))]
        self.hidden += len(entries) - len(shown)
        return shown

    def folders(self, folder: Path) -> list[Path]:
        """The folders in it, without counting anything."""
        hidden = self.hidden
        found = [folder / entry.name for entry in self.entries(folder) if _is_folder(entry)]
        self.hidden = hidden
        return found

    def stray_in(self, folder: Path, known: list[Path]) -> None:
        """Counts what lies beside the folders that are known."""
        names = {path.name for path in known}
        for entry in self.entries(folder):
            if entry.name not in names:
                self.stray[_kind(entry.name)] += 1

    def gather(self, folder: Path, split: str, label: int) -> None:
        """The pictures in the folder and in the folders below it."""
        below = [str(folder)]
        start = len(os.path.join(self.root, ""))
        while below:
            for entry in self.entries(below.pop()):
                # A link to a folder might lead back up: links to files are followed, to folders not.
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.path)
                elif _is_folder(entry) or os.path.splitext(entry.name)[1].lower() not in SUFFIXES:
                    self.stray[_kind(entry.name)] += 1
                elif (listed := self._listed(entry, entry.path[start:], split, label)) is not None:
                    self.files.append(listed)
                else:
                    self.stray[_kind(entry.name)] += 1

    def _listed(self, entry: os.DirEntry[str], path: str, split: str, label: int) -> Listed | None:
        """A file; None for what is none: opening a pipe would wait for ever."""
        try:
            status = entry.stat()
        except OSError:
            # A link to nothing: listed, so that it is skipped by name when it cannot be opened.
            return Listed(path.replace(os.sep, "/"), split, label, -1, -1)
        if not stat.S_ISREG(status.st_mode):
            return None
        return Listed(path.replace(os.sep, "/"), split, label, status.st_size, status.st_mtime_ns)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Is it a folder, or a link to one? A link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _splits(walk: _Walk, folders: list[Path]) -> dict[str, Path] | None:
    """The folders of the splits by split, or None where the root holds the classes themselves."""
    splits: dict[str, Path] = {}
    for folder in folders:
        name = _SPLIT_NAMES.get(folder.name.lower())
        if name is not None:
            if name in splits:
                raise InputError(f"{splits[name]} and {folder} could both be the {name} split. Keep one.")
            splits[name] = folder
    if "train" in splits and walk.folders(splits["train"]):
        return splits
    if splits and len(splits) == len(folders):
        if "train" in splits:
            raise InputError(f"{splits['train']} holds no class folders, one for each class of pictures.")
        raise InputError(f"{walk.root} has no train/ folder beside {', '.join(path.name for path in folders)}/.")
    return None


def _check(walk: _Walk, root: Path, classes: tuple[str, ...], splits: dict[str, Path] | None) -> None:
    home = root if splits is None else splits["train"]
    filled = {file.label for file in walk.files if file.split == "train"}
    empty = [name for number, name in enumerate(classes) if number not in filled]
    if empty and len(empty) == len(classes):
        deeper = [f"{folder}/{name}" for folder, name in ((home, name) for name in classes)]
        hint = f" Give {deeper[0]} if that holds the class folders." if len(deeper) == 1 else ""
        raise InputError(f"{home}: no pictures in {_some(classes)}.{hint}")
    if empty:
        raise InputError(
            f"{home}: class {_some(empty)} has no pictures. Put some there, or take the folder away."
            f" Read are {', '.join(sorted(SUFFIXES))}."
        )
    if len(classes) == 1:
        inside = walk.folders(home / classes[0])
        hint = f" Give {home / classes[0]} if that holds the class folders." if len(inside) > 1 else ""
        raise InputError(
            f"{home}: only one class, {classes[0]!r}. A classifier tells classes apart:"
            f" one folder of pictures for each of two classes or more.{hint}"
        )


def _no_classes(walk: _Walk, root: Path) -> str:
    pictures = sum(count for kind, count in walk.stray.items() if kind in SUFFIXES)
    there = f"{pictures:,} pictures, but no folders" if pictures else "no folders"
    return f"{root}: {there}. Wanted is one folder of pictures for each class, as {root.name}/cat and {root.name}/dog."


def _some(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(repr(name) for name in names[:5]) + more


def _kind(name: str) -> str:
    return os.path.splitext(name)[1].lower() or "without suffix"
