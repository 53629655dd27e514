"""Compiled kernels on disk: the second process compiles nothing.

A file's name is a digest of everything that decides its contents, so that a changed generator, LLVM or CPU never meets
an old object. Files are written beside and renamed, so that a reader never sees half of one; a file carries its own
checksum, and one that does not match is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from pathlib import Path

from hapgop.files import write_whole

_MAGIC = b"hapgop1\n"
_MOST_BYTES = 256 << 20
_SELDOM = 64  # writes between two looks at how much there is


def folder() -> Path:
    """Where objects are kept: $HAPGOP_CACHE, or the user's cache folder."""
    if chosen := os.environ.get("HAPGOP_CACHE"):
        return Path(chosen) / "objects"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "hapgop" / "objects"


def digest(*parts: str) -> str:
    """A name for what the parts decide."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]


def read(key: str) -> bytes | None:
    """The object kept under a key, or None where there is none, or a damaged one."""
    try:
        data = (folder() / f"{key}.o").read_bytes()
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return None
    head, image = data[: len(_MAGIC) + 32], data[len(_MAGIC) + 32 :]
    return image if head == _MAGIC + hashlib.sha256(image).digest() else None


def write(key: str, image: bytes) -> None:
    """Keeps an object. A cache that cannot be written (disk full, read-only home) is no error: it only costs time."""
    with contextlib.suppress(OSError, RuntimeError):
        where = folder()
        where.mkdir(parents=True, exist_ok=True)
        write_whole(where / f"{key}.o", _MAGIC + hashlib.sha256(image).digest() + image, durable=False)
        # Looking at every file takes longer than writing one. This is one write in so many, of however many processes.
        if zlib.crc32(key.encode()) % _SELDOM == 0:
            trim(where)


def trim(where: Path, most: int = _MOST_BYTES) -> None:
    """Removes the oldest objects once there are more than `most` bytes of them."""
    files = []
    for path in where.glob("*.o"):
        with contextlib.suppress(OSError):
            stat = path.stat()
            files.append((stat.st_mtime, stat.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= most:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size
