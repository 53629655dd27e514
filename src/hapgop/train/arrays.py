"""Data sets that are arrays: scikit-learn's digits, IDX files as MNIST's, NumPy's .npz."""

import gzip
import importlib
import re
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from hapgop.errors import InputError
from hapgop.train.data import Split

_IDX_NAME = re.compile(r"^(?P<set>.*?)[-.]?(?P<what>images|labels)[-.]idx(?P<dims>\d)[-.]ubyte(?P<gz>\.gz)?$")
_IDX_UBYTE = 0x08
_NAMED = 5
_NPZ_KEYS = {"train": ("x_train", "y_train"), "validation": ("x_val", "y_val"), "test": ("x_test", "y_test")}

Parts = tuple[tuple[str, ...], dict[str, Split]]


def digits() -> Parts:
    """scikit-learn's 1,797 handwritten digits, 8x8 grey; 0 to 16 becomes 0 to 255."""
    # Fetched here, as nothing else needs it: its import takes longer than all others but PyTorch's.
    bunch = importlib.import_module("sklearn.datasets").load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return tuple(str(name) for name in bunch.target_names), {"train": _split(pixels, bunch.target, "digits")}


def is_idx(folder: Path) -> bool:
    """Whether the folder holds IDX images."""
    return any(_what(path) == "images" for path in folder.iterdir() if path.is_file())


