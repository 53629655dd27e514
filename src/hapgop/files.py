"""Files that appear whole or not at all."""

import contextlib
import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

# What disks say that can do nothing of the kind for a folder: those of some virtual machines and networks.
_NO_SYNC = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Puts `content` into `path`: beside it first, then on the disk, then in its place.

    Whoever reads `path`, or loses power meanwhile, finds the old content or the new one, never a part. Without
    `durable` it need not survive a loss of power, and costs no wait for the disk. Raises OSError.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise
    if durable and os.name == "posix":
        # The new name is safe only once the folder itself is on the disk.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise
        finally:
            os.close(folder)


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON, whole or not at all."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # Of names that are no UTF-8 the strange bytes are written as JSON escapes, which read back as the same name.
    write_whole(path, text.encode("utf-8", "backslashreplace"))
