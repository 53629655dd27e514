"""`hapgop doctor`"""

import importlib.metadata
import importlib.util
import platform
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from hapgop import native
from hapgop._version import __version__
from hapgop.cli import console
from hapgop.engine import get_threads
from hapgop.machine import host

_PACKAGES = ("numpy", "llvmlite", "torch", "pillow", "safetensors", "scikit-learn", "matplotlib")


def command(json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False) -> None:
    """Show the machine as hapgop sees it, the versions, and the kernels that are kept on disk."""
    facts = _facts()
    if json:
        console.write_json(facts)
        return
    machine, kernels = facts["machine"], facts["kernels"]
    caches = ", ".join(f"L{level} {_bytes(size)}" for level, size in enumerate(machine["caches"], start=1))
    rows = [
        ["hapgop", facts["hapgop"]],
        ["Python", f"{facts['python']} on {facts['system']}"],
        ["processor", f"{machine['name']}, {machine['cores']} cores"],
        [
            "instructions",
            f"{machine['isa']}: {machine['registers']} registers of {machine['vector_bytes']} bytes",
        ],
        ["caches", caches],
        ["threads", f"{facts['threads']['count']} ({facts['threads']['runtime']})"],
        ["kernels kept", f"{kernels['files']} in {kernels['folder']} ({_bytes(kernels['bytes'])})"],
        ["compiler", facts["compiler"].split(", ")[0]],
    ]
    for name, version in facts["packages"].items():
        whose = ": hapgop train, evaluate, look, learn, demo and bench need it" if name == "torch" else ""
        rows.append([name, version or f"not installed{whose}"])
    console.show(console.table(["", ""], rows))


def _facts() -> dict[str, Any]:
    machine = host()
    try:
        folder: Path | None = Path(native.cache_folder())
    except RuntimeError:  # a user without a home
        folder = None
    sizes = _sizes(folder) if folder else []
    return {
        "hapgop": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "machine": {
            "name": machine.name,
            "isa": machine.isa,
            "vector_bytes": machine.vector_bytes,
            "registers": machine.registers,
            "caches": [machine.l1, machine.l2, machine.l3],
            "cores": machine.cores,
        },
        "threads": {"count": get_threads(), "runtime": native.runtime()},
        "kernels": {
            "folder": str(folder) if folder else "no folder: there is no home, and no HAPGOP_CACHE",
            "files": len(sizes),
            "bytes": sum(sizes),
        },
        "compiler": native.identity(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _sizes(folder: Path) -> list[int]:
    """Of the kernels kept, in bytes."""
    sizes = []
    for file in folder.glob("*.o"):
        # Other processes may be replacing old kernels at this moment.
        with suppress(FileNotFoundError):
            sizes.append(file.stat().st_size)
    return sizes


def _version(name: str) -> str | None:
    # Asked of the package's metadata: importing PyTorch takes a second.
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _bytes(count: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count} bytes"
