"""The machine that runs this, as its operating system describes it."""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Final

from hapgop.errors import InputError
from hapgop.machine.facts import Facts, gather
from hapgop.machine.machine import AVX2, AVX512, KIB, MIB, NEON, Machine

# Its caches are the guess where nothing is known.
BASELINE: Final = Machine("baseline", "generic", "baseline", 16, 16, 32 * KIB, 512 * KIB, 8 * MIB, 1)

_X86: Final = (AVX512, AVX2, replace(BASELINE, cpu="x86-64"))
_ARM: Final = (NEON, BASELINE)
# What a core may count on of the last cache. A virtual machine of few cores is told of the whole socket's: 480 MB,
# which a hundred other cores use too, at a speed that is nearer to the memory's than to the second cache's.
_SHARE: Final = 16 * MIB
# Best first.
_LADDERS: Final = {"x86_64": _X86, "amd64": _X86, "aarch64": _ARM, "arm64": _ARM}
# The flags that each asks for, by Linux's names.
_NEEDS: Final = {
    "avx512": {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma"},
    "avx2": {"avx2", "fma"},
    "neon": set[str](),  # every 64-bit ARM has it
    "baseline": set[str](),
}


@cache
def host() -> Machine:
    """The machine that runs this; asked once.

    The environment variable HAPGOP_ISA forces a lower instruction set than the best one: "avx512", "avx2"
    or "baseline" on x86, "neon" or "baseline" on 64-bit ARM. It is read at the first call. `cpu` is "host"
    unless a lower one is forced. An unknown system is "baseline" with guessed caches.

    Raises InputError where HAPGOP_ISA names what this machine cannot run.

    >>> host().cores >= 1
    True
    """
    return from_facts(gather(), os.environ)


def from_facts(facts: Facts, environment: Mapping[str, str]) -> Machine:
    """The machine of these facts, or the lower one that HAPGOP_ISA in `environment` forces."""
    ladder = _LADDERS.get(facts.architecture, (BASELINE,)) if sys.maxsize > 2**32 else (BASELINE,)
    able = [level for level in ladder if _NEEDS[level.isa] <= facts.flags]
    level, name, cpu = able[0], facts.name, "host"
    forced = environment.get("HAPGOP_ISA", "")
    if forced and forced != level.isa:
        level = _forced(forced, able, facts.name)
        name, cpu = f"{facts.name}, only its {forced}", level.cpu
    l1, l2 = facts.caches.get(1, BASELINE.l1), facts.caches.get(2, BASELINE.l2)
    # A machine that tells of its second level and of no third has none; then the second is the largest.
    l3 = facts.caches.get(3, l2 if 2 in facts.caches else BASELINE.l3)
    l3 = max(l2, min(l3, _SHARE * facts.cores))
    bf16 = level.isa == "avx512" and cpu == "host" and "avx512_bf16" in facts.flags
    return Machine(name, cpu, level.isa, level.vector_bytes, level.registers, l1, l2, l3, facts.cores, bf16)


def _forced(forced: str, able: list[Machine], name: str) -> Machine:
    for level in able:
        if level.isa == forced:
            return level
    wanted = " or ".join(f"'{level.isa}'" for level in able)
    raise InputError(f"HAPGOP_ISA: got {forced!r}, wanted what this machine ({name}) can run: {wanted}, or unset.")
