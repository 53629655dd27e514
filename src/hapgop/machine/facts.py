"""What the operating system says about the CPU."""

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from hapgop.machine.machine import KIB, MIB

_MAC_KEYS: Final = (
    "machdep.cpu.brand_string",
    "machdep.cpu.features",
    "machdep.cpu.leaf7_features",
    "hw.physicalcpu",
    "hw.l1dcachesize",
    "hw.l2cachesize",
    "hw.l3cachesize",
    # Level 0 are the performance cores: see `_fast`.
    "hw.perflevel0.physicalcpu",
    "hw.perflevel0.l1dcachesize",
    "hw.perflevel0.l2cachesize",
)
_FAST: Final = 0.8  # of the fastest one's speed


@dataclass(frozen=True)
class Facts:
    """`flags` in Linux's lower-case names; `caches` in bytes by level, without those that are not known."""

    name: str
    architecture: str
    flags: frozenset[str]
    caches: Mapping[int, int]
    cores: int


def gather() -> Facts:
    """The facts about this machine; what cannot be learned is left out."""
    architecture = platform.machine().lower()
    if platform.system() == "Linux":
        return linux(architecture, os.sched_getaffinity(0))
    if platform.system() == "Darwin":
        return mac(architecture, _sysctl())
    return Facts(architecture or "unknown CPU", architecture, frozenset(), {}, os.cpu_count() or 1)


def linux(architecture: str, usable: Iterable[int], root: Path = Path("/")) -> Facts:
    """The facts that Linux keeps in files under `root`, for the logical CPUs `usable` by this process."""
    info: dict[str, str] = {}
    for line in _read(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        info.setdefault(key.strip(), value.strip())
    cpus = sorted(usable)
    folder = root / "sys/devices/system/cpu"
    caches: dict[int, int] = {}
    for index in sorted((folder / f"cpu{cpus[0]}/cache").glob("index*")):
        level, size = _read(index / "level"), _bytes(_read(index / "size"))
        if level.isdigit() and size and _read(index / "type") != "Instruction":
            caches[int(level)] = size
    # Two logical CPUs of one core share its arithmetic units: only one of them pays.
    fast = _fast(cpus, root)
    cores = {_read(folder / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in fast}
    quota = min(_quotas(root), default=0)
    name = info.get("model name") or architecture
    flags = frozenset(info.get("flags", info.get("Features", "")).lower().split())
    return Facts(name, architecture, flags, caches, min(len(cores), quota or len(cores)))


def mac(architecture: str, values: Mapping[str, str]) -> Facts:
    """The facts in the values of macOS's sysctl."""

    def number(*keys: str) -> int:
        return next((int(values[key]) for key in keys if values.get(key, "").isdigit()), 0)

    caches = {
        1: number("hw.perflevel0.l1dcachesize", "hw.l1dcachesize"),
        2: number("hw.perflevel0.l2cachesize", "hw.l2cachesize"),
        3: number("hw.l3cachesize"),
    }
    features = f"{values.get('machdep.cpu.features', '')} {values.get('machdep.cpu.leaf7_features', '')}"
    return Facts(
        values.get("machdep.cpu.brand_string") or architecture,
        architecture,
        frozenset(features.lower().split()),
        {level: size for level, size in caches.items() if size},
        number("hw.perflevel0.physicalcpu", "hw.physicalcpu") or os.cpu_count() or 1,
    )


def _sysctl() -> dict[str, str]:
    try:
        # -i leaves out the keys that this machine does not have.
        command = ["/usr/sbin/sysctl", "-i", *_MAC_KEYS]
        text = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    parts = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in parts}


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _bytes(size: str) -> int:
    """`32K`, `1024K` or `32M` in bytes; 0 where it is none of these."""
    unit = {"K": KIB, "M": MIB}.get(size[-1:], 0)
    return int(size[:-1]) * unit if size[:-1].isdigit() else 0


def _fast(cpus: list[int], root: Path) -> list[int]:
    """Of CPUs of several kinds the fast ones: work split evenly would wait for the others."""
    devices = root / "sys/devices"
    # Intel's kinds are devices of their own; elsewhere the kernel says what each can do.
    named = _list(_read(devices / "cpu_core/cpus"))
    capacity = {cpu: _read(devices / f"system/cpu/cpu{cpu}/cpu_capacity") for cpu in cpus}
    known = {cpu: int(text) for cpu, text in capacity.items() if text.isdecimal()}
    able = {cpu for cpu in known if known[cpu] >= _FAST * max(known.values())}
    return [cpu for cpu in cpus if cpu in (named or able)] or cpus


def _list(text: str) -> set[int]:
    """`0-7,16` as numbers; none where it is no such list."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            found.update(range(int(first), int(last or first) + 1))
    return found


def _quotas(root: Path) -> list[int]:
    """Whole cores that this process's control groups may use, of those that have a limit: its own, and all above."""
    found = []
    for line in _read(root / "proc/self/cgroup").splitlines() or ["0::/"]:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        mounts = [controllers, *controllers.split(",")] if controllers else [""]
        if controllers and "cpu" not in mounts:
            continue
        # Within a container the path may be that outside, of which only the root is seen.
        for group in {PurePosixPath("/"), PurePosixPath(path), *PurePosixPath(path).parents}:
            for mount in mounts:
                folder = root / "sys/fs/cgroup" / mount / str(group).lstrip("/")
                first = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
                found += [*_quota(*first), *_quota(*_read(folder / "cpu.max").partition(" ")[::2])]
    return found


def _quota(quota: str, period: str) -> list[int]:
    """One number, or none where there is no limit (`max`, -1)."""
    if not quota.isdecimal() or not period.isdecimal() or not int(period):
        return []
    return [max(int(quota) // int(period), 1)]
