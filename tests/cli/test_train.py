import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

QUICK = ["--epochs", "1", "--batch-size", "256"]


@pytest.fixture
def trained(hapgop):
    done = hapgop("train", "digits", "--run", "first", *QUICK)
    assert done.code == 0, done.err
    return done


def test_training_leaves_a_whole_run_and_says_how_good_it_is(trained):
    assert {path.name for path in Path("first").iterdir()} == {
        "model.safetensors", "config.json", "metrics.jsonl", "filters.safetensors", "report.html",
    }  # fmt: skip
    assert "Test accuracy: " in trained.out
    assert "of 359 right; 95 % interval" in trained.out
    assert f"Report: {Path('first/report.html')}" in trained.out
    assert "by who computed them:" in trained.out
    assert "hapgop predict first" in trained.out
    # No terminal, no bar: a line for each epoch instead.
    assert "epoch 1/1: training " in trained.err
    assert "\x1b" not in trained.out + trained.err


def test_the_options_reach_the_recipe(hapgop):
    arguments = "--optimizer adamw --lr 0.003 --seed 5 --shift 0 --no-flip --schedule constant --label-smoothing 0.1"
    assert hapgop("train", "--run", "second", *QUICK, *arguments.split()).code == 0
    recipe = json.loads(Path("second/config.json").read_text())["recipe"]
    wanted = {
        "optimizer": "adamw", "learning_rate": 0.003, "seed": 5, "shift": 0, "flip": False,
        "schedule": "constant", "label_smoothing": 0.1, "epochs": 1, "batch_size": 256,
    }  # fmt: skip
    assert {name: recipe[name] for name in wanted} == wanted


def test_a_training_begins_with_the_weights_of_a_file(trained, hapgop):
    done = hapgop("train", "--run", "more", "--weights", "first/model.safetensors", *QUICK)
    assert done.code == 0, done.err
    assert json.loads(Path("more/config.json").read_text())["net"]["weights"] == "model.safetensors"
    lines = [json.loads(Path(run, "metrics.jsonl").read_text().splitlines()[0]) for run in ("first", "more")]
    assert lines[1]["train_loss"] < lines[0]["train_loss"]
    refused = hapgop("train", "--run", "other", "--weights", "none.safetensors", *QUICK)
    assert refused.code == 2
    assert "none.safetensors: there is no such file" in refused.err
    assert not Path("other").exists()
    assert hapgop("train", "--resume", "--run", "more", "--weights", "none.safetensors").code == 2


def test_without_run_a_free_folder_is_taken(hapgop):
    for folder in ("digits", "digits-2"):
        assert hapgop("train", *QUICK).code == 0
        assert Path("runs", folder, "model.safetensors").exists()


def test_a_folder_in_use_is_refused_unless_asked_for(trained, hapgop):
    before = Path("first/model.safetensors").read_bytes()
    done = hapgop("train", "digits", "--run", "first", *QUICK)
    assert done.code == 2
    assert Path("first/model.safetensors").read_bytes() == before
    assert hapgop("train", "digits", "--run", "first", "--force", "--seed", "3", *QUICK).code == 0
    assert Path("first/model.safetensors").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "there is no such folder or file"),
        (["digits", "--net", "giant"], "giant"),
        (["digits", "--lr", "-1"], "learning_rate must be above 0"),
        (["digits", "--optimizer", "magic"], "optimizer is one of"),
        (["digits", "--size", "big"], "--size big: a number of pixels"),
        (["digits", "--channels", "2"], "channels is 1"),
        (["digits", "--resume"], "--resume needs the run"),
        (["digits", "--resume", "--run", "r"], "no run to go on with"),
    ],
)
def test_what_cannot_be_leaves_nothing_behind(hapgop, arguments, words):
    options = (
        arguments if "--run" in arguments else [*arguments, "--run", "r"] if "--resume" not in arguments else arguments
    )
    done = hapgop("train", *options)
    assert done.code == 2
    assert words in done.err
    assert "Traceback" not in done.err
    assert not Path("r").exists()


def test_evaluate_in_words_and_as_json(trained, hapgop):
    words = hapgop("evaluate", "first", "digits")
    assert words.code == 0
    assert "Test accuracy: " in words.out
    told = json.loads(hapgop("evaluate", "first", "digits", "--json").out)
    assert (told["split"], told["images"]) == ("test", 359)
    assert told["accuracy"] == told["correct"] / 359
    assert np.sum(told["confusion"]) == 359
    assert np.trace(told["confusion"]) == told["correct"]
    assert f"{told['correct']} of 359 right" in words.out
    assert f"{told['correct']} of 359 right" in trained.out
    everything = json.loads(hapgop("evaluate", "first", "digits", "--split", "all", "--json").out)
    assert everything["images"] == 1797
    assert hapgop("evaluate", "first", "digits", "--split", "exam").code == 2


