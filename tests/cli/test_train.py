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

from hapgop import engine
from hapgop.cli import training
from hapgop.train import EpochDone, Step
from hapgop.train.progress import silent

QUICK = ["--epochs", "1", "--batch-size", "256"]


@pytest.fixture
def trained(hapgop):
    done = hapgop("train", "digits", "--run", "first", *QUICK)
    assert done.code == 0, done.err
    return done


def test_training_leaves_a_whole_run_and_says_how_good_it_is(trained):
    assert {path.name for path in Path("first").iterdir()} == {
        "model.safetensors", "config.json", "metrics.jsonl", "filters.safetensors", "report.html", "README.md",
    }  # fmt: skip
    assert "Test accuracy: " in trained.out
    assert "of 359 right; 95 % interval" in trained.out
    assert f"Report: {Path('first/report.html')}" in trained.out
    order = ["Trained for 1 epoch; ", "Test accuracy: ", "Report: ", "Try next: hapgop predict first"]
    assert [word for line in trained.out.splitlines() for word in order if line.startswith(word)] == order
    # No terminal, no bar: a line for each epoch instead.
    assert "epoch 1/1: training " in trained.err
    assert "\x1b" not in trained.out + trained.err


def test_the_options_reach_the_recipe(hapgop):
    arguments = "--optimizer adamw --lr 0.003 --seed 5 --shift 0 --no-flip --schedule constant --label-smoothing 0.1"
    done = hapgop("train", "--run", "second", "--calls", *QUICK, *arguments.split())
    assert done.code == 0
    assert "by who computed them:\nop " in done.out
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


def test_the_precision_is_kept_with_the_run(hapgop):
    done = hapgop("train", "digits", "--run", "exact", "--precision", "exact", *QUICK)
    assert done.code == 0, done.err
    assert engine.get_precision() == "exact"
    assert json.loads(Path("exact/config.json").read_text())["precision"] == "exact"
    assert hapgop("evaluate", "exact", "digits", "--precision", "fast").code == 0
    assert engine.get_precision() == "fast"
    assert hapgop("train", "digits", "--precision", "rough").code == 2


def test_evaluate_judges_on_the_images_that_this_run_has_not_seen(hapgop):
    trained = hapgop("train", "digits", "--run", "seeded", "--seed", "5", "--epochs", "4")
    told = json.loads(hapgop("evaluate", "seeded", "digits", "--json").out)
    assert told["images"] == 359
    assert f"{told['correct']} of 359 right" in trained.out
    words = hapgop("evaluate", "seeded", "digits")
    assert "drawn with seed 5" in words.err


def test_the_share_held_back_belongs_to_the_run(hapgop):
    # As if killed after training: then the data are loaded anew to write the report.
    assert hapgop("train", "digits", "--run", "most", "--validation", "3%", *QUICK).code == 0
    told = json.loads(Path("most/config.json").read_text())["data"]
    assert told["validation"] == pytest.approx(0.03 * (told["train"] + told["validation"]), abs=5)
    again = json.loads(hapgop("evaluate", "most", "digits", "--split", "validation", "--json").out)
    assert again["images"] == told["validation"]
    Path("most/report.html").unlink()
    resumed = hapgop("train", "--resume", "--run", "most")
    assert resumed.code == 0, resumed.err
    assert "3% of each class" in resumed.err


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