def idx(folder: Path) -> Parts:
    """The IDX files of a folder, train-* and t10k-* (or test-*), or one of both, .gz or not, as images and labels.

    Raises InputError naming the file that is missing, truncated or of another kind.
    """
    found: dict[str, dict[str, Path]] = {"train": {}, "test": {}}
    for path in sorted(folder.iterdir()):
        match = _IDX_NAME.match(path.name)
        if match is None or not path.is_file():
            continue
        files = found["train" if "train" in match["set"].lower() else "test"]
        other = files.setdefault(match["what"], path)
        # The same file packed and unpacked is no trouble: the first is as good as the second.
        if other.name.removesuffix(".gz") != path.name.removesuffix(".gz"):
            raise InputError(
                f"{folder}: both {other.name} and {path.name} could be meant. Keep one data set in a folder."
            )
    splits = {}
    for name, files in found.items():
        if not files:
            continue
        for what in ("images", "labels"):
            if what not in files:
                prefix = "train" if name == "train" else "t10k"
                dims = 3 if what == "images" else 1
                raise InputError(f"{folder}: {prefix}-{what}-idx{dims}-ubyte[.gz] is missing.")
        images, labels = read_idx(files["images"]), read_idx(files["labels"])
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise InputError(
                f"{files['images']} holds an array {images.shape} and {files['labels'].name} one of"
                f" {labels.shape}; wanted are (n, h, w) images and (n,) labels."
            )
        stem = files["images"].name.split(".")[0]
        splits[name] = _split(images[..., None], labels, stem)
    return _numbered(str(folder), splits), splits


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes (yann.lecun.com/exdb/mnist describes the format).

    Raises InputError where the file is cut off, too long or of another type.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be unpacked ({error}).") from error
    if len(content) < 4 or content[:2] != b"\0\0":
        raise InputError(f"{path}: not an IDX file; those begin with two zero bytes.")
    kind, dims = content[2], content[3]
    if kind != _IDX_UBYTE:
        raise InputError(f"{path}: an IDX file of type 0x{kind:02x}; only unsigned bytes (0x08) can be read.")
    start = 4 + 4 * dims
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], ">u4")) if len(content) >= start else ()
    wanted = start + int(np.prod(shape, dtype=object))
    if len(shape) != dims or len(content) != wanted:
        raise InputError(f"{path}: {len(content):,} bytes, but its header promises {wanted:,}: damaged or cut off.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def npz(path: Path) -> Parts:
    """x, y (or any of x_train, y_train, x_val, y_val, x_test, y_test) of a NumPy archive.

    x: (n, h, w), (n, h, w, c) or (n, c, h, w) with 1 or 3 channels; uint8, other integers from 0 to 255, or
    floats from 0 to 1 or 0 to 255. y: (n,) or (n, 1), numbers from 0 or names. An array `classes` may name
    the numbers, each differently. Raises InputError on anything else.
    """
    arrays = _archive(path)
    keys = {name: pair for name, pair in _NPZ_KEYS.items() if pair[0] in arrays}
    if "x" in arrays:
        keys.setdefault("train", ("x", "y"))
    if not keys:
        there = ", ".join(sorted(arrays)) or "none"
        raise InputError(f"{path}: wanted are arrays x and y, or x_train and y_train; there are {there}.")
    raw: dict[str, tuple[NDArray[np.uint8], NDArray[Any]]] = {}
    for name, (x, y) in keys.items():
        if y not in arrays:
            raise InputError(f"{path}: there is {x}, but no {y} with its labels.")
        images, labels = _images(f"{path}, {x}", arrays[x]), _labels(f"{path}, {y}", arrays[y])
        if len(images) != len(labels):
            raise InputError(f"{path}: {len(images):,} images in {x}, but {len(labels):,} labels in {y}.")
        raw[name] = images, labels
    classes = _names(path, arrays.get("classes"), [labels for _, labels in raw.values()])
    splits = {}
    for name, (images, labels) in raw.items():
        if labels.dtype.kind == "U":
            order = {label: position for position, label in enumerate(classes)}
            labels = np.array([order[label] for label in labels.tolist()])
        splits[name] = _split(images, labels, keys[name][0])
    shapes = {split.pixels.shape[1:] for split in splits.values()}
    if len(shapes) > 1:
        listed = " and ".join(str(shape) for shape in sorted(shapes))
        raise InputError(f"{path}: the splits hold images of {listed}; all must have one size.")
    return classes or _numbered(str(path), splits), splits


def _archive(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path}: one array; an .npz archive with x and y is wanted.")
            return {name: archive[name] for name in archive.files}
    except InputError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        hint = " Object arrays are pickles, which are never opened." if "pickle" in str(error) else ""
        raise InputError(f"{path}: cannot be read as an .npz archive ({error}).{hint}") from error


def _images(where: str, x: NDArray[Any]) -> NDArray[np.uint8]:
    if x.ndim == 3:
        x = x[..., None]
    elif x.ndim == 4 and x.shape[3] not in (1, 3) and x.shape[1] in (1, 3):
        x = x.transpose(0, 2, 3, 1)
    if x.ndim != 4 or x.shape[3] not in (1, 3) or x.size == 0:
        raise InputError(
            f"{where}: shape {x.shape}; wanted is (n, h, w), (n, h, w, c) or (n, c, h, w) with c = 1 or 3."
        )
    if x.dtype == np.uint8:
        return np.ascontiguousarray(x)
    if x.dtype.kind not in "fiu":
        raise InputError(f"{where}: type {x.dtype}; wanted are uint8 or floats.")
    low, high = float(x.min()), float(x.max())
    if not (low >= 0 and high <= 255):
        raise InputError(
            f"{where}: values from {low:g} to {high:g}; wanted are 0 to 1 or 0 to 255, not normalised ones."
        )
    # No pictures of 0 to 255 are that dark: a little above 1 is what resampling has left.
    scale = 255 if x.dtype.kind == "f" and high < 2 else 1
    return np.ascontiguousarray(np.clip(np.rint(x * scale), 0, 255).astype(np.uint8))


def _labels(where: str, y: NDArray[Any]) -> NDArray[Any]:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        hint = " One-hot rows become numbers by y.argmax(1)." if y.ndim == 2 else ""
        raise InputError(f"{where}: shape {y.shape}; wanted is (n,), one label for each image.{hint}")
    if y.dtype.kind == "f" and np.all(y == np.floor(y)):
        y = y.astype(np.int64)
    if y.dtype.kind not in "iuU":
        raise InputError(f"{where}: type {y.dtype}; wanted are whole numbers from 0, or names.")
    if y.dtype.kind in "iu" and len(y) and int(y.min()) < 0:
        raise InputError(f"{where}: labels from {int(y.min())}; wanted are whole numbers from 0.")
    # The same letters can be written in two ways; names are compared and kept in one.
    return np.array([normalize("NFC", name) for name in y.tolist()]) if y.dtype.kind == "U" and len(y) else y


def _names(path: Path, given: NDArray[Any] | None, labels: list[NDArray[Any]]) -> tuple[str, ...]:
    """The classes' names, where the archive has any: its `classes`, or the labels themselves."""
    kinds = {label.dtype.kind == "U" for label in labels}
    if len(kinds) > 1:
        raise InputError(f"{path}: some labels are numbers and some are names; one kind is wanted.")
    if kinds == {True}:
        return tuple(sorted({str(label) for array in labels for label in array.tolist()}))
    if given is None:
        return ()
    most = max(int(array.max(initial=0)) for array in labels)
    if given.ndim != 1 or len(given) <= most:
        raise InputError(f"{path}: classes has the shape {given.shape}, but labels go up to {most}.")
    names = tuple(normalize("NFC", str(name)) for name in given.tolist())
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        more = f" and {len(twice) - _NAMED:,} more" if len(twice) > _NAMED else ""
        raise InputError(
            f"{path}: classes has {', '.join(map(repr, twice[:_NAMED]))}{more} more than once. Each class needs a name"
            " of its own, such as 'crane (bird)'."
        )
    return names


def _numbered(where: str, splits: dict[str, Split]) -> tuple[str, ...]:
    most = max(int(split.labels.max(initial=-1)) for split in splits.values())
    if most >= 1_000_000:
        raise InputError(f"{where}: a label of {most:,}; labels count the classes from 0.")
    return tuple(str(number) for number in range(most + 1))


def _split(pixels: NDArray[np.uint8], labels: NDArray[Any], stem: str) -> Split:
    count = len(labels)
    names = tuple(f"{stem}[{position}]" for position in range(count))
    return Split(pixels, np.arange(count), np.asarray(labels).astype(np.int64), names)


def _what(path: Path) -> str | None:
    match = _IDX_NAME.match(path.name)
    return match["what"] if match else None
