"""The pictures of a folder, decoded once and kept as one memory-mapped array."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from hapgop.errors import InputError
from hapgop.files import write_whole
from hapgop.predict import open_image
from hapgop.predict.images import MachineTrouble
from hapgop.predict.kinds import HEIC
from hapgop.train import worker, workers
from hapgop.train.folder import Listing
from hapgop.train.progress import Progress, Reading
from hapgop.train.shaping import Shaping

# The array, the sizes and the rules by which pictures were made fit: raise it when any of them changes.
_FORMAT = 4
_LIMIT = 16 << 30
_ABANDONED = 24 * 3600.0
_SUGGESTED_SIDE = 128
_SIDE_STEP = 8
# A quarter of the range, and so of the greys.
_DARK_BITS = 14


@dataclass(frozen=True, eq=False)
class Decoded:
    """The pictures of a listing: row i of pixels is file i, unless `unreadable` says why not.

    sizes: how many pictures had which (height, width); modes: how many were grey, coloured, with transparency and so
    on, by Pillow's names; "I;12" are those of deep grey, where none is brighter than 12 of 16 bits.
    several: how many have more pages or frames than one. again: those of the unreadable that another try may open.
    """

    pixels: NDArray[np.uint8]
    unreadable: dict[int, str]
    sizes: Counter[tuple[int, int]]
    modes: Counter[str]
    several: int
    again: tuple[int, ...]

    def notes(self) -> list[str]:
        """A sentence where something of the files was not used."""
        if not self.several:
            return []
        return [f"{self.several:,} pictures have several pages or frames: the first is used, the others are not."]


def decoded(listing: Listing, shaping: Shaping, progress: Progress, *, retry: bool = True) -> Decoded:
    """The pictures at one size, from the cache, or decoded into it now.

    They suggest `suggested_size`, and 1 channel where all are grey, 3 elsewhere. The cache is
    $HAPGOP_CACHE or ~/.cache/hapgop; an entry belongs to the paths, sizes and times of change of all files, and
    the entries used longest ago make room. retry: whether an entry is made again where something that the machine kept
    from being read can be read now. Raises InputError where the cache cannot be written, or holds no more.
    """
    home, key = _home(), _key(listing, shaping)
    entry = home / key
    found = _current(entry, listing) if retry else _opened(entry)
    if found is not None:
        return found
    home = _made(home)
    try:
        scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=home))
        try:
            _fill(scratch, listing, shaping, progress)
            _put(scratch, entry, listing)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"{home}: the decoded pictures cannot be kept there ({error.strerror or error})."
            " HAPGOP_CACHE names another folder."
        ) from error
    _make_room(home, entry)
    found = _opened(entry)
    if found is None:
        raise InputError(f"{entry}: the decoded pictures vanished while they were being opened.")
    return found


def _put(scratch: Path, entry: Path, listing: Listing) -> None:
    try:
        scratch.rename(entry)
    except OSError:
        # Somebody else has made the same entry at the same time: theirs is as good, and perhaps in use.
        if _current(entry, listing) is None:
            shutil.rmtree(entry, ignore_errors=True)
            scratch.rename(entry)


def suggested_size(sizes: Counter[tuple[int, int]]) -> tuple[int, int]:
    """The (height, width) that all pictures are given, by how many had which.

    Pictures of one size keep it, up to a shorter side of 128; larger ones shrink to that, as a CPU pays for each
    pixel. Of different sizes, all become squares: the median shorter side, a multiple of 8, at most 128.

    >>> suggested_size(Counter({(28, 28): 10})), suggested_size(Counter({(480, 640): 9, (300, 200): 9}))
    ((28, 28), (128, 128))
    """
    if len(sizes) == 1:
        height, width = next(iter(sizes))
        shorter = min(height, width)
        if shorter <= _SUGGESTED_SIDE:
            return height, width
        scale = _SUGGESTED_SIDE / shorter
        return _stepped(height * scale), _stepped(width * scale)
    shorter_sides = sorted(min(size) for size in sizes.elements())
    side = min(_stepped(shorter_sides[len(shorter_sides) // 2]), _SUGGESTED_SIDE)
    return side, side


def _stepped(side: float) -> int:
    return max(_SIDE_STEP, round(side / _SIDE_STEP) * _SIDE_STEP)


def _fill(scratch: Path, listing: Listing, shaping: Shaping, progress: Progress) -> None:
    paths = [os.path.join(listing.root, file.path) for file in listing.files]
    total = len(paths)
    bytes_in_all = sum(file.size for file in listing.files)
    unreadable: dict[int, dict[str, Any]] = {}
    measured: dict[int, tuple[int, int, str, bool]] = {}
    # What was registered in this process, no other one knows.
    processes = 1 if _plugins(listing) else None
    job: dict[str, Any] = {"kind": "measure", "items": list(enumerate(paths))}
    for number, answer in _told("measuring", workers.answers(job, bytes_in_all, processes), total, progress):
        if isinstance(answer, dict):
            unreadable[number] = answer
        else:
            height, width, mode, several = answer
            measured[number] = height, width, mode, several
    sizes = Counter((height, width) for height, width, _, _ in measured.values())
    grey = all(worker.is_grey(mode) for _, _, mode, _ in measured.values())
    rules = shaping.rules(suggested_size(sizes) if sizes else (_SIDE_STEP, _SIDE_STEP), 1 if grey else 3)
    shape = (total, *rules.size, rules.channels)
    _check_space(scratch, shape)
    array = scratch / "images.npy"
    np.lib.format.open_memmap(array, mode="w+", dtype=np.uint8, shape=shape).flush()
    _reserve(array)
    items = [(number, paths[number]) for number in sorted(measured)]
    job = {"kind": "decode", "items": items, "array": str(array), "preprocessing": rules.to_json()}
    for number, answer in _told("decoding", workers.answers(job, bytes_in_all, processes), len(items), progress):
        if answer is not None:
            unreadable[number] = answer
            height, width, _, _ = measured[number]
            sizes[height, width] -= 1
            del measured[number]
    index = {
        "unreadable": {number: answer["unreadable"] for number, answer in unreadable.items()},
        "again": [number for number, answer in unreadable.items() if answer["again"]],
        "sizes": [[height, width, count] for (height, width), count in sizes.items() if count],
        "modes": _modes(array, {number: mode for number, (_, _, mode, _) in measured.items()}),
        "several": sum(several for _, _, _, several in measured.values()),
    }
    # The pixels first: after a loss of power, no index tells of pixels that were never on the disk.
    with array.open("r+b") as file:
        os.fsync(file.fileno())
    write_whole(scratch / "index.json", json.dumps(index).encode())


def _reserve(array: Path) -> None:
    """The whole file gets its place on the disk now: later, a full disk would kill whoever writes into the mapping."""
    if not hasattr(os, "posix_fallocate"):
        return
    with array.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, array.stat().st_size)
        except OSError as error:
            # Some file systems know no reserving.
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise


def _modes(array: Path, modes: Mapping[int, str]) -> Counter[str]:
    """How many pictures have which mode; all of deep grey that stay dark are called after the bits that they use."""
    deep = [number for number, mode in modes.items() if mode.startswith("I")]
    if not deep:
        return Counter(modes.values())
    pixels = np.load(array, mmap_mode="r")
    brightest = max(int(pixels[number].max()) for number in deep)
    bits = next(bits for bits in range(8, 17) if brightest <= round((2**bits - 1) / 257))
    dark = f"I;{bits}" if bits <= _DARK_BITS else None
    return Counter((dark or mode) if mode.startswith("I") else mode for mode in modes.values())


def _plugins(listing: Listing) -> list[str]:
    """The suffixes among the files that Pillow reads by a plugin which the user has registered."""
    found = {os.path.splitext(file.path)[1].lower() for file in listing.files} & HEIC
    return sorted(found & set(Image.registered_extensions())) if found else []


def _told(
    stage: str, chunks: Iterable[list[tuple[int, Any]]], total: int, progress: Progress
) -> Iterable[tuple[int, Any]]:
    done = 0
    for chunk in chunks:
        yield from chunk
        done += len(chunk)
        progress(Reading(stage, done, total))


def _home() -> Path:
    set_by_user = os.environ.get("HAPGOP_CACHE")
    try:
        home = Path(set_by_user).expanduser() if set_by_user else Path.home() / ".cache" / "hapgop"
    except RuntimeError:
        raise InputError("There is no home to keep decoded pictures in. HAPGOP_CACHE=FOLDER names a place.") from None
    return home / "images"


def _made(home: Path) -> Path:
    try:
        home.mkdir(parents=True, exist_ok=True)
        for scratch in home.glob(".partial-*"):
            # What a killed process left behind; a younger one may still be at work, or just have put its own in place.
            with suppress(FileNotFoundError):
                if time.time() - scratch.stat().st_mtime > _ABANDONED:
                    shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"{home}: this folder for decoded pictures cannot be made ({error.strerror}). HAPGOP_CACHE names another."
        ) from error
    return home


def _key(listing: Listing, shaping: Shaping) -> str:
    """Two parts: of the folder and the settings, and of everything that the files can show of a change."""
    settings = repr((_FORMAT, PIL.__version__, str(listing.root), *astuple(shaping), _plugins(listing)))
    place = hashlib.sha256(settings.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    files = "\n".join(f"{file.path}\0{file.size}\0{file.mtime_ns}" for file in listing.files)
    return f"{place}-{hashlib.sha256(files.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"


def _current(entry: Path, listing: Listing) -> Decoded | None:
    """The entry, unless something in it that the machine kept from being read answers otherwise now."""
    found = _opened(entry)
    if found is None:
        return None
    paths = [os.path.join(listing.root, listing.files[number].path) for number in found.again]
    return found if all(map(_in_trouble, paths)) else None


def _in_trouble(path: str) -> bool:
    try:
        open_image(path)
    except InputError as error:
        return isinstance(error, MachineTrouble)
    return False


def _opened(entry: Path) -> Decoded | None:
    try:
        index = json.loads((entry / "index.json").read_text())
        pixels = np.load(entry / "images.npy", mmap_mode="r", allow_pickle=False)
        # The time of the last use, by which room is made. What may only be read is as good.
        with suppress(OSError):
            os.utime(entry / "index.json")
        return Decoded(
            pixels=pixels,
            unreadable={int(number): reason for number, reason in index["unreadable"].items()},
            sizes=Counter({(height, width): count for height, width, count in index["sizes"]}),
            modes=Counter(index["modes"]),
            several=index["several"],
            # Entries of earlier versions do not say it, and are made again.
            again=tuple(index["again"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_space(scratch: Path, shape: tuple[int, ...]) -> None:
    wanted, free = int(np.prod(shape, dtype=object)), shutil.disk_usage(scratch).free
    if wanted > free:
        raise InputError(
            f"{shape[0]:,} pictures of {shape[1]}x{shape[2]} need {wanted / 1e9:.1f} GB in {scratch.parent}, where"
            f" {free / 1e9:.1f} GB are free. A smaller size works, or another folder in HAPGOP_CACHE."
        )


def _make_room(home: Path, kept: Path) -> None:
    """Drops what `kept` replaces, then the entries used longest ago, until the cache is within its limit."""
    entries = []
    for entry in home.iterdir():
        try:
            used = (entry / "index.json").stat().st_mtime
            size = (entry / "images.npy").stat().st_size
        except OSError:
            continue
        if entry != kept and entry.name.split("-")[0] == kept.name.split("-")[0]:
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entries.append((entry == kept, used, size, entry))
    total = sum(size for _, _, size, _ in entries)
    for keep, _, size, entry in sorted(entries):
        if total <= _LIMIT or keep:
            break
        shutil.rmtree(entry, ignore_errors=True)
        total -= size
