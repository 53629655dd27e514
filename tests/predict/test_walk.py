"""One walk for training and prediction: pictures by name or first bytes, all else counted."""

import os

import pytest
from PIL import Image

from hapgop.errors import InputError
from hapgop.predict.walk import Walk, folders_in, holds_runs, is_run


@pytest.fixture
def shelf(tmp_path):
    """A folder with a picture of each kind of name, and with what is none."""
    root = tmp_path / "shelf"
    for folder in ("", "deep", ".git", ".thumbnails", "__MACOSX", "deep/.hidden"):
        (root / folder).mkdir(exist_ok=True)
        Image.new("L", (2, 2)).save(root / folder / "a.png")
    Image.new("L", (2, 2)).save(root / "bare", "JPEG")
    (root / "b.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (root / "LICENSE").write_text("You may do as you like with this.")
    (root / "notes.txt").write_text("x")
    (root / "Image.2023").write_bytes((root / "bare").read_bytes())
    (root / "._a.png").write_bytes(b"\0\5\x16\7")
    return root


def found(walk, folder):
    return sorted(picture.path for picture in walk.pictures(folder))


@pytest.mark.parametrize("end", ["", "/", "//"])
def test_pictures_are_found_and_all_else_is_counted(shelf, end):
    walk = Walk()
    assert found(walk, f"{shelf}{end}") == ["a.png", "b.heic", "bare", os.path.join("deep", "a.png")]
    assert walk.notes() == [
        "Ignored 5 hidden files and folders.",
        "Ignored 3 stray files (1 .2023, 1 without suffix, 1 .txt).",
    ]
    assert [path.name for path in folders_in(shelf)] == ["deep"]


def test_a_folder_that_is_named_is_read_though_it_is_hidden(shelf):
    assert found(Walk(), shelf / ".git") == ["a.png"]


@pytest.mark.parametrize(
    "name", ["System Volume Information", "$RECYCLE.BIN", "RECYCLER", "lost+found", "@eaDir", "#recycle"]
)
def test_what_systems_keep_on_their_disks_is_hidden(shelf, name):
    (shelf / name).mkdir()
    Image.new("L", (2, 2)).save(shelf / name / "a.png")
    walk = Walk()
    assert len(found(walk, shelf)) == 4
    assert walk.hidden == 6
    assert [path.name for path in folders_in(shelf)] == ["deep"]


def trained(folder, *files):
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).write_text("{}")
    Image.new("L", (2, 2)).save(folder / "filters.png")


def test_folders_of_trained_nets_are_not_entered(shelf):
    trained(shelf / "runs" / "done", "config.json", "model.safetensors")
    trained(shelf / "runs" / "begun", "config.json", "checkpoint.safetensors")
    trained(shelf / "runs" / "settings", "config.json")
    walk = Walk()
    assert os.path.join("runs", "settings", "filters.png") in found(walk, shelf)
    assert [os.path.basename(run) for run in walk.runs] == ["begun", "done"]
    assert walk.notes()[-1].startswith("Not read, as trained nets are kept there: ")
    assert holds_runs(shelf / "runs")
    assert not holds_runs(shelf)
    assert is_run(shelf / "runs" / "done")


def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone: the folder cannot be read \(No such file"):
        list(Walk().pictures(tmp_path / "gone"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_without_suffix_holds_nobody_up(shelf):
    os.mkfifo(shelf / "pipe")
    (shelf / "nowhere").symlink_to("nothing")
    walk = Walk()
    assert len(found(walk, shelf)) == 4
    assert walk.stray["without suffix"] == 3
