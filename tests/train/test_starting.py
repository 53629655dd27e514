"""What a run's folder says of its training, and what is refused because of it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hapgop.errors import InputError
from hapgop.train import Data, Recipe, fit
from hapgop.train.pretrained import read_weights
from hapgop.train.starting import Stage, stage

NetMaker = Callable[[], torch.nn.Module]


@pytest.mark.parametrize(
    ("recipe", "accuracies", "ended"),
    [
        (Recipe(epochs=2), [], False),
        (Recipe(epochs=2), [0.5], False),
        (Recipe(epochs=2), [1.0, 0.5], True),
        (Recipe(epochs=9, target_accuracy=0.9), [0.95, 0.8], False),
        (Recipe(epochs=9, target_accuracy=0.9), [0.8, 0.9], True),
    ],
)
def test_the_lines_of_metrics_say_whether_a_training_is_over(
    tmp_path: Path, recipe: Recipe, accuracies: list[float], ended: bool
) -> None:
    lines = [{"epoch": n, "val_accuracy": value, "seconds": 1.0} for n, value in enumerate(accuracies, 1)]
    assert recipe.ended(lines) == ended
    (tmp_path / "config.json").write_text(json.dumps({"format": 1, "recipe": recipe.to_json()}))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert stage(tmp_path) is Stage.LOST
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert stage(tmp_path) is (Stage.OVER if ended else Stage.LOST)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"")
    assert stage(tmp_path) is Stage.UNDER_WAY


def test_folders_without_a_training(tmp_path: Path) -> None:
    assert stage(tmp_path / "none") is stage(tmp_path) is Stage.NONE
    (tmp_path / "config.json").write_text("{}")
    assert stage(tmp_path) is Stage.BEGUN


def test_a_lost_checkpoint_is_named(tmp_path: Path, data: Data, net: NetMaker) -> None:
    fit(data, tmp_path / "run", Recipe(epochs=2, batch_size=9), net=net())
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().splitlines(keepends=True)[0])
    with pytest.raises(InputError, match=r"has not come to its end, but its checkpoint\.safetensors is gone"):
        fit(data, tmp_path / "run", net=net(), resume=True)


def test_weights_that_were_not_read_yet_are_not_forgotten(tmp_path: Path, data: Data) -> None:
    """Killed before its first checkpoint, a run that begins with given weights cannot begin again without them."""
    recipe = Recipe(epochs=1, batch_size=30)
    fit(data, tmp_path / "first", recipe, net="digits")
    weights = tmp_path / "first" / "model.safetensors"

    def stop(event: object) -> None:
        raise KeyboardInterrupt

    run = tmp_path / "second"
    fit(data, run, recipe, net="digits", weights=weights, progress=stop)
    for path in run.iterdir():
        if path.name not in ("config.json", "checkpoint.safetensors"):
            path.unlink()
    begun = (run / "checkpoint.safetensors").read_bytes()
    (run / "checkpoint.safetensors").unlink()
    with pytest.raises(InputError, match=r"was to begin with the weights of model\.safetensors"):
        fit(data, run, resume=True)
    (run / "checkpoint.safetensors").write_bytes(begun)
    fit(data, run, resume=True)
    assert json.loads((run / "config.json").read_text())["net"]["weights"] == "model.safetensors"


def test_a_file_of_weights_is_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        read_weights(tmp_path / "none.safetensors")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"net\.pth: no safetensors file.*save_file"):
        read_weights(tmp_path / "net.pth")
