"""What was measured, kept on disk beside the compiled kernels: no machine measures the same thing twice.

One small file for each generator and machine. It is written beside and renamed, under a lock where the system has
file locks, so that several processes can add to it; one that cannot be read counts as empty and is written anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from hapgop.engine.compiled import generator
from hapgop.files import write_whole
from hapgop.machine import Machine
from hapgop.native import Lock, cache_folder, identity

if sys.platform != "win32":
    import fcntl

_MOST = 2048  # choices in a file, of some hundred bytes each
_FILES = 8  # other generators' and machines'
_FORMAT = 1

Times = Mapping[str, float]


class Choices:
    """Seconds by name, for each key that was measured. Safe from several threads and processes.

    The first who measures decides: whoever comes later takes what is kept, so that results do not depend on who came.
    path: None where there is no place to keep anything.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._kept: dict[str, dict[str, float]] = {}
        self._seen: tuple[int, int] | None = None
        self._lock = Lock()

    def get(self, key: str) -> Times | None:
        """What was measured under a key, by this process or another one."""
        if self._lock.mine():  # in a signal's handler, here and below: it does without
            return None
        with self._lock:
            self._look()
            return self._kept.get(_short(key))

    def put(self, key: str, times: Times) -> Times | None:
        """Keeps what was measured, and returns what is kept: the first one's. None where nothing can be kept."""
        if self._lock.mine():
            return None
        with self._lock, contextlib.suppress(OSError), _alone(self.path):
            self._look()
            before, self._kept = self._kept, dict(self._kept)
            try:
                kept = self._kept.setdefault(_short(key), dict(times))
                while len(self._kept) > _MOST:
                    del self._kept[next(iter(self._kept))]
                self._write()
            except OSError:
                self._kept = before  # what could not be kept must not decide later either
                raise
            return kept
        return None

    def writable(self) -> bool:
        """Whether anything can be kept."""
        if self._lock.mine():
            return False
        try:
            with self._lock, _alone(self.path):
                return True
        except OSError:
            return False

    def _look(self) -> None:
        """Reads the file where it is not the one that was read last."""
        if self.path is None:
            return
        try:
            stat = self.path.stat()
        except OSError:
            self._seen = None
            return
        seen = stat.st_mtime_ns, stat.st_ino
        if seen != self._seen:
            self._kept, self._seen = _read(self.path), seen

    def _write(self) -> None:
        assert self.path is not None
        text = json.dumps({"format": _FORMAT, "choices": self._kept}, separators=(",", ":"))
        write_whole(self.path, text.encode(), durable=False)
        stat = self.path.stat()
        if self._seen is None:
            _trim(self.path.parent)
        self._seen = stat.st_mtime_ns, stat.st_ino


def choices_for(machine: Machine) -> Choices:
    """Those of this machine, made with this generator."""
    version = hashlib.sha256(f"{generator()} {identity(machine.cpu)} {machine}".encode()).hexdigest()[:20]
    try:
        return Choices(Path(cache_folder()).parent / "choices" / f"{version}.json")
    except RuntimeError:  # a user without a home
        return Choices(None)


def _short(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:24]


def _read(path: Path) -> dict[str, dict[str, float]]:
    """Empty where the file is damaged or of another kind."""
    try:
        whole = json.loads(path.read_bytes())
        kept = whole["choices"] if whole["format"] == _FORMAT else {}
        return {str(key): _times(times) for key, times in kept.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _times(times: Mapping[str, float]) -> dict[str, float]:
    if not times or not all(type(t) is float and math.isfinite(t) and t > 0 for t in times.values()):
        raise ValueError("no times")
    return dict(times)


@contextlib.contextmanager
def _alone(path: Path | None) -> Iterator[None]:
    """While no other process writes beside it. Raises OSError where nothing can be written."""
    if path is None:
        raise FileNotFoundError("there is no place to keep anything")
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / "lock").open("ab") as file:
        if sys.platform == "win32":
            yield
            return
        try:
            with contextlib.suppress(OSError):  # a file system without locks: at worst a choice is measured again
                fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            # Closing is not enough: a child that was forked meanwhile has the file open, too.
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)


def _trim(folder: Path) -> None:
    """Removes the oldest of too many files."""
    with contextlib.suppress(OSError):
        files = sorted(folder.glob("*.json"), key=os.path.getmtime)
        for path in files[:-_FILES]:
            path.unlink()
