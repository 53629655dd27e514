"""What a folder of class folders holds: found by names, and by first bytes where a name does not tell."""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hapgop.errors import InputError
from hapgop.predict import SUFFIXES
from hapgop.predict.walk import Found, Walk, folders_in, holds_runs, is_run

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
# What else stands in such a name, which is read by its letters alone: training_set, seg_train, test-images, val2017.
_BESIDE = re.compile("^(?:set|data|images|imgs|seg)+|(?:set|data|images|imgs|seg)+$")
_NAMED = 5


class Listed(NamedTuple):
    """One picture file: its path below the root (with /), split, class number, bytes, time of change in ns."""

    path: str
    split: str
    label: int
    size: int
    mtime_ns: int


@dataclass(frozen=True, eq=False)
class Listing:
    """All picture files below a root, sorted, and sentences on what was passed over.

    classes: the folders' names, composed (NFC): macOS writes é as two characters, others as one. unread: folders
    beside train/, val/ and test/. doubts: sentences on what may have been meant otherwise.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[Listed, ...]
    passed_over: tuple[str, ...]
    unread: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        """A sentence for each kind of file that was ignored."""
        notes = list(self.passed_over)
        if self.unread:
            notes.append(f"Not read, as they are no split: {', '.join(f'{name}/' for name in self.unread)}.")
        return notes


def listing(root: Path, *, to_learn: bool = True) -> Listing:
    """The class folders of `root`, or of its train/, val/ and test/; classes sorted by name.

    train/ splits the data where it holds folders itself; where it holds pictures, it is a class like any
    other. training_set/, seg_test/ and the like are splits too. A folder of runs, as a training makes it, is no class.
    Raises InputError where there are no class folders, a class is empty, or there is only one. to_learn False: any
    picture in a class folder will do; empty folders are left out.
    """
    root = Path(os.path.abspath(root))
    walk = Walk()
    folders = folders_in(root)
    splits = _splits(root, folders, to_learn)
    unread: list[str] = []
    divided = splits is not None
    if splits is None:
        splits = {"train": root}
    else:
        walk.beside(root, folders)
        others = [folder for folder in folders if folder not in splits.values()]
        walk.runs += [str(folder) for folder in others if holds_runs(folder)]
        unread = sorted(folder.name for folder in others if not holds_runs(folder))
    gathered: list[_Gathered] = []
    for split, home in splits.items():
        inner = folders_in(home)
        walk.beside(home, inner)
        for name, folder in _named(inner):
            pictures = _pictures(walk, folder)
            if pictures is not None:
                gathered.append(_Gathered(split, name, folder, pictures))
    walk.runs = sorted(f"{os.path.relpath(run, root)}/".replace(os.sep, "/") for run in walk.runs)
    _check(walk, root, splits, gathered, to_learn)
    telling = (part for part in gathered if (part.split == "train" if to_learn else part.pictures))
    classes = tuple(sorted({part.name for part in telling}))
    files = [listed for part in gathered if part.pictures for listed in _listed(part, root, classes.index(part.name))]
    doubts = [] if divided else _doubts(gathered)
    return Listing(root, classes, tuple(sorted(files)), tuple(walk.notes()), tuple(unread), tuple(doubts))


class _Gathered(NamedTuple):
    """What one class folder holds."""

    split: str
    name: str
    folder: Path
    pictures: list[Found]


def _doubts(gathered: list[_Gathered]) -> list[str]:
    """A sentence where classes hold the same folders and no picture beside them, as splits of an unknown name do."""
    nested = [part for part in gathered if part.pictures and all(os.sep in found.path for found in part.pictures)]
    inner = {frozenset(found.path.split(os.sep, 1)[0] for found in part.pictures) for part in nested}
    if len(nested) < 2 or len(inner) > 1 or len(names := sorted(next(iter(inner)))) < 2:
        return []
    folders = _first([f"{part.name}/" for part in nested])
    return [
        f"{', '.join(folders[:-1])} and {folders[-1]} hold the same folders ({', '.join(_first(names))}), and each"
        " counts as one class. If they are splits, call them train/ and test/."
    ]


def _listed(part: _Gathered, root: Path, label: int) -> Iterator[Listed]:
    start = "/".join(part.folder.relative_to(root).parts)
    for path, size, mtime_ns in part.pictures:
        yield Listed(f"{start}/{path}".replace(os.sep, "/"), part.split, label, size, mtime_ns)


def _named(folders: Iterable[Path]) -> list[tuple[str, Path]]:
    """The folders by the classes that they are called after, sorted."""
    named: dict[str, Path] = {}
    for folder in folders:
        name = unicodedata.normalize("NFC", folder.name)
        if name in named:
            raise InputError(
                f"{folder.parent}: two folders are called {name!r}; they differ only in how Unicode writes it."
                " Put their pictures into one of them."
            )
        named[name] = folder
    return sorted(named.items())


def _pictures(walk: Walk, folder: Path) -> list[Found] | None:
    """The pictures of a class; None where there are runs in place of pictures, so that it is none."""
    before = len(walk.runs)
    pictures = list(walk.pictures(folder))
    if pictures or len(walk.runs) == before:
        return pictures
    walk.runs[before:] = [str(folder)]
    return None


def set_aside(root: Path) -> Path | None:
    """The folder of the pictures that judge a net trained on `root`: of testing, else of validation, if there is one.

    Raises InputError where the root cannot be read, or two folders could be the same split.
    """
    splits = _splits(root, folders_in(root), to_learn=False) or {}
    return splits.get("test") or splits.get("validation")


def _splits(root: Path, folders: list[Path], to_learn: bool) -> dict[str, Path] | None:
    """The folders of the splits by split, or None where the root holds the classes themselves."""
    found: dict[str, list[Path]] = {}
    for folder in folders:
        if (name := _split_name(folder.name)) is not None:
            found.setdefault(name, []).append(folder)
    # Beside train/, train_images/ is something else.
    found = {name: [one for one in some if one.name.lower() in _SPLIT_NAMES] or some for name, some in found.items()}
    known = [folder for some in found.values() for folder in some]
    learnable = any(folders_in(folder) for folder in found.get("train", ()))
    if not learnable:
        if not found or not all(folder in known or holds_runs(folder) for folder in folders):
            return None
        # Where they hold pictures themselves, test1/ and test2/ are classes like any others.
        if len(known) > len(found) and not any(folders_in(folder) for folder in known):
            return None
    for name, some in found.items():
        if len(some) > 1:
            raise InputError(f"{some[0]} and {some[1]} could both be the {name} split. Keep one.")
    splits = {name: some[0] for name, some in found.items()}
    if learnable:
        return splits
    if not to_learn:
        return splits if any(folders_in(folder) for folder in splits.values()) else None
    if "train" in splits:
        raise InputError(f"{splits['train']} holds no class folders, one for each class of pictures.")
    raise InputError(f"{root} has no train/ folder beside {', '.join(path.name for path in splits.values())}/.")


def _split_name(folder: str) -> str | None:
    """Which split a folder of this name holds, if it is one."""
    letters = "".join(filter(str.isalpha, folder.lower()))
    return _SPLIT_NAMES.get(_BESIDE.sub("", letters))


def _check(walk: Walk, root: Path, splits: dict[str, Path], gathered: list[_Gathered], to_learn: bool) -> None:
    filled = any(part.pictures for part in gathered)
    if not filled and is_run(root):
        raise InputError(f"{root}: a run, where a trained net is kept, and no data. {_wanted(root)}")
    if not gathered:
        raise InputError(_no_classes(walk, root))
    if to_learn:
        _check_classes(splits["train"], gathered)
    elif not filled:
        raise InputError(f"{root}: no pictures in {_some([part.name for part in gathered])}.")


def _check_classes(home: Path, gathered: list[_Gathered]) -> None:
    classes = [part for part in gathered if part.split == "train"]
    empty = [part.name for part in classes if not part.pictures]
    if len(empty) == len(classes):
        hint = f" Give {classes[0].folder} if that holds the class folders." if len(classes) == 1 else ""
        raise InputError(f"{home}: no pictures in {_some(empty)}.{hint}")
    if empty:
        raise InputError(
            f"{home}: class {_some(empty)} has no pictures. Put some there, or take the folder away."
            f" Read are {', '.join(sorted(SUFFIXES))}."
        )
    if len(classes) == 1:
        name, folder = classes[0].name, classes[0].folder
        hint = f" Give {folder} if that holds the class folders." if len(folders_in(folder)) > 1 else ""
        raise InputError(
            f"{home}: only one class, {name!r}. A classifier tells classes apart:"
            f" one folder of pictures for each of two classes or more.{hint}"
        )
    known = {part.name for part in classes}
    for part in gathered:
        if part.name not in known:
            raise InputError(f"{part.folder}: class {part.name!r} has no folder in {home}/, so it cannot be learned.")


def _no_classes(walk: Walk, root: Path) -> str:
    pictures = sum(count for kind, count in walk.stray.items() if kind in SUFFIXES)
    there = f"{pictures:,} pictures, but no folders" if pictures else "no folders"
    others = f" but {', '.join(walk.runs)}, where trained nets are kept" if walk.runs and not pictures else ""
    return f"{root}: {there}{others}. {_wanted(root)}"


def _wanted(root: Path) -> str:
    return f"Wanted is one folder of pictures for each class, as {root.name}/cat and {root.name}/dog."


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(repr(name) for name in names[:_NAMED]) + more


def _first(names: list[str]) -> list[str]:
    return names if len(names) <= _NAMED else [*names[:_NAMED], f"{len(names) - _NAMED:,} more"]
