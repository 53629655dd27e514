"""The CPU that code is made for: vectors, registers, caches, cores."""

from hapgop.machine.detect import host
from hapgop.machine.machine import AVX2, AVX512, NEON, Machine

__all__ = ["AVX2", "AVX512", "NEON", "Machine", "host"]
