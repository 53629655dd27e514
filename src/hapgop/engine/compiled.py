"""Kernels as loaded code: each made once, however many threads ask for it, and kept while there is room."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from hapgop._version import __version__
from hapgop.engine.kept import Kept
from hapgop.machine import Machine
from hapgop.native import Function, Lock, load
from hapgop.tile import Kernel, check

MOST = 64 << 20  # bytes of kernels that are kept loaded

_loaded: Kept[Function] = Kept(MOST)
_table = Lock()
_making: dict[str, Lock] = {}


def compiled(key: str, build: Callable[[], Kernel], machine: Machine) -> Function:
    """The kernel of a recipe's key, loaded; one for all recipes with the same key."""
    function = _loaded.get(key)
    if function is not None:
        return function

    def make() -> Kernel:
        kernel = build()
        check(kernel, machine.registers)
        return kernel

    # Different kernels are made at the same time, the same one only once.
    with _table:
        mine = _making.setdefault(key, Lock())
    with mine:
        try:
            function = _loaded.get(key)
            if function is None:
                function = load(f"{key} {generator()}", make, machine.cpu)
                _loaded.put(key, function, function.bytes)
        finally:
            with _table:
                _making.pop(key, None)
    return function


@cache
def generator() -> str:
    """A digest of the code that makes kernels: an object made by other code is not ours."""
    rooms = Path(__file__).parents[1]
    sources = sorted(path for room in ("tile", "algorithms", "native") for path in (rooms / room).rglob("*.py"))
    digest = hashlib.sha256(__version__.encode())
    for path in sources:
        digest.update(path.read_bytes())
    return digest.hexdigest()


generator()  # now: if the sources are edited later, it is still the old ones that run here
