"""Where a benchmark was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import Any

from hapgop import __version__
from hapgop.machine import host


def place(command: str, versions: Mapping[str, str], **more: Any) -> dict[str, Any]:
    """Machine, system, the versions of what took part and the command, with whatever else a benchmark has to say."""
    m = host()
    return {
        "name": m.name,
        "isa": m.isa,
        "cores": m.cores,
        "hapgop": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "versions": {"hapgop": __version__, **versions},
        **more,
        "command": command,
    }
