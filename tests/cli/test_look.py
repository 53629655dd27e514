"""`hapgop look` and `hapgop learn`: what they serve, write and refuse."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from hapgop.cli import looking
from hapgop.cli.commands import learn, look
from hapgop.predict import Predictor
from hapgop.train import load_for
from hapgop.web import free_socket


def told(run, **more):
    """Writes more into the run's config.json."""
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | more))


@pytest.fixture
def served(monkeypatch):
    """Instead of a server that runs until Ctrl-C: what it would have served."""
    calls = []
    for module in (look, learn):
        monkeypatch.setattr(
            module, "serve", lambda subject, place, ready, path="/": calls.append((subject, place, path))
        )
    yield calls
    for _, place, _ in calls:
        place.close()


@pytest.mark.parametrize("mirror", [False, True])
def test_a_picture_is_shown_first_and_labelled_as_predict_labels_it(hapgop, run, pictures, served, mirror):
    told(run, prediction={"mirror": mirror})
    for name in ("left.png", "deep/large.png"):
        assert hapgop("look", run, pictures / name, "--no-browser").code == 0
        subject, _, path = served[-1]
        wanted = Predictor(run)(pictures / name)[0]
        answer = subject.answer(subject.sample(0))
        assert path == "/"
        assert subject.classes[int(np.argmax(answer))] == wanted.label
        assert answer == pytest.approx(wanted.probabilities.tolist(), rel=1e-5)


def test_the_page_is_opened_in_the_browser_unless_not_wanted(monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(look.webbrowser, "open", opened.append)
    look.opened("http://127.0.0.1:7007/", browser=False)
    assert opened == []
    look.opened("http://127.0.0.1:7007/", browser=True)
    assert opened == ["http://127.0.0.1:7007/"]
    assert "http://127.0.0.1:7007/ (Ctrl-C ends it)" in capsys.readouterr().out


def test_one_file_is_written(hapgop, run, pictures, tmp_path):
    done = hapgop("look", run, pictures / "left.png", "--html", tmp_path / "look.html")
    assert (done.code, done.err) == (0, "")
    assert "Wrote" in done.out
    assert (tmp_path / "look.html").stat().st_size < 1_000_000


def test_a_taken_port(hapgop, run):
    taken = free_socket(0)
    taken.listen()
    done = hapgop("look", run, "--port", taken.getsockname()[1])
    taken.close()
    assert done.code == 2
    assert "is taken" in done.err
    assert "Traceback" not in done.err


def test_weights_that_do_not_fit_the_run(hapgop, run):
    config = json.loads((run / "config.json").read_text())
    config["graph"]["nodes"][0]["attrs"]["out_channels"] = 2
    config["graph"]["nodes"][2]["attrs"]["out_features"] = 2
    (run / "config.json").write_text(json.dumps(config))
    done = hapgop("look", run)
    assert done.code == 2
    assert "model.safetensors does not fit config.json" in done.err


@pytest.mark.parametrize("name", ["notes.png", "nothing.png"])
def test_a_picture_that_is_none(hapgop, run, pictures, name, served):
    done = hapgop("look", run, pictures / name, "--html", "x.html")
    assert done.code == 2
    assert name in done.err


def test_a_picture_of_a_hundred_megapixels(hapgop, run, tmp_path, served):
    Image.new("1", (10_000, 10_000)).save(tmp_path / "huge.png")
    done = hapgop("look", run, tmp_path / "huge.png")
    assert done.code == 2
    assert "100 million pixels. More than 64 million are refused" in done.err
    assert served == []


def test_samples_come_from_the_folder_of_the_run(run, pictures, tmp_path):
    root = tmp_path / "data"
    for label in ("left", "right"):
        (root / "test" / label).mkdir(parents=True)
        (pictures / f"{label}.png").rename(root / "test" / label / "a.png")
    told(run, data={"source": str(root), "kind": "folder"})
    assert [one.truth for one in looking.samples(Predictor(run))] == ["left", "right"]
    told(run, data={"source": str(root / "gone"), "kind": "folder"})
    assert looking.samples(Predictor(run)) == []


@pytest.fixture
def paint(run, pictures, tmp_path):
    """A function that copies a picture of the class for each name into a folder of the data of the run."""

    def make(part, *names):
        told(run, data={"source": str(tmp_path / "data"), "kind": "folder"})
        for label in ("left", "right"):
            folder = tmp_path / "data" / part / label
            folder.mkdir(parents=True)
            for name in names:
                shutil.copy(pictures / f"{label}.png", folder / name)
        return tmp_path / "data" / part

    return make


@pytest.mark.parametrize("part", ["test", "."])
def test_what_training_skips_is_no_sample(hapgop, run, paint, served, part):
    data = paint(part, *(f"{n}.png" for n in range(12)))
    skipped = {data / "left" / "._0.png", data / "left" / "0.png"}
    for path in skipped:
        path.write_bytes((data / "left" / "1.png").read_bytes()[:50])
    found = looking.samples(Predictor(run))
    assert {one.truth for one in found} == {"left", "right"}
    assert not skipped & {one.picture for one in found}
    assert hapgop("look", run, "--no-browser").code == 0


@pytest.mark.parametrize("name", ["Testing", "VAL", "test"])
def test_samples_come_from_the_split_that_training_knows_by_its_name(run, paint, name):
    paint("Training", "seen.png")
    paint(name, "judged.png")
    assert {one.name for one in looking.samples(Predictor(run))} == {"judged.png"}


def test_without_a_split_samples_are_those_that_training_set_aside(run, paint, tmp_path):
    paint(".", *(f"{n}.png" for n in range(20)))
    predictor = Predictor(run)
    test = load_for(predictor, tmp_path / "data").split("test")
    found = looking.samples(predictor)
    assert {one.name for one in found} == set(test.names)


def test_the_lesson_takes_a_run(hapgop, run, served):
    done = hapgop("learn", run, "--lang", "ko", "--no-browser")
    assert done.code == 0, done.err
    assert served[0][2] == "/#/learn?lang=ko"


def test_the_lesson_trains_a_net_where_none_is_given(hapgop, served, monkeypatch):
    monkeypatch.setattr(learn, "_EPOCHS", 1)
    done = hapgop("learn", "--no-browser", "--port", "0")
    assert done.code == 0, done.err
    subject = served[0][0]
    assert subject.classes == tuple("0123456789")
    assert len(subject.samples) == 48
    assert {one.truth for one in subject.samples} == set(subject.classes)


def test_a_language_that_there_is_not(hapgop):
    done = hapgop("learn", "--lang", "fr")
    assert done.code == 2
    assert "en and ko" in done.err
