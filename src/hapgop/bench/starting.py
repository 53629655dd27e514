"""From the start of a process to its first label: with compiled kernels in the cache, and without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from hapgop._version import __version__
from hapgop.bench.place import place
from hapgop.bench.whole.task import Task, known, task
from hapgop.predict import Preprocessing
from hapgop.predict.folder import CONFIG, FORMAT, WEIGHTS

STARTED = ("lenet5", "resnet18", "resnet50")
_COLD = 3  # starts without a cache: each makes all kernels
# What a user's program does, and no more: nothing is imported but what labels the picture.
_PROGRAM = "import sys; from hapgop import Predictor; print(Predictor(sys.argv[1])([sys.argv[2]])[0].label)"


@dataclass(frozen=True)
class Start:
    """Seconds of each start of a net's process until its label was read."""

    net: str
    warm: tuple[float, ...]
    cold: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "warm_median": median(self.warm), "cold_median": median(self.cold)}


def bench_start(
    names: Iterable[str] = (), *, repeats: int = 9, progress: Callable[[int, int, str], None] | None = None
) -> list[Start]:
    """Starts a new process for each label; the nets in turn, those with a cold cache first.

    Raises InputError for a net that is unknown, RuntimeError where a process gives no label.
    """
    nets = [task(name, 1) for name in known(tuple(dict.fromkeys(names)) or STARTED)]
    total, done = len(nets) * (_COLD + repeats), 0
    warm: dict[str, list[float]] = {net.name: [] for net in nets}
    cold: dict[str, list[float]] = {net.name: [] for net in nets}
    with tempfile.TemporaryDirectory() as folder:
        for net in nets:
            _write(net, Path(folder) / net.name)
        for round_ in range(_COLD + repeats):
            for net in nets:
                if progress:
                    progress(done, total, net.name)
                fresh = round_ < _COLD
                cache = Path(folder) / f"cache{min(round_, _COLD - 1)}"
                (cold if fresh else warm)[net.name].append(_started(Path(folder) / net.name, cache / net.name))
                done += 1
    return [Start(net.name, tuple(warm[net.name]), tuple(cold[net.name])) for net in nets]


def start_json(starts: Sequence[Start], command: str) -> dict[str, Any]:
    """{"machine": ..., "rows": [...]}."""
    where = place(command, {"numpy": np.__version__})
    return {"machine": where, "rows": [start.to_json() for start in starts]}


def _write(net: Task, folder: Path) -> None:
    """A run folder with a picture in it."""
    channels, *size = net.graph.input_shape
    rules = Preprocessing((size[0], size[1]), channels, (0.5,) * channels, (0.5,) * channels)
    classes = net.plain()(net.x).shape[1]
    folder.mkdir()
    config = {
        "format": FORMAT,
        "hapgop": __version__,
        "graph": net.graph.to_json(),
        "classes": [str(number) for number in range(classes)],
        "preprocessing": rules.to_json(),
    }
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in net.tensors.items()}, folder / WEIGHTS)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")


def _started(folder: Path, cache: Path) -> float:
    """Seconds from the start of a process to its label."""
    command = [sys.executable, "-c", _PROGRAM, str(folder), str(folder / "picture.png")]
    environment = {**os.environ, "HAPGOP_CACHE": str(cache)}
    began = perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:  # fmt: skip
        assert process.stdout is not None
        label = process.stdout.readline()
        seconds = perf_counter() - began
        _, words = process.communicate()
    if process.returncode or not label.strip():
        raise RuntimeError(f"{folder.name}: a process that had to label a picture failed: {words.strip()[-500:]}")
    return seconds
