"""A training that is stopped and goes on ends as if nothing had happened, to the bit."""

import dataclasses
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hapgop import files
from hapgop.errors import InputError
from hapgop.train import (
    Data,
    EpochDone,
    Event,
    Recipe,
    Result,
    Step,
    Unwritable,
    Validating,
    evaluate,
    finished_run,
    fit,
    load_model,
)

NetMaker = Callable[[], torch.nn.Module]
RECIPE = Recipe(epochs=3, batch_size=9, learning_rate=0.05, flip=True, shift=1)


class Stop:
    """Presses Ctrl-C at the nth event of a kind."""

    def __init__(self, kind: type, nth: int, *, by_signal: int | None = None) -> None:
        self.kind, self.left, self.by_signal = kind, nth, by_signal

    def __call__(self, event: Event) -> None:
        if isinstance(event, self.kind):
            self.left -= 1
            if self.left == 0:
                if self.by_signal:
                    os.kill(os.getpid(), self.by_signal)
                else:
                    raise KeyboardInterrupt


def lines(run: Path) -> list[dict[str, object]]:
    """The metrics, without the times, which are never the same."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if "second" not in key} for line in found]


def assert_same(one: Path, other: Path) -> None:
    first, second = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    assert lines(one) == lines(other)
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())


@pytest.mark.parametrize("optimizer", ["sgd", "muon", "muon beside sgd"])
@pytest.mark.parametrize(
    "stop",
    [
        Stop(Step, 1),
        Stop(Step, 4),
        Stop(Step, 7),
        Stop(Step, 11, by_signal=signal.SIGINT),
        Stop(Step, 11, by_signal=signal.SIGTERM),
        Stop(Validating, 2),
        Stop(EpochDone, 1),
        Stop(Step, 20),
    ],
    ids=["first step", "mid-epoch", "end of the steps", "Ctrl-C", "SIGTERM", "validating", "between epochs", "late"],
)
def test_stopped_and_gone_on_is_as_if_never_stopped(
    tmp_path: Path, data: Data, net: NetMaker, stop: Stop, optimizer: str
) -> None:
    # Muon has AdamW or SGD beside it, so that all are stopped here.
    more: dict[str, Any] = {"optimizer": "sgd"}
    if optimizer == "muon":
        more = {"optimizer": "muon", "average": 0.9, "mixup": 0.3, "cutout": 2, "colour": 0.1, "balance": 1.0}
    elif optimizer == "muon beside sgd":
        more = {"optimizer": "muon", "rest": "sgd"}
    recipe = dataclasses.replace(RECIPE, **more)
    stop = Stop(stop.kind, stop.left, by_signal=stop.by_signal)
    fit(data, tmp_path / "whole", recipe, net=net())
    stopped = fit(data, tmp_path / "parts", recipe, net=net(), progress=stop)
    assert not stopped.finished
    assert "--resume" in stopped.message
    assert (tmp_path / "parts" / "checkpoint.json").exists()
    load_model(tmp_path / "parts", net())
    events: list[Event] = []
    result = fit(data, tmp_path / "parts", net=net(), resume=True, progress=events.append)
    assert result.finished
    assert len([event for event in events if isinstance(event, Step)]) < 21
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_stopped_at_every_step(tmp_path: Path, data: Data, net: NetMaker) -> None:
    fit(data, tmp_path / "whole", RECIPE, net=net())
    result = fit(data, tmp_path / "parts", RECIPE, net=net(), progress=Stop(Step, 1))
    stops = 1
    while not result.finished:
        result = fit(data, tmp_path / "parts", net=net(), resume=True, progress=Stop(Step, 1))
        stops += 1
    # Twenty-one steps, and the validation after each epoch's last one.
    assert stops == 22
    assert_same(tmp_path / "whole", tmp_path / "parts")


class Killed(BaseException):
    """What nobody catches, as little as a process catches SIGKILL."""


@pytest.mark.parametrize("nth", range(1, 40, 3))
def test_a_kill_in_any_write_leaves_a_training_that_goes_on(
    tmp_path: Path, data: Data, net: NetMaker, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    fit(data, tmp_path / "whole", RECIPE, net=net())
    write, left = files.os.fsync, nth

    def dying(handle: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed
        write(handle)

    # Every file is synced twice, itself and its folder: the kills fall on both sides of the renaming.
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", dying)
        with pytest.raises(Killed):
            fit(data, tmp_path / "parts", RECIPE, net=net(), checkpoint_every=0)
    begun = (tmp_path / "parts" / "checkpoint.safetensors").exists()
    fit(data, tmp_path / "parts", RECIPE, net=net(), resume=begun, overwrite=not begun)
    assert_same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("nth", [1, 3, 6, 9, 14])
def test_a_full_disk_ends_with_a_sentence_and_a_checkpoint(
    tmp_path: Path, data: Data, net: NetMaker, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    fit(data, tmp_path / "whole", RECIPE, net=net())
    write, left = files.os.fsync, nth

    def full(handle: int) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            raise OSError(28, "No space left on device")
        write(handle)

    run = tmp_path / "parts"
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(Unwritable, match="No space left on device") as caught:
            fit(data, run, RECIPE, net=net(), checkpoint_every=0)
    if run.exists():
        assert "--resume" in str(caught.value)
        fit(data, run, net=net(), resume=True)
        assert_same(tmp_path / "whole", run)
    else:
        assert "Nothing has been trained yet" in str(caught.value)


def test_a_disk_that_is_still_full_ends_with_a_sentence_too(
    tmp_path: Path, data: Data, net: NetMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    run = tmp_path / "run"
    stopped(run, data, net)
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(Unwritable, match=r"No space left on device.*--resume"):
            fit(data, run, net=net(), resume=True)
    assert fit(data, run, net=net(), resume=True).finished


@pytest.mark.parametrize(
    ("stop", "changes"),
    [
        (Stop(EpochDone, 2), {"epochs": 2}),
        (Stop(EpochDone, 2), {"learning_rate": 0.5}),
        (Stop(Step, 17), {"learning_rate": 0.5}),
    ],
    ids=["ends at once", "goes astray between epochs", "goes astray within one"],
)
def test_after_a_kill_and_a_change_the_weights_are_of_the_epoch_that_is_said(
    tmp_path: Path, data: Data, stop: Stop, changes: dict[str, Any]
) -> None:
    run = tmp_path / "run"
    killed(run, data, stop)
    recipe = dataclasses.replace(RECIPE, **{"epochs": 5, **changes})
    result = fit(data, run, recipe, resume=True)
    assert result.best is not None
    assert f"weights of epoch {result.best['epoch']}," in result.message
    for told in (result, finished_run(run)):
        found = evaluate(told.net, data, "validation")
        assert told.best == result.best
        assert found.losses.mean() == pytest.approx(result.best["val_loss"], rel=1e-5)


def test_an_end_of_which_no_weights_are_left_is_refused(tmp_path: Path, data: Data) -> None:
    run = tmp_path / "run"
    killed(run, data, Stop(Step, 11))
    with pytest.raises(InputError, match=r"end after epoch 1, whose weights are gone.*those of epoch 4.*epochs=2"):
        fit(data, run, dataclasses.replace(RECIPE, epochs=1), resume=True)
    assert len(fit(data, run, dataclasses.replace(RECIPE, epochs=2), resume=True).metrics) == 2


def killed(run: Path, data: Data, stop: Stop) -> None:
    """A training whose checkpoint is of where it was stopped at first, and that kept weights until its fourth epoch."""

    def kill(event: Event) -> None:
        if isinstance(event, EpochDone) and event.epoch == 4:
            raise Killed

    fit(data, run, dataclasses.replace(RECIPE, epochs=5), net="digits", progress=Stop(stop.kind, stop.left))
    with pytest.raises(Killed):
        fit(data, run, resume=True, progress=kill, checkpoint_every=1e9)


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path: Path, data: Data, net: NetMaker) -> None:
    fit(data, tmp_path / "whole", RECIPE, net=net())
    stopped(tmp_path / "parts", data, net)
    for path in (tmp_path / "parts").iterdir():
        if path.name != "config.json":
            path.unlink()
    fit(data, tmp_path / "parts", net=net(), resume=True)
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_finished_run_comes_back_as_it_ended(tmp_path: Path, data: Data) -> None:
    recipe = dataclasses.replace(RECIPE, average=0.9)
    whole = fit(data, tmp_path / "run", recipe, net="digits")
    again = finished_run(tmp_path / "run")
    assert (again.metrics, again.best, again.recipe) == (whole.metrics, whole.best, recipe)
    assert all(torch.equal(a, b) for a, b in zip(again.net.parameters(), whole.net.parameters(), strict=True))


def test_the_accuracy_wanted_ends_the_training(tmp_path: Path, data: Data, net: NetMaker) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=40, batch_size=12, learning_rate=0.1, target_accuracy=0.6, warmup=0.05)
    result = fit(data, tmp_path / "run", recipe, net=net())
    assert result.finished
    assert len(result.metrics) < 40
    reached = [line["val_accuracy"] >= 0.6 for line in result.metrics]
    assert reached == [False] * (len(reached) - 1) + [True]
    assert "as the accuracy wanted was reached" in result.message


def stopped(run: Path, data: Data, net: NetMaker) -> Result:
    return fit(data, run, RECIPE, net=net(), progress=Stop(Step, 4))


def test_an_unfinished_run_is_not_overwritten_by_accident(tmp_path: Path, data: Data, net: NetMaker) -> None:
    stopped(tmp_path / "run", data, net)
    with pytest.raises(InputError, match="--resume"):
        fit(data, tmp_path / "run", RECIPE, net=net())


def test_there_must_be_something_to_go_on_with(tmp_path: Path, data: Data, net: NetMaker) -> None:
    with pytest.raises(InputError, match="does not exist"):
        fit(data, tmp_path / "run", RECIPE, net=net(), resume=True)
    fit(data, tmp_path / "run", RECIPE, net=net())
    with pytest.raises(InputError, match="come to its end"):
        fit(data, tmp_path / "run", RECIPE, net=net(), resume=True)
    with pytest.raises(InputError, match="choose one"):
        fit(data, tmp_path / "run", RECIPE, net=net(), resume=True, overwrite=True)


def test_it_goes_on_only_as_it_began(tmp_path: Path, data: Data, net: NetMaker) -> None:
    run = tmp_path / "run"
    stopped(run, data, net)
    with pytest.raises(InputError, match="seed: 1, not 0"):
        fit(data, run, dataclasses.replace(RECIPE, seed=1), net=net(), resume=True)
    with pytest.raises(InputError, match="rest: sgd, not adamw"):
        fit(data, tmp_path / "run", dataclasses.replace(RECIPE, rest="sgd"), net=net(), resume=True)
    with pytest.raises(InputError, match="another data"):
        fit(dataclasses.replace(data, train=data.split("test")), run, net=net(), resume=True)
    other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    with pytest.raises(InputError, match="another net"):
        fit(data, run, net=other, resume=True)
    with pytest.raises(InputError, match="only you can build"):
        fit(data, run, resume=True)
    longer = fit(data, run, dataclasses.replace(RECIPE, epochs=4), net=net(), resume=True)
    assert len(longer.metrics) == 4
    assert json.loads((run / "config.json").read_text())["recipe"]["epochs"] == 4


def test_a_damaged_checkpoint_is_named(tmp_path: Path, data: Data, net: NetMaker) -> None:
    stopped(tmp_path / "run", data, net)
    path = tmp_path / "run" / "checkpoint.safetensors"
    content = path.read_bytes()
    for damaged in (content[:-1], content[:50], b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"checkpoint\.safetensors: damaged or cut short"):
            fit(data, tmp_path / "run", net=net(), resume=True)


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path, data: Data, net: NetMaker) -> None:
    before = signal.getsignal(signal.SIGINT)

    def press_twice(event: Event) -> None:
        if isinstance(event, Step):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    result = fit(data, tmp_path / "run", RECIPE, net=net(), progress=press_twice)
    assert not result.finished
    assert signal.getsignal(signal.SIGINT) is before


def test_files_appear_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"x": 1})
    assert json.loads(path.read_text()) == {"x": 1}

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_json(path, {"x": 2})
    assert json.loads(path.read_text()) == {"x": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]
