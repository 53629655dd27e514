"""Training: repeatable to the bit, and a run folder that holds what it promises."""

import dataclasses
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hapgop.errors import InputError
from hapgop.program import Graph
from hapgop.train import Data, Diverged, EpochDone, Event, Recipe, Split, Step, Validating, evaluate, fit, load_model
from hapgop.train.fit import _sample

NetMaker = Callable[[], torch.nn.Module]
RECIPE = Recipe(epochs=3, batch_size=10, learning_rate=0.05, flip=True, shift=1)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_what_a_killed_process_had_only_begun_to_write_is_in_nobodys_way(
    tmp_path: Path, data: Data, net: NetMaker
) -> None:
    (tmp_path / ".config.json.12.34.part").write_text("{")
    fit(data, tmp_path, dataclasses.replace(RECIPE, epochs=1), net=net())
    assert not list(tmp_path.glob(".*.part"))
    assert (tmp_path / "model.safetensors").exists()


def test_the_same_seed_gives_the_same_bits(tmp_path: Path, data: Data, net: NetMaker) -> None:
    fit(data, tmp_path / "a", RECIPE, net=net())
    torch.manual_seed(99)
    np.random.seed(98)
    random.seed(97)
    fit(data, tmp_path / "b", RECIPE, net=net())
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    fit(data, tmp_path / "c", dataclasses.replace(RECIPE, seed=1), net=net())
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_the_users_generators_are_left_alone(tmp_path: Path, data: Data, net: NetMaker) -> None:
    module = net()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]
    fit(data, tmp_path / "a", RECIPE, net=module)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_it_learns(tmp_path: Path, data: Data, net: NetMaker, optimizer: str) -> None:
    rate = 0.1 if optimizer == "sgd" else 0.02
    recipe = Recipe(epochs=10, batch_size=10, optimizer=optimizer, learning_rate=rate)
    result = fit(data, tmp_path / "run", recipe, net=net())
    assert evaluate(result.net, data).accuracy >= 0.9
    assert result.metrics[-1]["train_loss"] < result.metrics[0]["train_loss"]


