import csv
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from hapgop import engine
from hapgop.cli.commands import predict


def test_a_table_by_default(hapgop, run, pictures):
    done = hapgop("predict", run, pictures / "left.png", pictures / "right.png")
    assert done.code == 0
    header, *rows = [line.split() for line in done.out.splitlines()]
    assert header == ["file", "label", "confidence"]
    assert [(row[0], row[1]) for row in rows] == [
        (str(pictures / "left.png"), "left"),
        (str(pictures / "right.png"), "right"),
    ]
    assert rows[0][2].endswith("%")
    assert done.err == ""


def test_the_confidence_is_that_of_the_arithmetic(hapgop, run, pictures):
    done = hapgop("predict", run, pictures / "left.png", "--json")
    (one,) = json.loads(done.out)["predictions"]
    # Nine pixels of ±1 times 0.1: logits 0.9 and -0.9.
    assert one["confidence"] == pytest.approx(1 / (1 + np.exp(-1.8)), rel=1e-6)
    assert one["probabilities"]["left"] == one["confidence"]
    assert sum(one["probabilities"].values()) == pytest.approx(1)


def test_folders_and_patterns(hapgop, run, pictures):
    whole = json.loads(hapgop("predict", run, pictures, "--json").out)
    assert [p["path"] for p in whole["predictions"]] == [
        str(pictures / "deep" / "large.png"),
        str(pictures / "left.png"),
        str(pictures / "right.png"),
    ]
    assert [p["label"] for p in whole["predictions"]] == ["right", "left", "right"]
    starred = json.loads(hapgop("predict", run, pictures / "[lr]*.png", "--json").out)
    assert len(starred["predictions"]) == 2
    deep = json.loads(hapgop("predict", run, f"{pictures}/**/l*.png", "--json").out)
    assert len(deep["predictions"]) == 2


def test_a_file_that_is_named_twice_is_labelled_once(hapgop, run, pictures):
    done = hapgop("predict", run, pictures / "left.png", pictures / "left.png", "--json")
    assert len(json.loads(done.out)["predictions"]) == 1


def test_a_name_with_brackets_is_no_pattern(hapgop, run, pictures):
    path = pictures / "[red]left[1].png"
    (pictures / "left.png").rename(path)
    done = hapgop("predict", run, path)
    assert done.code == 0
    assert str(path) in done.out


def test_another_size_is_said_once(hapgop, run, pictures):
    done = hapgop("predict", run, pictures / "deep", pictures / "left.png")
    assert done.err == "1 of 2 pictures were resized to 4×6, as the net wants.\n"


def test_a_bad_picture_is_named_and_skipped_and_the_rest_labelled(hapgop, run, pictures):
    done = hapgop("predict", run, pictures / "notes.png", pictures / "gone.png", pictures / "left.png")
    assert done.code == 0
    assert len(done.out.splitlines()) == 2
    assert done.err.splitlines() == [
        f"skipped: {pictures / 'notes.png'}: not a picture that can be read; the file holds text.",
        f"skipped: {pictures / 'gone.png'}: there is no such file.",
        "Labelled 1 of 3 files; 2 could not be read.",
    ]
    listed = json.loads(hapgop("predict", run, pictures / "notes.png", pictures / "left.png", "--json").out)
    assert listed["skipped"][0]["path"] == str(pictures / "notes.png")
    assert "holds text" in listed["skipped"][0]["error"]


def test_no_picture_at_all_is_exit_code_2(hapgop, run, pictures):
    done = hapgop("predict", run, pictures / "notes.png", "--json")
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1] == "hapgop: none of the 1 files could be read; nothing was labelled."


@pytest.mark.parametrize(("name", "words"), [("*.jpg", "no file has such a name"), ("empty", "no pictures in")])
def test_a_pattern_or_folder_without_pictures(hapgop, run, pictures, name, words):
    (pictures / "empty").mkdir()
    done = hapgop("predict", run, pictures / name)
    assert done.code == 2
    assert words in done.err


def test_an_empty_folder_or_pattern_among_others_is_named_and_the_rest_labelled(hapgop, run, pictures):
    (pictures / "empty").mkdir()
    done = hapgop("predict", run, pictures / "empty", pictures / "*.jpg", pictures / "left.png", "--json")
    assert done.code == 0
    listed = json.loads(done.out)
    assert len(listed["predictions"]) == 1
    assert [one["path"] for one in listed["skipped"]] == [str(pictures / "empty"), str(pictures / "*.jpg")]
    first, second = done.err.splitlines()
    assert first.startswith(f"skipped: {pictures / 'empty'}: no pictures in this folder (.avif, ")
    assert second == f"skipped: {pictures / '*.jpg'}: no file has such a name."
    done = hapgop("predict", run, pictures / "empty", pictures / "*.jpg")
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1] == "hapgop: there was no picture to label."


