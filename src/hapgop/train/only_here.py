"""A run's folder is one process's at a time."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hapgop.errors import InputError

if sys.platform != "win32":
    import fcntl


@contextmanager
def only_here(folder: Path) -> Iterator[None]:
    """Inside, no other process trains in this folder; the system lets go of it when the process ends, however that may
    be. Raises InputError where another one does.

    Where the system has no such locks (Windows, some network disks), nothing is checked.
    """
    if sys.platform == "win32":
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder}: another process is training there. Wait until it ends, stop it, or take another folder."
            ) from None
        except OSError:
            pass  # a disk that knows no locks
        yield
    finally:
        os.close(held)
