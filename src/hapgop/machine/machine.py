"""A CPU as the arithmetic sees it, and named ones for tests and cross-compiling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from hapgop.errors import InputError

if TYPE_CHECKING:  # numpy.typing takes a third as long to import as all of NumPy
    from numpy.typing import DTypeLike

KIB: Final = 1024
MIB: Final = 1024 * KIB


@dataclass(frozen=True)
class Machine:
    """A CPU: the vectors and registers of its instruction set, its caches in bytes, and the cores to use.

    `cpu` is LLVM's name of the CPU, or "host" for the one that runs this; `isa` is "avx512", "avx2", "neon"
    or "baseline" (16-byte vectors and no fused multiply-add to count on). `l1` is a core's data cache and
    `l2` the next; `l3` is what the cores may count on of the largest, shared one, and equals `l2` where there is
    no third. `bf16`: it multiplies pairs of bfloat16 (AVX512-BF16).

    >>> AVX512.lanes("float32")
    16
    """

    name: str
    cpu: str
    isa: str
    vector_bytes: int
    registers: int
    l1: int
    l2: int
    l3: int
    cores: int
    bf16: bool = False

    def lanes(self, dtype: DTypeLike) -> int:
        """How many elements of `dtype` fit one register; InputError where NumPy knows no such dtype."""
        try:
            return self.vector_bytes // np.dtype(dtype).itemsize
        except TypeError:
            raise InputError(f"dtype: got {dtype!r}, wanted a NumPy dtype such as 'float32'.") from None


AVX512: Final = Machine("AVX-512", "skylake-avx512", "avx512", 64, 32, 32 * KIB, MIB, 16 * MIB, 4)
AVX2: Final = Machine("AVX2", "haswell", "avx2", 32, 16, 32 * KIB, 256 * KIB, 8 * MIB, 4)
NEON: Final = Machine("NEON", "cortex-a76", "neon", 16, 32, 64 * KIB, 512 * KIB, 4 * MIB, 4)
