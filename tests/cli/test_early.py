"""What is refused before the data are read, and what is said of a run that is not over."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import typer

from hapgop import train
from hapgop.cli import beginning, training
from hapgop.train import starting
from hapgop.train.only_here import only_here


@pytest.fixture
def no_data(monkeypatch):
    """Reading the data would be a mistake."""

    def load(*source, **how):
        raise AssertionError("the data were read")

    monkeypatch.setattr(train, "load", load)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run as it is between training and report."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    train.fit(train.load("digits"), folder, train.Recipe(epochs=2, batch_size=256), net="digits")
    return folder


@pytest.fixture
def run(finished):
    """Such a run in the folder of the test, its metrics of one epoch and a checkpoint, so that it goes on."""
    shutil.copytree(finished, "r")
    lines = Path("r/metrics.jsonl").read_text().splitlines(keepends=True)
    Path("r/metrics.jsonl").write_text(lines[0])
    Path("r/checkpoint.safetensors").write_bytes(b"")
    return Path("r")


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--net", "resnet19"], "did you mean 'resnet18'"),
        (["--net", "tinyvgg", "--size", "8"], "wants images of at least"),
        (["--set", "cutuot=2"], "did you mean 'cutout'"),
        (["--lr", "-1"], "learning_rate must be above 0"),
        (["--optimizer", "magic"], "optimizer is one of"),
        (["--target-accuracy", "120%"], "a share is wanted"),
        (["--size", "0"], "--size 0: a number of pixels"),
        (["--size", "99999999999"], "a number of pixels"),
        (["--weights", "none.safetensors"], "none.safetensors: there is no such file"),
        (["--weights", "text.txt"], "text.txt: no safetensors file"),
        (["--recipe", "text.txt"], "cannot be read as JSON"),
        (["--recipe", "other.json"], "--recipe other.json: A recipe has no setting 'data'"),
        (["--recipe", "list.json"], "--recipe list.json: A recipe must be a JSON object"),
        (["--run", "taken"], "there is a run already"),
        (["--run", "full"], "holds other files and is no run"),
        (["--run", "text.txt"], "a file; a run needs a folder"),
        (["--run", "text.txt/below"], "text.txt is a file"),
    ],
)
def test_without_the_data(hapgop, arguments, words):
    Path("text.txt").write_text("no weights, no recipe")
    Path("other.json").write_text('{"data": 1}')
    Path("list.json").write_text("[]")
    for name, file in (("taken", "config.json"), ("full", "letter.txt")):
        Path(name).mkdir()
        Path(name, file).write_text("{}")
    done = hapgop("train", "digits", "--run", "r", *arguments)
    assert done.code == 2, done.err
    assert words in done.err
    assert "Traceback" not in done.err
    assert not Path("r").exists()


@pytest.mark.usefixtures("no_data")
def test_a_folder_that_cannot_be_written(hapgop, monkeypatch):
    monkeypatch.setattr(starting.os, "access", lambda path, mode: False)
    done = hapgop("train", "digits", "--run", "deep/er")
    assert done.code == 2
    assert f"deep/er: the run cannot be kept there, as nothing can be written into {Path.cwd()}." in done.err


@pytest.mark.usefixtures("no_data")
def test_a_folder_in_which_another_process_trains(hapgop, run):
    with only_here(run):
        done = hapgop("train", "--resume", "--run", run)
    assert done.code == 2
    assert "another process is training there" in done.err


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", "9"], "began with other images (--size 9x9, not 8x8)"),
        (["--channels", "3", "--resize", "crop"], "--channels 3, not 1; --resize crop, not stretch"),
        (["--validation", "2%"], "--validation 0.02, not 0.1"),
        (["--net", "lenet5"], "began with the net digits, not lenet5"),
        (["--seed", "1"], "seed: 1, not 0"),
        (["--set", "cutuot=2"], "did you mean 'cutout'"),
        (["--weights", "x.safetensors"], "belong to a new one"),
        (["--overwrite"], "belong to a new one"),
    ],
)
def test_what_is_not_as_it_began(hapgop, run, arguments, words):
    done = hapgop("train", "--resume", "--run", run, *arguments)
    assert done.code == 2, done.err
    assert words in done.err


def test_options_that_are_as_it_began_are_heard(run):
    begun = beginning.read(run)
    how = beginning.loaded_as(run, begun, {"size": (8, 8), "channels": 1, "resize": "stretch", "validation": 0.1})
    assert how == beginning.loaded_as(run, begun, {})


def test_what_could_not_be_read_when_it_began_stays_out(run):
    assert beginning.resumed(train.ALONE, None, run, {}, {}, net=None).how["retry"] is False


def test_true_and_false_may_be_written_as_errors_write_them():
    settings = ["nesterov=False", "flip=True", "test_flip = false", "border=edge", "shift= 2"]
    wanted = {"nesterov": False, "flip": True, "test_flip": False, "border": "edge", "shift": 2}
    assert training.recipe_changes(None, settings) == wanted


@pytest.mark.usefixtures("no_data")
def test_a_lost_checkpoint_is_no_end(hapgop, run):
    (run / "checkpoint.safetensors").unlink()
    done = hapgop("train", "--resume", "--run", run)
    assert done.code == 2
    assert "has not come to its end, but its checkpoint.safetensors is gone" in done.err
    assert not (run / "report.html").exists()


@pytest.mark.usefixtures("no_data")
def test_what_is_over_cannot_be_changed(hapgop, finished):
    shutil.copytree(finished, "over")
    done = hapgop("train", "--resume", "--run", "over", "--epochs", "3")
    assert done.code == 2
    assert "only its report is missing. It cannot be changed any more (epochs: 3, not 2)" in done.err
    Path("over/report.html").write_text("")
    done = hapgop("train", "--resume", "--run", "over")
    assert done.code == 2
    assert "has come to its end, after 2 epochs" in done.err


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ((), "Stopped at once, before the training began.\n"),
        (("config.json",), "Stopped at once, before anything was trained. This begins again:\n  go on\n"),
        (
            ("config.json", "checkpoint.safetensors"),
            "Stopped at once. From the last checkpoint on, this goes on:\n  go on\n",
        ),
        (
            ("config.json", "model.safetensors", "metrics.jsonl"),
            "Stopped at once. r holds the trained net; this writes its report:\n  go on\n",
        ),
        (
            ("config.json", "model.safetensors", "metrics.jsonl", "report.html"),
            "Stopped at once, before the training began.\n",
        ),
    ],
)
def test_a_second_ctrl_c_says_what_is_left(finished, capsys, kept, words):
    Path("r").mkdir()
    for name in kept:
        Path("r", name).write_bytes(Path(finished, name).read_bytes() if Path(finished, name).exists() else b"")
    with pytest.raises(typer.Exit) as caught, training.going_on(Path("r"), "go on"):
        raise KeyboardInterrupt
    assert (caught.value.exit_code, capsys.readouterr().err) == (130, words)


def test_the_report_names_the_command_that_began(hapgop, finished):
    shutil.copytree(finished, "over")
    config = json.loads(Path("over/config.json").read_text())
    Path("over/config.json").write_text(json.dumps({**config, "command": "hapgop train digits --as-it-began"}))
    done = hapgop("train", "--resume", "--run", "over")
    assert done.code == 0
    assert "has changed" not in done.err
    assert "hapgop train digits --as-it-began" in Path("over/report.html").read_text()


@pytest.mark.parametrize("name", ["README.md", "report.html"])
def test_a_disk_that_is_full_at_the_report_loses_no_training(hapgop, finished, monkeypatch, name):
    shutil.copytree(finished, "over")
    replace = Path.replace

    def full(path, target):
        if Path(target).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        done = hapgop("train", "--resume", "--run", "over")
    assert done.code == 2
    assert f"over: the report cannot be written ({os.strerror(errno.ENOSPC)})." in done.err
    assert "trained and kept; this writes it:\n  hapgop train --resume --run over" in done.err
    assert training.only_report_missing(Path("over"))
    assert Path("over/README.md").exists() == (name == "report.html")


def test_no_run_is_kept_where_the_demo_is_replaced(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    start = beginning.new(train.ALONE, "demo", None, {}, {}, net=None, weights=None, kept=True, overwrite=False)
    assert start.folder == Path("runs/demo-2")