def test_any_knob_can_be_set_and_a_recipe_read_back(hapgop):
    arguments = "--set cutout=2 --set average=0.9 --set test_flip=true --set border=edge --target-accuracy 99.9%"
    assert hapgop("train", "digits", "--run", "one", *QUICK, *arguments.split()).code == 0
    config = json.loads(Path("one/config.json").read_text())
    recipe = config["recipe"]
    assert (recipe["cutout"], recipe["average"], recipe["border"]) == (2, 0.9, "edge")
    assert recipe["target_accuracy"] == 0.999
    # What is said of an image afterwards is what was validated.
    assert config["prediction"] == {"mirror": True}
    # A run's config.json does as its recipe alone does.
    Path("recipe.json").write_text(json.dumps(recipe))
    assert training.recipe_changes(Path("recipe.json"), ()) == recipe
    assert hapgop("train", "digits", "--run", "two", "--recipe", "one/config.json").code == 0
    assert json.loads(Path("two/config.json").read_text())["recipe"] == recipe
    assert Path("two/model.safetensors").read_bytes() == Path("one/model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "cutout"], "NAME=VALUE is wanted"),
        (["--set", "cutuot=2"], "did you mean 'cutout'"),
        (["--set", "cutout=much"], "cutout is a whole number"),
        (["--recipe", "nowhere.json"], "cannot be read as JSON"),
        (["--target-accuracy", "many"], "a share is wanted"),
        (["--target-accuracy", "120%"], "a share is wanted"),
        (["--validation", "some"], "--validation some: a share is wanted"),
        (["--validation", "1"], "validation is a share of the training images, above 0 and below 1"),
        (["--time-budget", "soon"], "a time is wanted, as in 90s, 10m or 2h"),
        (["--time-budget", "0s"], "a time is wanted"),
        (["--time-budget", "10m", "--resume"], "--time-budget, --weights and --overwrite belong to a new one"),
    ],
)
def test_knobs_that_make_no_sense_are_named(hapgop, arguments, words):
    done = hapgop("train", "digits", "--run", "r", *arguments)
    assert done.code == 2
    assert words in done.err
    assert not Path("r").exists()


def test_a_time_budget_says_what_fits_before_it_starts(hapgop):
    done = hapgop("train", "digits", "--run", "timed", "--time-budget", "1h", "--epochs", "1")
    assert done.code == 0, done.err
    said = done.err.index("In 1:00:00: digits for 1 epoch, which should take")
    assert done.err.index("digits: ") < said < done.err.index("epoch 1/1")


def test_tensorboard_gets_the_curves(hapgop):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    done = hapgop("train", "digits", "--run", "seen", "--epochs", "2", "--batch-size", "256", "--tensorboard")
    assert done.code == 0, done.err
    events = reading.EventAccumulator("seen/tensorboard").Reload()
    metrics = [json.loads(line) for line in Path("seen/metrics.jsonl").read_text().splitlines()]
    told = [event.value for event in events.Scalars("loss/val")]
    assert told == pytest.approx([line["val_loss"] for line in metrics])
    assert len(events.Scalars("step/loss")) == 10
    # A new run in its place has curves of its own alone.
    assert hapgop("train", "digits", "--run", "seen", "--overwrite", *QUICK).code == 0
    assert not Path("seen/tensorboard").exists()