def test_evaluate_judges_on_the_images_that_this_run_has_not_seen(hapgop):
    trained = hapgop("train", "digits", "--run", "seeded", "--seed", "5", "--epochs", "4")
    told = json.loads(hapgop("evaluate", "seeded", "digits", "--json").out)
    assert told["images"] == 359
    assert f"{told['correct']} of 359 right" in trained.out
    words = hapgop("evaluate", "seeded", "digits")
    assert "drawn with seed 5" in words.err


def test_a_folder_of_pictures_with_a_bad_one(hapgop):
    random = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 180)):
        Path("photos", name).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(low, low + 70, (12, 10, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(Path("photos", name, f"{number}.png"))
    Path("photos/dark/notes.png").write_text("no picture")
    done = hapgop("train", "photos", "--epochs", "2", "--size", "8x12")
    assert done.code == 0, done.err
    assert "notes.png" in done.err
    config = json.loads(Path("runs/photos/config.json").read_text())
    assert config["preprocessing"]["input_size"] == [3, 8, 12]
    labelled = hapgop("predict", "runs/photos", "photos/light", "--json")
    assert len(json.loads(labelled.out)["predictions"]) == 12


def stop(process, wait_for):
    """Ctrl-C once a line of standard error says that training is under way."""
    for line in process.stderr:
        if wait_for in line:
            break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    return process.wait(timeout=60), rest


@pytest.mark.skipif(os.name != "posix", reason="sends the signal of Ctrl-C")
def test_ctrl_c_saves_and_the_command_it_names_goes_on(hapgop):
    command = [sys.executable, "-m", "hapgop", "train", "digits", "--run", "long", "--epochs", "400", "--threads", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    code, said = stop(process, "epoch 2/400")
    assert code == 130, said
    assert "Traceback" not in said
    assert said.splitlines()[-1].strip() == "hapgop train --resume --run long --threads 1"
    epochs = len(Path("long/metrics.jsonl").read_text().splitlines())
    assert epochs >= 2
    done = hapgop("train", "--resume", "--run", "long", "--epochs", str(epochs + 1))
    assert done.code == 0, done.err
    assert len(Path("long/metrics.jsonl").read_text().splitlines()) == epochs + 1
    assert not Path("long/checkpoint.safetensors").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_on_a_terminal_a_bar_with_the_time_left_comes_and_goes():
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "hapgop", "train", "digits", "--run", "seen", "--threads", "1", "--epochs", "5"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen(command, stderr=theirs, stdout=subprocess.PIPE, env=environment)
    os.close(theirs)
    drawn = b""
    # Reading a terminal whose other side is closed is an error where it would be an end elsewhere.
    with contextlib.suppress(OSError):
        while piece := os.read(ours, 4096):
            drawn += piece
    os.close(ours)
    result = process.communicate()[0].decode()
    assert process.returncode == 0
    assert b"epoch 1/5" in drawn
    assert b" s left" in drawn
    assert drawn.endswith(b"\x1b[2K")
    assert "\x1b" not in result


def test_the_demo(hapgop):
    done = hapgop("demo", "--epochs", "1")
    assert done.code == 0, done.err
    assert "Test accuracy: " in done.out
    assert "by who computed them:" in done.out
    assert "runs/demo/report.html" in done.out
    pictures = sorted(Path("runs/demo/digits").iterdir())
    assert len(pictures) == 8
    for picture in pictures:
        assert str(picture) in done.out
        assert Image.open(picture).size == (8, 8)
    # Its own folder is replaced without asking; another is not.
    assert hapgop("demo", "--epochs", "1").code == 0
    assert hapgop("demo", "--epochs", "1", "--run", "runs/demo").code == 2


def test_doctor(hapgop):
    words = hapgop("doctor")
    assert words.code == 0
    told = json.loads(hapgop("doctor", "--json").out)
    assert told["machine"]["cores"] >= 1
    assert len(told["machine"]["caches"]) == 3
    assert told["machine"]["name"] in words.out
    assert told["kernels"]["folder"] in words.out
    assert told["packages"]["torch"] in words.out


def test_doctor_does_not_import_torch():
    code = (
        "import sys\nfrom hapgop.cli import main\n"
        "try: main(['doctor'])\nexcept SystemExit as end: sys.exit(end.code or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