def test_a_folder_is_searched_as_in_training(hapgop, run, pictures):
    for name in (".git", ".thumbnails", "__MACOSX", "runs/one"):
        (pictures / name).mkdir(parents=True)
        Image.open(pictures / "left.png").save(pictures / name / "left.png")
    for name in ("config.json", "model.safetensors"):
        (pictures / "runs" / "one" / name).write_text("{}")
    Image.open(pictures / "left.png").save(pictures / "bare", "PNG")
    (pictures / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (pictures / "README").write_text("Pictures of halves")
    done = hapgop("predict", run, pictures, "--json")
    assert done.code == 0
    listed = json.loads(done.out)
    names = [os.path.relpath(one["path"], pictures) for one in listed["predictions"]]
    assert names == ["bare", os.path.join("deep", "large.png"), "left.png", "right.png"]
    assert [os.path.basename(one["path"]) for one in listed["skipped"]] == ["IMG_1.HEIC", "notes.png"]
    assert listed["skipped"][0]["error"].endswith("HEIC has to be converted to JPEG or PNG first.")
    lines = done.err.splitlines()
    assert lines[:3] == [
        "note: Ignored 3 hidden files and folders.",
        "note: Ignored 1 stray files (1 without suffix).",
        f"note: Not read, as trained nets are kept there: {pictures / 'runs' / 'one'}.",
    ]
    assert lines[-1] == "Labelled 4 of 6 files; 2 could not be read."


def test_a_folder_that_may_not_be_read_is_named_and_the_rest_labelled(hapgop, run, pictures, monkeypatch):
    scandir = os.scandir

    def refusing(folder):
        if str(folder).rstrip("/").endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    done = hapgop("predict", run, pictures / "deep", pictures / "left.png")
    assert done.code == 0
    assert f"skipped: {pictures / 'deep'}: the folder cannot be read (Permission denied)." in done.err


def test_the_likeliest_few(hapgop, run, pictures):
    done = hapgop("predict", run, pictures / "left.png", "--top", 9)
    header, row = done.out.splitlines()
    assert header.split() == ["file", "label", "confidence", "then"]
    assert "right 14." in row


@pytest.mark.parametrize(("arguments", "labels"), [(["--top", 1], 1), (["--top", 9], 2)])
def test_no_more_is_kept_than_is_shown(hapgop, run, pictures, monkeypatch, arguments, labels):
    kept = []
    monkeypatch.setattr(predict, "_show", lambda labelled, top: kept.extend(labelled))
    assert hapgop("predict", run, pictures / "left.png", *arguments).code == 0
    assert [len(one.labels) for one in kept] == [labels]


def test_csv_to_standard_output_and_to_a_file(hapgop, run, pictures, tmp_path):
    arguments = ["predict", run, pictures / "left.png", pictures / "right.png", "--top", 2, "--csv"]
    done = hapgop(*arguments, "-")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["label"] for row in rows] == ["left", "right"]
    assert [row["label_2"] for row in rows] == ["right", "left"]
    assert float(rows[0]["confidence"]) + float(rows[0]["confidence_2"]) == pytest.approx(1, abs=2e-6)
    to_file = hapgop(*arguments, tmp_path / "labels.csv")
    assert to_file.out == ""
    assert (tmp_path / "labels.csv").read_text() == done.out
    both = hapgop(*arguments, tmp_path / "labels.csv", "--json")
    assert json.loads(both.out)["classes"] == ["left", "right"]
    assert hapgop(*arguments, "-", "--json").code == 2


def test_a_csv_that_cannot_be_written_leaves_nothing(hapgop, run, pictures, tmp_path):
    done = hapgop("predict", run, pictures / "left.png", "--csv", tmp_path / "no" / "labels.csv")
    assert done.code == 2
    assert f"labels.csv: there is no folder {tmp_path / 'no'}" in done.err
    (tmp_path / "folder").mkdir()
    done = hapgop("predict", run, pictures / "left.png", "--csv", tmp_path / "folder")
    assert done.code == 2
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


def test_names_with_commas_quotes_and_strange_bytes(hapgop, run, pictures):
    names = ['a, "b".png', os.fsdecode(b"caf\xe9.png")]
    for name in names:
        (pictures / "odd").mkdir(exist_ok=True)
        Image.open(pictures / "left.png").save(pictures / "odd" / name)
    listed = json.loads(hapgop("predict", run, pictures / "odd", "--json").out)
    assert {os.path.basename(p["path"]) for p in listed["predictions"]} == set(names)
    assert hapgop("predict", run, pictures / "odd", "--csv", "all.csv").code == 0
    with open("all.csv", encoding="utf-8", errors="surrogateescape") as file:
        assert {os.path.basename(row["path"]) for row in csv.DictReader(file)} == set(names)


def test_many_pictures_keep_their_order(hapgop, run, pictures):
    for number in range(70):
        name = "left" if number % 3 else "right"
        (pictures / "deep" / f"{number:03}.png").write_bytes((pictures / f"{name}.png").read_bytes())
    listed = json.loads(hapgop("predict", run, pictures / "deep", "--json").out)["predictions"]
    assert [p["label"] for p in listed[:70]] == ["left" if n % 3 else "right" for n in range(70)]


def test_without_torch_and_as_a_user_types_it(run, pictures):
    code = (
        "import sys\nsys.modules['torch'] = None\nfrom hapgop.cli import main\n"
        "main(['predict', sys.argv[1], sys.argv[2], '--json'])"
    )
    arguments = [sys.executable, "-c", code, str(run), str(pictures)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["predictions"]) == 3


def test_weights_that_hold_no_numbers(hapgop, run, pictures):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(run / "model.safetensors")
    tensors["conv.weight"][0, 0, 0, 0] = np.nan
    save_file(tensors, run / "model.safetensors")
    done = hapgop("predict", run, pictures / "left.png")
    assert (done.code, done.out) == (2, "")
    assert "model.safetensors: holds values that are no numbers" in done.err


def test_the_precision_is_the_one_asked_for(hapgop, run, pictures):
    assert hapgop("predict", run, pictures, "--precision", "exact").code == 0
    assert engine.get_precision() == "exact"
    assert "'rough'" in hapgop("predict", run, pictures, "--precision", "rough").err


def test_a_command_that_is_soon_done_measures_nothing(hapgop, run, pictures):
    engine.set_tuning("close")
    try:
        hapgop("predict", run, pictures)
        assert engine.get_tuning() == "kept"
    finally:
        engine.set_tuning("off")