def test_tensorboard_gets_an_epoch_whose_steps_were_made_before(tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    writer = pytest.importorskip("hapgop.cli.tensorboard").Writer(tmp_path, silent)
    loss, rest = {"train_loss": 2.0, "val_loss": 1.0}, {"train_accuracy": 0.5, "val_accuracy": 0.5}
    speed = {"learning_rate": 0.1, "seconds": 1.0, "images_per_second": 9.0, "seconds_waiting": 0.0}
    writer(EpochDone(epoch=1, epochs=2, best=True, **loss, **rest, **speed))
    writer(
        Step(epoch=2, epochs=2, step=1, steps=5, loss=1, accuracy=0.5, images_per_second=9, seconds_left=1, waiting=0)
    )
    writer.close()
    events = reading.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss/val")] == [(1, 1.0)]
    assert [event.step for event in events.Scalars("step/loss")] == [6]


def test_check_only_looks_at_the_data(hapgop):
    done = hapgop("train", "digits", "--check", "--run", "r")
    assert done.code == 0
    assert "The data are in order" in done.err
    assert not Path("r").exists()


def test_a_run_killed_before_its_report_gets_it_by_resume(trained, hapgop):
    whole = Path("first/report.html").read_text()
    Path("first/report.html").unlink()
    weights = Path("first/model.safetensors").read_bytes()
    config = json.loads(Path("first/config.json").read_text())
    Path("first/config.json").write_text(json.dumps({**config, "data": {**config["data"], "mark": "another"}}))
    done = hapgop("train", "--resume", "--run", "first")
    assert done.code == 0, done.err
    assert "note: digits has changed since the training (1,797 images then, 1,797 now)" in done.err
    assert Path("first/model.safetensors").read_bytes() == weights
    assert "Test accuracy" in done.out
    assert len(Path("first/report.html").read_text()) == pytest.approx(len(whole), rel=0.01)


def test_the_same_recipe_in_both_layers(hapgop):
    arguments = ["--target", "15%", "--threads", "1", "--set", "epochs=2", "--set", "batch_size=256"]
    done = hapgop("bench", "accuracy", "digits", *arguments, "--json", "sides.json")
    assert done.code == 0, done.err
    told = json.loads(Path("sides.json").read_text())
    ours, theirs = told["sides"]
    assert (ours["name"], theirs["name"]) == ("hapgop", "PyTorch")
    # The same weights, batches and arithmetic but for roundings: the first epochs agree to some images.
    assert ours["val_accuracy"] == pytest.approx(theirs["val_accuracy"], abs=0.05)
    assert min(ours["images_per_second"], theirs["images_per_second"]) > 0
    assert told["share"] == ours["seconds"] / theirs["seconds"]
    assert told["share_from_start"] == ours["seconds_from_start"] / theirs["seconds_from_start"]
    assert all(side["seconds_from_start"] > side["seconds"] for side in told["sides"])
    assert "of PyTorch's time" in done.out
    assert "from the start of the process" in done.out
    assert hapgop("bench", "layers", "digits").code == 2


def test_one_side_of_a_comparison_alone(hapgop):
    done = hapgop("bench", "accuracy", "digits", "--side", "hapgop", "--set", "epochs=1", "--json", "side.json")
    assert done.code == 0, done.err
    (side,) = json.loads(Path("side.json").read_text())["sides"]
    assert (side["name"], side["seconds_from_start"]) == ("hapgop", None)
    done = hapgop("bench", "accuracy", "digits", "--side", "Keras")
    assert (done.code, "hapgop, PyTorch" in done.err) == (2, True)
    # The side's own process says why.
    assert hapgop("bench", "accuracy", "nowhere").code == 2


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that takes any bytes for a name")
def test_names_that_are_no_text_lose_no_result(hapgop, tmp_path):
    """As unpacked from an archive of another system: EUC-KR, Latin-1."""
    home = os.fsencode(tmp_path / "pets")
    for name, value in ((b"caf\xe9", 0), (b"dog", 200)):
        os.makedirs(os.path.join(home, name))
        for number in range(10):
            path = os.path.join(home, name, b"\xb0\xed_%d.png" % number)
            Image.fromarray(np.full((12, 12), value + number, np.uint8)).save(os.fsdecode(path))
    done = hapgop("train", "pets", "--run", "named", "--epochs", "1", "--net", "lenet5", "--threads", "1")
    assert done.code == 0, done.err
    assert "Test accuracy: " in done.out
    assert json.loads(Path("named/config.json").read_text())["classes"] == ["caf\udce9", "dog"]
    assert "caf\\udce9" in Path("named/report.html").read_text()
    assert hapgop("evaluate", "named", "pets").code == 0


def test_an_empty_name_is_no_data(hapgop):
    done = hapgop("train", "")
    assert done.code == 2
    assert "empty name" in done.err


def test_a_negative_seed_is_refused_at_once(hapgop):
    assert hapgop("train", "digits", "--seed", "-1").code == 2
