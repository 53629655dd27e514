"""How the process gets its memory, which both sides of a comparison share."""

import ctypes

from hapgop.errors import InputError

ALLOCATORS = ("default", "tuned")

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def use_allocator(name: str) -> str:
    """Sets the allocator of this whole process, for good, and gives it in words.

    "tuned": glibc neither gives memory back to the system nor takes large blocks from it one by one, so that a result
    of 32 MB or more is not new memory in every call. Raises InputError for another name, or where there is no glibc.
    """
    if name not in ALLOCATORS:
        raise InputError(f"--allocator {name}: wanted is one of {', '.join(ALLOCATORS)}")
    if name == "default":
        return "default on both sides"
    _tune()
    return "tuned on both sides: mmap threshold 1 GiB, no trimming"


def _tune() -> None:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        raise InputError("--allocator tuned: the C library here has no mallopt; glibc has") from None
    if not (mallopt(_MMAP_THRESHOLD, 1 << 30) and mallopt(_TRIM_THRESHOLD, -1)):
        raise InputError("--allocator tuned: the C library refused the setting")
