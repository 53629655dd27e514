"""Two processes train as one does, and one that is killed takes the other along with a sentence."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from hapgop.train import WorkerLost, Workers
from hapgop.train.distributed import lost_is_said

pytestmark = pytest.mark.skipif(os.name != "posix", reason="gloo and signals")

# A net without dropout and batch norm, whose noise and statistics each process has for itself.
TRAINING = """
import dataclasses, os, sys
import numpy as np, torch
from hapgop import engine, train
torch.set_num_threads(1); engine.set_threads(1)
run, epochs, resume = sys.argv[1], int(sys.argv[2]), os.path.exists(os.path.join(sys.argv[1], "config.json"))
rng = np.random.default_rng(0)
labels = np.arange(115) % 3
pixels = rng.integers(0, 120, (115, 8, 8, 1), dtype=np.uint8)
pixels[np.arange(115), 2 * labels + 1] += 100
def split(rows):
    return train.Split(pixels, np.array(rows), labels[rows], tuple(map(str, rows)))
data = train.Data("stripes", "npz", ("a", "b", "c"), split(range(90)), split(range(90, 115)), None)
recipe = train.Recipe(epochs=epochs, batch_size=15, optimizer="muon", learning_rate=0.02, average=0.9, flip=True,
                      shift=1, cutout=2, mixup=0.2, colour=0.1, label_smoothing=0.1, balance=1.0, keep="last")
torch.manual_seed(5)
net = torch.nn.Sequential(
    torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(4),
    torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
with train.joined() as workers:
    def tell(event):
        if isinstance(event, train.Step) and event.epoch == 2:
            print("pid", os.getpid(), flush=True)
    if not workers.alone:
        try:
            train.fit(dataclasses.replace(data, mark=str(workers.rank)), run, recipe, net=net, workers=workers)
        except ValueError as refused:
            os.write(1, f"refused: {refused}\\n".encode())
    try:
        done = train.fit(data, run, recipe, net=net, workers=workers, resume=resume, checkpoint_every=0, progress=tell)
        os.write(1, f"finished: {done.finished}\\n".encode())
    except train.WorkerLost as lost:
        print("LOST", lost, flush=True)
        os._exit(3)
"""


def start(run: Path, workers: int, epochs: int) -> "subprocess.Popen[str]":
    script = run.parent / "training.py"
    script.write_text(TRAINING)
    many = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(workers)]
    command = [sys.executable, *(many if workers > 1 else []), str(script), str(run), str(epochs)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def ended(process: "subprocess.Popen[str]") -> str:
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0, said
    return said


def close(one: Path, other: Path) -> None:
    """Sums in another order: each step adds a few roundings, and no step so short amplifies them much."""
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=0, atol=2e-4, err_msg=name)


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_wish_of_one_is_agreed_on_by_all(tmp_path: Path) -> None:
    """It mostly comes while the first process writes its checkpoint, when the others wait for its next step."""
    process = start(tmp_path / "run", 2, 2000)
    assert process.stdout is not None
    line = next(line for line in process.stdout if line.startswith("pid "))
    os.kill(int(line.split()[1]), signal.SIGTERM)
    said = ended(process)
    assert said.count("finished: False") == 2
    assert "LOST" not in said


@pytest.mark.parametrize(("images", "workers"), [(0, 2), (1, 3), (7, 2), (100, 7)])
def test_the_parts_are_all_images_each_once(images: int, workers: int) -> None:
    parts = [Workers(rank, workers).part(images) for rank in range(workers)]
    assert [image for part in parts for image in range(images)[part]] == list(range(images))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_before_the_first_step_no_checkpoint_is_promised() -> None:
    with pytest.raises(WorkerLost, match="gone, before the first step") as caught, lost_is_said(begun=False):
        raise RuntimeError("Connection closed by peer")
    assert "--resume" not in str(caught.value)
    with pytest.raises(WorkerLost, match=r"last checkpoint is whole.*--resume"), lost_is_said():
        raise RuntimeError("Connection closed by peer")


def test_two_processes_train_as_one_and_a_killed_one_ends_both(tmp_path: Path) -> None:
    alone, together, killed = tmp_path / "alone", tmp_path / "together", tmp_path / "killed"
    first, second = start(alone, 1, 3), start(together, 2, 3)
    ended(first)
    # Of images that differ, both have said so before.
    assert ended(second).count("refused: The processes do not have the same images") == 2
    close(alone, together)
    for mine, theirs in zip(metrics(alone), metrics(together), strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-4)
        assert mine["val_loss"] == pytest.approx(theirs["val_loss"], rel=1e-4)
        assert mine["val_accuracy"] == theirs["val_accuracy"]
    # Far too many epochs to come to an end: one of the two is killed in the second.
    process = start(killed, 2, 2000)
    assert process.stdout is not None
    line = next(line for line in process.stdout if line.startswith("pid "))
    children = subprocess.run(["ps", "--ppid", str(process.pid), "-o", "pid="], capture_output=True, text=True).stdout
    other = next(int(pid) for pid in children.split() if int(pid) != int(line.split()[1]))
    os.kill(other, signal.SIGKILL)
    said = process.communicate(timeout=120)[0]
    assert process.returncode != 0
    assert "LOST Another worker of this training is gone" in said
    assert "--resume" in said
    assert (killed / "checkpoint.safetensors").exists()
    done = len(metrics(killed))
    assert 1 <= done < 2000
    # One process alone goes on with what two have begun.
    ended(start(killed, 1, done + 1))
    assert len(metrics(killed)) == done + 1
