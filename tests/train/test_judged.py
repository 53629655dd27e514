"""Which images a net is judged by: of its own data those held back, of others all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
import torch

from hapgop.errors import InputError
from hapgop.predict import Predictor
from hapgop.train import Data, Recipe, evaluate, fit, load
from hapgop.train.load import load_for

Paint = Callable[..., Path]
NetMaker = Callable[..., torch.nn.Module]


@pytest.fixture
def run(tmp_path: Path, pets: Path, net: NetMaker) -> Path:
    """A net that was trained on `pets`."""
    fit(load(pets, size=8), tmp_path / "run", Recipe(epochs=1, batch_size=8), net=net(2))
    return tmp_path / "run"


def judged(run: Path, source: Path | str) -> tuple[str, set[str], str]:
    """The split that judges, its images, and the last note."""
    data = load_for(Predictor(run), source)
    found = evaluate(run, source)
    assert found.split == data.unseen
    assert found.names == data.split(data.unseen).names
    return found.split, set(found.names), data.notes[-1]


def told(run: Path, **changes: object) -> None:
    """Changes what config.json tells of the data; None takes it away."""
    config = json.loads((run / "config.json").read_text())
    config["data"] |= changes
    config["data"] = {key: value for key, value in config["data"].items() if value is not None}
    (run / "config.json").write_text(json.dumps(config))


def test_a_runs_own_data_are_split_as_they_were(run: Path, pets: Path) -> None:
    held = set(load(pets, size=8).split("test").names)
    assert len(held) == 4
    assert judged(run, pets)[:2] == ("test", held)
    moved = pets.rename(pets.with_name("elsewhere"))
    split, names, note = judged(run, moved)
    assert (split, names) == ("test", held)
    assert "drawn with seed 0" in note
    assert len(evaluate(run, moved, "all").labels) == 20


def test_all_of_new_pictures_judge(run: Path, tmp_path: Path, paint: Paint) -> None:
    for number in range(20):
        paint(tmp_path / "new" / ("cat", "dog")[number % 2] / f"{number}.png", number)
    split, names, note = judged(run, tmp_path / "new")
    assert split == "all"
    assert len(names) == 20
    assert "taken as new to the net, which was trained on" in note
    assert "pets: no part of it is set aside" in note
    assert len(evaluate(run, tmp_path / "new", "all").labels) == 20
    for name in ("train", "validation", "test"):
        with pytest.raises(InputError, match=f"no {name} split of its own; there is 'all'"):
            evaluate(run, tmp_path / "new", name)


def test_pictures_of_the_same_names_are_new_all_the_same(run: Path, tmp_path: Path, paint: Paint) -> None:
    for number in range(10):
        paint(tmp_path / "new" / "cat" / f"{number}.png", number + 1)
        paint(tmp_path / "new" / "dog" / f"{number}.png", number + 101)
    assert len(judged(run, tmp_path / "new")[1]) == 20


def test_one_class_one_picture_or_an_empty_class_will_do(run: Path, tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / "new" / "dog" / "0.png")
    found = evaluate(run, tmp_path / "new")
    assert found.classes == ("cat", "dog")
    assert found.labels.tolist() == [1]
    assert found.per_class.total.tolist() == [0, 1]
    # A folder of a name that the net does not know, without a picture, holds nothing that it could be asked.
    for name in ("cat", "empty", "misc"):
        (tmp_path / "new" / name).mkdir()
    (tmp_path / "new" / "misc" / "1.png").write_text("Dear diary")
    assert evaluate(run, tmp_path / "new").names == ("dog/0.png",)
    paint(tmp_path / "new" / "misc" / "0.png")
    with pytest.raises(InputError, match="class 'misc' is not among those that the net knows"):
        evaluate(run, tmp_path / "new")


def test_new_data_keep_the_splits_that_they_have(run: Path, tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / "new" / "test" / "dog" / "0.png")
    assert judged(run, tmp_path / "new")[:2] == ("test", {"test/dog/0.png"})
    assert evaluate(run, tmp_path / "new", "all").names == ("test/dog/0.png",)
    paint(tmp_path / "new" / "train" / "cat" / "0.png")
    assert judged(run, tmp_path / "new")[:2] == ("test", {"test/dog/0.png"})
    assert evaluate(run, tmp_path / "new", "train").names == ("train/cat/0.png",)
    assert len(evaluate(run, tmp_path / "new", "all").names) == 2
    with pytest.raises(InputError, match="no validation split of its own; there is 'train', 'test', 'all'"):
        evaluate(run, tmp_path / "new", "validation")
    shutil.rmtree(tmp_path / "new" / "test")
    paint(tmp_path / "new" / "val" / "cat" / "0.png")
    assert judged(run, tmp_path / "new")[0] == "all"


def test_new_data_without_a_picture_are_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "new" / "dog").mkdir(parents=True)
    with pytest.raises(InputError, match="no pictures in 'dog'"):
        evaluate(run, tmp_path / "new")
    (tmp_path / "new" / "dog" / "0.png").write_text("Dear diary")
    with pytest.raises(InputError, match=r"no readable image. Skipped were dog/0.png \(not a picture"):
        evaluate(run, tmp_path / "new")


@pytest.mark.parametrize("names", [("x", "y"), ("x_test", "y_test")])
def test_arrays_may_be_new_too(tmp_path: Path, data: Data, net: NetMaker, names: tuple[str, str]) -> None:
    fit(data, tmp_path / "run", Recipe(epochs=1, batch_size=10), net=net())
    np.savez(tmp_path / "new.npz", **{names[0]: np.zeros((5, 8, 8), np.uint8), names[1]: ["low"] * 5})
    found = evaluate(tmp_path / "run", tmp_path / "new.npz")
    assert found.split == ("all" if names[0] == "x" else "test")
    assert found.labels.tolist() == [2] * 5
    with pytest.raises(InputError, match=r"only one class|no training images"):
        load(tmp_path / "new.npz")


def test_data_that_changed_in_their_place_are_said_to_have(run: Path, pets: Path, paint: Paint) -> None:
    held = set(load(pets, size=8).split("test").names)
    paint(pets / "cat" / "new.png", 33)
    split, names, note = judged(run, pets)
    assert split == "test"
    assert len(held - names) <= 1
    assert evaluate(run, pets, "all").split == "all"
    assert "pets has changed since the training (20 images then, 21 now)" in note
    assert "trained on images that are in the test or validation split now" in note


def test_what_lies_in_the_place_of_the_data_need_not_be_fit_for_training(run: Path, pets: Path) -> None:
    shutil.rmtree(pets / "cat")
    split, names, note = judged(run, pets)
    assert split == "test"
    assert len(names) == 2
    assert "20 images then, 10 now" in note
    (pets / "dog").rename(pets / "test")
    (pets / "dog").mkdir()
    (pets / "test").rename(pets / "dog" / "dog")
    (pets / "dog").rename(pets / "test")
    assert len(judged(run, pets)[1]) == 10


def test_a_run_of_older_make_may_have_seen_the_images(run: Path, pets: Path) -> None:
    told(run, mark=None)
    split, _, note = judged(run, pets)
    assert split == "test"
    assert "made by an older hapgop" in note
    moved = pets.rename(pets.with_name("elsewhere"))
    assert judged(run, moved)[0] == "all"


def test_splits_that_were_given_cannot_have_moved(tmp_path: Path, paint: Paint, net: NetMaker) -> None:
    for split in ("train", "val", "test"):
        for name in ("cat", "dog"):
            for number in range(3):
                paint(tmp_path / "d" / split / name / f"{number}.png", number)
    fit(load(tmp_path / "d", size=8), tmp_path / "run", Recipe(epochs=1, batch_size=8), net=net(2))
    told(tmp_path / "run", mark=None)
    data = load_for(Predictor(tmp_path / "run"), tmp_path / "d")
    assert data.drawn == ()
    assert not any("older" in note for note in data.notes)
    told(tmp_path / "run", mark="another")
    data = load_for(Predictor(tmp_path / "run"), tmp_path / "d")
    assert data.notes[-1].endswith("has changed since the training (18 images then, 18 now).")


def test_class_names_meet_in_either_spelling_of_unicode(tmp_path: Path, paint: Paint, net: NetMaker) -> None:
    one, other = (normalize(form, "한글") for form in ("NFC", "NFD"))
    for number in range(6):
        paint(tmp_path / "d" / one / f"{number}.png", number)
        paint(tmp_path / "d" / "b" / f"{number}.png", number + 100)
        paint(tmp_path / "new" / other / f"{number}.png", number + 7)
    fit(load(tmp_path / "d", size=8), tmp_path / "run", Recipe(epochs=1, batch_size=8), net=net(2))
    assert evaluate(tmp_path / "run", tmp_path / "new").labels.tolist() == [1] * 6
    # A run that kept the other spelling, as those did that were trained on a Mac.
    config = (tmp_path / "run" / "config.json").read_text()
    (tmp_path / "run" / "config.json").write_text(config.replace(one, other))
    assert evaluate(tmp_path / "run", tmp_path / "new").labels.tolist() == [1] * 6
    np.savez(tmp_path / "new.npz", x=np.zeros((2, 8, 8), np.uint8), y=[other, "b"])
    assert evaluate(tmp_path / "run", tmp_path / "new.npz").labels.tolist() == [1, 0]


def test_a_module_that_learnt_from_other_data_is_judged_by_all(pets: Path, run: Path, net: NetMaker) -> None:
    rules = Predictor(run).preprocessing
    assert evaluate(net(2), pets, preprocessing=rules).split == "all"
    with pytest.raises(InputError, match="cut=False"):
        evaluate(net(2), load(pets, size=8, cut=False))
    found = evaluate(net(2), load(pets, size=8, cut=False), preprocessing=rules)
    assert len(found.labels) == 20