def test_a_run_folder_holds_what_it_promises(tmp_path: Path, data: Data, net: NetMaker) -> None:
    result = fit(data, tmp_path / "run", RECIPE, net=net())
    names = ["config.json", "filters.safetensors", "metrics.jsonl", "model.safetensors"]
    assert sorted(path.name for path in result.run.iterdir()) == names
    config = json.loads((result.run / "config.json").read_text())
    assert config["format"] == 1
    assert config["classes"] == ["high", "middle", "low"]
    assert Recipe.from_json(config["recipe"]) == RECIPE
    assert Graph.from_json(config["graph"]).input_shape == (1, 8, 8)
    assert config["preprocessing"] == data.preprocessing.to_json()
    assert (config["data"]["train"], config["data"]["validation"], config["data"]["test"]) == (60, 12, 30)
    lines = [json.loads(line) for line in (result.run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert list(lines[0]) == [
        "epoch",
        "train_loss",
        "train_accuracy",
        "val_loss",
        "val_accuracy",
        "learning_rate",
        "seconds",
        "images_per_second",
        "seconds_waiting",
    ]
    assert result.finished
    assert list(result.metrics) == lines
    assert result.best in lines
    assert same(weights(result.run), dict(result.net.state_dict()))
    assert f"epoch {result.best['epoch']}" in result.message


def test_the_validation_figures_are_those_of_the_kept_weights(tmp_path: Path, data: Data, net: NetMaker) -> None:
    result = fit(data, tmp_path / "run", dataclasses.replace(RECIPE, keep="last"), net=net())
    found = evaluate(result.net, data, "validation")
    assert found.accuracy == result.metrics[-1]["val_accuracy"]
    right = found.probabilities[np.arange(len(found.labels)), found.labels].astype(np.float64)
    assert -np.log(right).mean() == pytest.approx(result.metrics[-1]["val_loss"], rel=1e-5)


def test_events_tell_every_step_and_epoch(tmp_path: Path, data: Data, net: NetMaker) -> None:
    events: list[Event] = []
    fit(data, tmp_path / "run", RECIPE, net=net(), progress=events.append)
    steps = [event for event in events if isinstance(event, Step)]
    assert [(step.epoch, step.step) for step in steps] == [(e, s) for e in (1, 2, 3) for s in range(1, 7)]
    assert all(step.images_per_second > 0 and step.seconds_left >= 0 for step in steps)
    assert steps[0].seconds_left > steps[-1].seconds_left
    assert [event.done for event in events if isinstance(event, Validating)] == [12, 12, 12]
    assert [event.epoch for event in events if isinstance(event, EpochDone)] == [1, 2, 3]


def test_the_test_split_is_never_touched(tmp_path: Path, data: Data, net: NetMaker) -> None:
    fit(data, tmp_path / "a", RECIPE, net=net())
    fit(dataclasses.replace(data, test=None), tmp_path / "b", RECIPE, net=net())
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_biases_and_normalisation_do_not_decay(tmp_path: Path, data: Data, net: NetMaker) -> None:
    module = net()
    module[6].requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    tiny = Recipe(epochs=1, batch_size=60, learning_rate=1e-30, weight_decay=1e28, momentum=0, nesterov=False)
    fit(data, tmp_path / "run", tiny, net=module)
    after = module.state_dict()
    assert torch.allclose(after["0.weight"], before["0.weight"] * 0.99)
    for name in ("0.bias", "1.weight", "1.bias", "6.weight"):
        assert torch.allclose(after[name], before[name], rtol=0, atol=1e-20)


def test_an_existing_run_is_kept_unless_told(tmp_path: Path, data: Data, net: NetMaker) -> None:
    run = tmp_path / "run"
    fit(data, run, RECIPE, net=net())
    before = weights(run)
    with pytest.raises(InputError, match="overwrite=True"):
        fit(data, run, dataclasses.replace(RECIPE, seed=1), net=net())
    assert same(weights(run), before)
    (run / "report.html").write_text("old")
    (run / "README.md").write_text("---\nlibrary_name: hapgop\n---\nold")
    fit(data, run, dataclasses.replace(RECIPE, seed=1), net=net(), overwrite=True)
    assert not same(weights(run), before)
    assert not (run / "report.html").exists()
    assert not (run / "README.md").exists()


def test_a_folder_with_other_things_is_never_used(tmp_path: Path, data: Data, net: NetMaker) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="is no run"):
            fit(data, tmp_path / "home", RECIPE, net=net(), overwrite=overwrite)
    with pytest.raises(InputError, match="a file"):
        fit(data, tmp_path / "home" / "letter.txt", RECIPE, net=net())


class Fragile(torch.nn.Linear):
    """Works when asked, breaks when trained."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise ZeroDivisionError
        return super().forward(input)


def test_a_net_that_does_not_fit_leaves_no_folder(tmp_path: Path, data: Data) -> None:
    run = tmp_path / "run"
    wide = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5))
    with pytest.raises(InputError, match=r"gives \(1, 5\).*3 classes"):
        fit(data, run, RECIPE, net=wide)
    with pytest.raises(InputError):
        fit(data, run, RECIPE, net=torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(63, 3)))
    frozen = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)).requires_grad_(False)
    with pytest.raises(InputError, match="no parameter"):
        fit(data, run, RECIPE, net=frozen)
    with pytest.raises(ZeroDivisionError):
        fit(data, run, RECIPE, net=torch.nn.Sequential(torch.nn.Flatten(), Fragile(64, 3)))
    assert not run.exists()


def test_a_batch_norm_of_a_single_value_is_refused_with_words(tmp_path: Path, data: Data) -> None:
    norm = torch.nn.BatchNorm2d(4)
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 8), norm, torch.nn.Flatten(), torch.nn.Linear(4, 3))
    with pytest.raises(InputError, match=r"One image at a time is too little.*batch_size=2 "):
        fit(data, tmp_path / "run", Recipe(epochs=1, batch_size=1), net=module)
    assert not (tmp_path / "run").exists()


def test_a_lost_training_says_so_and_keeps_sound_weights(tmp_path: Path, data: Data, net: NetMaker) -> None:
    wild = Recipe(epochs=2, batch_size=10, learning_rate=1e30, warmup=0)
    with pytest.raises(Diverged, match=r"learning rate below 1e\+30, such as 2e\+29"):
        fit(data, tmp_path / "run", wild, net=net())
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights(tmp_path / "run").values())
    calmer = dataclasses.replace(wild, learning_rate=0.05)
    result = fit(data, tmp_path / "run", calmer, net=net(), resume=True)
    assert result.finished
    fit(data, tmp_path / "fresh", calmer, net=net())
    assert same(weights(tmp_path / "run"), weights(tmp_path / "fresh"))


@pytest.mark.parametrize(("images", "side", "shown"), [(45_000, 32, 5000), (12_000, 8, 6000), (500, 256, 84)])
def test_a_net_is_shown_fewer_images_where_they_are_larger(data: Data, images: int, side: int, shown: int) -> None:
    # One picture that stands for all, so that no memory is taken.
    pixels = np.broadcast_to(np.zeros(1, np.uint8), (images, side, side, 1))
    many = Split(pixels, np.arange(images), np.arange(images) % 3, ("",) * images)
    assert _sample(dataclasses.replace(data, train=many)).shape == (shown, 1, side, side)


def test_nets_by_name_start_from_the_seed_and_come_back(tmp_path: Path, data: Data) -> None:
    result = fit(data, tmp_path / "a", Recipe(epochs=1, batch_size=20))
    torch.manual_seed(3)
    fit(data, tmp_path / "b", Recipe(epochs=1, batch_size=20))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    loaded = load_model(tmp_path / "a")
    assert not loaded.training
    assert same(dict(loaded.state_dict()), dict(result.net.state_dict()))


def test_weights_that_cannot_be_used_are_named(tmp_path: Path, data: Data, net: NetMaker) -> None:
    run = tmp_path / "run"
    fit(data, run, RECIPE, net=net())
    with pytest.raises(InputError, match="only you can build"):
        load_model(run)
    assert same(dict(load_model(run, net()).state_dict()), weights(run))
    with pytest.raises(InputError, match=r"model\.safetensors: not the weights of this net"):
        load_model(run, net(4))  # type: ignore[call-arg]
    content = (run / "model.safetensors").read_bytes()
    for damaged in (content[:100], content[:-8], b"", b"not tensors"):
        (run / "model.safetensors").write_bytes(damaged)
        with pytest.raises(InputError, match=r"model\.safetensors: damaged or cut short"):
            load_model(run, net())
    (run / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors: there is no such file"):
        load_model(run, net())
    (run / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json"):
        load_model(run, net())


def test_a_folder_in_which_another_process_trains_is_left_alone(data: Data, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    code = (
        "import sys, time; from pathlib import Path; from hapgop.train.only_here import only_here\n"
        f"with only_here(Path({str(run)!r})): print('held', flush=True); sys.stdin.readline()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another process is training there"):
            fit(data, run, Recipe(epochs=1))
        assert list(run.iterdir()) == []
        other.communicate("\n")
    assert fit(data, run, Recipe(epochs=1)).finished
