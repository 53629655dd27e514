"""From tile programs to machine code that runs: LLVM, the object cache on disk, threads. Only here is LLVM known."""

from __future__ import annotations

from collections.abc import Callable

from hapgop.native import cache, objects
from hapgop.native.loaded import Code
from hapgop.native.lock import Lock
from hapgop.native.sequence import ALONE, HEAD, MEET, STEP, clocked, sequence
from hapgop.native.target import identity, late_compiler
from hapgop.native.threads import launch, runtime, use_openmp
from hapgop.tile import Kernel

__all__ = [
    "ALONE",
    "HEAD",
    "MEET",
    "STEP",
    "Function",
    "Lock",
    "assembly",
    "cache_folder",
    "clocked",
    "compiled_count",
    "identity",
    "launch",
    "load",
    "runtime",
    "sequence",
    "use_openmp",
]

_compiled = 0
_counting = Lock()


class Function:
    """A compiled kernel, loaded: `address` is its `run`, `bytes` about how much memory it takes."""

    def __init__(self, code: Code) -> None:
        self._code = code
        self.address = code.address("run")
        self.bytes = code.bytes


def load(key: str, make: Callable[[], Kernel], cpu: str = "host") -> Function:
    """The function that a key stands for: from the object cache, or made now and kept there.

    key: names everything that decides the kernel that `make` returns; LLVM's version and the CPU are added.
    """
    global _compiled
    code, made = objects.code(key, lambda: late_compiler().text(make(), cpu), cpu)
    with _counting:
        _compiled += made
    return Function(code)


def compiled_count() -> int:
    """How many kernels this process has compiled (loading from the cache does not count)."""
    return _compiled


def assembly(kernel: Kernel, cpu: str = "host") -> str:
    """A kernel's assembly text."""
    made = late_compiler()
    return str(made.assembly(made.text(kernel, cpu), cpu))


def cache_folder() -> str:
    """Where compiled objects are kept."""
    return str(cache.folder())
