"""What machine code is made for, told without asking LLVM: its library takes longer to load than a small net to run."""

from __future__ import annotations

import importlib
import platform
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import llvmlite

# What Linux says of a CPU and stays the same from start to start; LLVM decides by no more than this.
_LASTING = (
    *("vendor_id", "cpu family", "model", "model name", "stepping", "flags"),
    *("Features", "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision"),
)


def late_compiler() -> ModuleType:
    """`hapgop.native.compiler`, and with it LLVM's library; who finds all kernels in the cache never needs it."""
    return importlib.import_module("hapgop.native.compiler")


def is_x86() -> bool:
    """Whether this process runs x86 code."""
    return platform.machine().lower() in ("x86_64", "amd64", "i386", "i686", "x86")


@cache
def identity(cpu: str = "host") -> str:
    """Everything outside a program that decides what machine code it becomes.

    A release of llvmlite brings its own LLVM, and the features that LLVM finds follow from those that Linux tells;
    where no system tells them, LLVM is asked.
    """
    host = _host() if cpu == "host" else ""
    system = f"{sys.platform} {platform.machine()} {8 * (4 + 4 * (sys.maxsize > 2**32))} bits"
    return f"llvmlite {llvmlite.__version__}, {system}, {cpu} {host}".rstrip()


def _host() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    told = {f"{key.strip()} {value.strip()}" for key, _, value in (line.partition(":") for line in lines)
            if key.strip() in _LASTING}  # fmt: skip
    return "; ".join(sorted(told)) or str(", ".join(late_compiler().target("host")))
