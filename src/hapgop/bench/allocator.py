"""How the process gets its memory, which both sides of a comparison share."""

from hapgop.engine import tune_allocator
from hapgop.errors import InputError

ALLOCATORS = ("default", "tuned")


def use_allocator(name: str) -> str:
    """Sets the allocator of this whole process, for good, and gives it in words.

    "tuned": glibc neither gives memory back to the system nor takes large blocks from it one by one, so that a result
    of 32 MB or more is not new memory in every call. Raises InputError for another name, or where there is no glibc.
    """
    if name not in ALLOCATORS:
        raise InputError(f"--allocator {name}: wanted is one of {', '.join(ALLOCATORS)}")
    if name == "default":
        return "default on both sides"
    if not tune_allocator():
        raise InputError("--allocator tuned: there is no glibc here, whose settings these are")
    return "tuned on both sides: mmap threshold 1 GiB, no trimming"
