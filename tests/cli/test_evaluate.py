"""hapgop evaluate: it says which images judged, and what to think of them."""

import json

import numpy as np
import pytest
from PIL import Image

QUICK = ("--epochs", "1", "--net", "lenet5", "--threads", "1")


def paint(root, label, values):
    (root / label).mkdir(parents=True, exist_ok=True)
    for value in values:
        Image.fromarray(np.full((12, 12), value, np.uint8)).save(root / label / f"{value}.png")


@pytest.fixture
def pets(tmp_path, hapgop):
    """Pictures of two classes, and a run that was trained on them."""
    paint(tmp_path / "pets", "cat", range(20))
    paint(tmp_path / "pets", "dog", range(200, 220))
    done = hapgop("train", "pets", "--run", "run", *QUICK)
    assert done.code == 0, done.err
    return tmp_path / "pets"


def test_new_pictures_judge_all_of_them(pets, hapgop, tmp_path):
    paint(tmp_path / "new", "cat", range(30, 50))
    done = hapgop("evaluate", "run", "new")
    assert done.code == 0, done.err
    assert f"Judged by 20 images of {tmp_path / 'new'}: all of them." in done.out
    assert "of 20 right" in done.out
    assert "taken as new to the net" in done.err
    told = json.loads(hapgop("evaluate", "run", "new", "--split", "all", "--json").out)
    assert (told["split"], told["images"]) == ("all", 20)
    assert [line["images"] for line in told["classes"]] == [20, 0]
    refused = hapgop("evaluate", "run", "new", "--split", "test")
    assert refused.code == 2
    assert "no test split of its own" in refused.err


def test_a_lone_test_folder_judges(pets, hapgop, tmp_path):
    paint(tmp_path / "new" / "test", "dog", (150,))
    done = hapgop("evaluate", "run", "new")
    assert done.code == 0, done.err
    assert "Judged by 1 images" not in done.out
    assert f"Judged by 1 image of {tmp_path / 'new'}: the test split." in done.out


def test_its_own_pictures_judge_by_those_held_back(pets, hapgop):
    done = hapgop("evaluate", "run", "pets")
    assert f"Judged by 8 images of {pets}: the test split." in done.out
    assert "changed" not in done.err
    paint(pets, "cat", (77,))
    done = hapgop("evaluate", "run", "pets")
    assert done.code == 0, done.err
    assert "has changed since the training (40 images then, 41 now)" in done.err


def test_a_damaged_run_is_named(pets, hapgop, tmp_path):
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["data"]["seed"] = "one"
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    done = hapgop("evaluate", "run", "pets")
    assert done.code == 2
    assert "config.json is damaged" in done.err
    assert "Traceback" not in done.err
