"""Real processes, killed by SIGKILL at moments that nobody chose: the run goes on and ends the same, to the bit."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills by signal")

# One process imports everything, and forks a child for each training: importing PyTorch takes longer than they do.
SERVER = """
import dataclasses, os, sys, tempfile
import numpy as np, torch
from hapgop import engine, train
torch.set_num_threads(1); engine.set_threads(1)
rng = np.random.default_rng(0)
labels = np.arange(240) % 3
pixels = rng.integers(0, 120, (240, 8, 8, 1), dtype=np.uint8)
pixels[np.arange(240), 2 * labels + 1] += 100
def split(rows):
    return train.Split(pixels, np.array(rows), labels[rows], tuple(map(str, rows)))
data = train.Data("stripes", "npz", ("a", "b", "c"), split(range(200)), split(range(200, 240)), None)
recipe = train.Recipe(epochs=3, batch_size=9, optimizer="muon", learning_rate=0.02, average=0.9, flip=True,
                      shift=1, cutout=2, mixup=0.2, colour=0.1, start_size=0.5, label_smoothing=0.1)
def net():
    torch.manual_seed(5)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 3))
with tempfile.TemporaryDirectory() as folder:
    # What the first training loads and prepares, the children have from their start.
    train.fit(data, os.path.join(folder, "warm"), dataclasses.replace(recipe, epochs=1), net=net())
print("ready", flush=True)
for line in sys.stdin:
    run = line.strip()
    child = os.fork()
    if child == 0:
        resume = os.path.exists(os.path.join(run, "config.json"))
        print("child", os.getpid(), flush=True)
        train.fit(data, run, recipe, net=net(), resume=resume, checkpoint_every=0)
        os._exit(0)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Server:
    """The process that forks a training for each folder that it is told."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=pipe, stdout=pipe, text=True, env=environment
        )
        assert self.said() == "ready"

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def train(self, run: Path, seconds: float | None = None) -> int:
        """Trains, or goes on; kills after so many seconds. The exit status, negative where a signal ended it."""
        assert self.process.stdin is not None
        print(run, file=self.process.stdin, flush=True)
        child = int(self.said().removeprefix("child "))
        if seconds is not None:
            time.sleep(seconds)
            # The server waits for it, so that the number is still this child's.
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        return int(self.said().removeprefix("ended "))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def test_killed_at_random_moments_it_ends_as_if_never_stopped(tmp_path: Path) -> None:
    server = Server()
    try:
        began = time.monotonic()
        assert server.train(tmp_path / "whole") == 0
        whole = time.monotonic() - began
        moments = [random.uniform(0, 0.9 * whole) for _ in range(5)]
        for number, moment in enumerate(moments):
            run = tmp_path / f"killed-{number}"
            status = server.train(run, moment)
            assert status in (-signal.SIGKILL, 0)
            # A second time, a little into what is left, and then to the end.
            if status and server.train(run, moment / 3):
                # A kill behind the last step may find the run whole: then there is nothing left to go on with.
                finished = (run / "model.safetensors").exists() and not (run / "checkpoint.safetensors").exists()
                assert finished or server.train(run) == 0
            one, other = ((folder / "model.safetensors").read_bytes() for folder in (tmp_path / "whole", run))
            same = one == other  # pytest would write both down
            assert same, moments
            assert sorted(path.name for path in run.iterdir()) == sorted(
                path.name for path in (tmp_path / "whole").iterdir()
            )
    finally:
        server.close()
