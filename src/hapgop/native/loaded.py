"""Machine code that is loaded, and can be called."""

from __future__ import annotations

from collections.abc import Mapping

from hapgop.native import elf
from hapgop.native.target import late_compiler

# How an object file begins: ELF, Mach-O, COFF for x86-64 and for ARM64.
_OBJECTS = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\x64\x86", b"\x64\xaa")


class Code:
    """Loaded machine code; it lives as long as this object.

    symbols: addresses of the functions that it calls. Raises RuntimeError where the bytes are no object file of this
    platform.
    """

    def __init__(self, image: bytes, symbols: Mapping[str, int] | None = None) -> None:
        if not image.startswith(_OBJECTS):
            raise RuntimeError("these bytes are no object file")  # LLVM would end the process
        self._loaded = _loaded(image, symbols or {})
        self.bytes: int = self._loaded.bytes

    def address(self, name: str) -> int:
        """Where a function starts."""
        found = int(self._loaded.address(name))
        if not found:
            raise RuntimeError(f"the object has no function {name}")
        return found


def _loaded(image: bytes, symbols: Mapping[str, int]) -> elf.Loaded:
    if elf.supported():
        try:
            return elf.Loaded(image, symbols)
        except elf.Unknown:
            pass
    by_llvm: elf.Loaded = late_compiler().Loaded(image, symbols)
    return by_llvm
