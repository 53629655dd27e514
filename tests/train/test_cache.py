"""The cache: opened again without decoding, never stale, bounded, never half-written."""

import errno
import io
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from hapgop.errors import InputError
from hapgop.train import Reading, Recipe, Step, fit, load, worker, workers
from hapgop.train import cache as caching

Paint = Callable[..., Path]
HEIC = b"\0\0\0\x18ftypheic"


def decodings(root: Path, **settings: object) -> list[Reading]:
    events: list[Reading] = []
    load(root, progress=events.append, **settings)  # type: ignore[arg-type]
    return [event for event in events if event.stage == "decoding"]


def test_the_second_start_decodes_nothing(pets: Path) -> None:
    first = decodings(pets)
    assert (first[-1].done, first[-1].total) == (20, 20)
    assert decodings(pets) == []
    assert decodings(pets, seed=3) == []
    assert decodings(pets, size=4) != []


def test_changed_added_and_removed_files_are_noticed(pets: Path, paint: Paint) -> None:
    load(pets)
    path = pets / "cat" / "3.png"
    paint(path, 200)
    # As large and as old as before but for one nanosecond.
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    data = load(pets).split("all")
    assert data.image(data.names.index("cat/3.png"))[0, 0, 0] == 200
    paint(pets / "cat" / "new.png", 201)
    data = load(pets).split("all")
    assert data.image(data.names.index("cat/new.png"))[0, 0, 0] == 201
    (pets / "cat" / "5.png").unlink()
    data = load(pets).split("all")
    assert "cat/5.png" not in data.names
    assert len(data) == 20


def test_a_newer_version_of_the_folder_replaces_the_older(pets: Path, cache: Path, paint: Paint) -> None:
    load(pets)
    (before,) = cache.iterdir()
    paint(pets / "cat" / "new.png")
    load(pets)
    (after,) = cache.iterdir()
    assert before != after


def test_the_entries_used_longest_ago_make_room(pets: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (4, 5, 6):
        load(pets, size=size)
        (entry,) = [path for path in cache.iterdir() if size_of(path) == size]
        os.utime(entry / "index.json", (size, size))
    # Opening the oldest one makes it the newest.
    load(pets, size=4)
    monkeypatch.setattr(caching, "_LIMIT", 2000)
    load(pets, size=7)
    assert sorted(size_of(path) for path in cache.iterdir()) == [4, 7]


def size_of(entry: Path) -> int:
    return int(np.load(entry / "images.npy", mmap_mode="r").shape[1])


def test_a_damaged_entry_is_made_again(pets: Path, cache: Path) -> None:
    load(pets)
    (entry,) = cache.iterdir()
    (entry / "index.json").write_text("{")
    assert decodings(pets) != []
    (entry / "images.npy").write_bytes(b"x")
    assert decodings(pets) != []
    assert decodings(pets) == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "may not be read (permission denied)."),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), "there is no such file."),
        (OSError(errno.EIO, "Input/output error"), "cannot be read (Input/output error)."),
        (MemoryError(), "cannot be read (too little memory is free)."),
    ],
)
def test_what_the_machine_kept_from_being_read_is_tried_again(
    pets: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    opened = Image.open

    def troubled(path: Path | str) -> Image.Image:
        if Path(path).name == "3.png":
            raise error
        return opened(path)

    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", troubled)
        assert [(file.path, file.reason) for file in load(pets).skipped] == [("cat/3.png", said), ("dog/3.png", said)]
        assert decodings(pets) == []
    assert load(pets).skipped == ()
    assert decodings(pets) == []


def test_a_training_goes_on_with_the_pictures_that_it_began_with(
    pets: Path, tmp_path: Path, net: Callable[[int], torch.nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Image.open

    def troubled(path: Path | str) -> Image.Image:
        if Path(path).name == "3.png":
            raise OSError(errno.EIO, "Input/output error")
        return opened(path)

    def stop(event: object) -> None:
        if isinstance(event, Step):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", troubled)
        begun = load(pets, size=8)
    assert not fit(begun, tmp_path / "run", Recipe(epochs=1, batch_size=6), net=net(2), progress=stop).finished
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    again = load(pets, size=8, retry=False)
    assert again.skipped == begun.skipped != ()
    assert fit(again, tmp_path / "run", net=net(2), resume=True).finished
    whole = load(pets, size=8)
    assert whole.skipped == ()
    with pytest.raises(InputError, match="added, taken away or changed since, or have become readable"):
        fit(whole, tmp_path / "copy", net=net(2), resume=True)


def test_an_entry_that_may_only_be_read_is_used(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(pets)

    def refused(*where: object, **how: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(caching.os, "utime", refused)
    assert decodings(pets) == []


def test_an_entry_that_was_made_meanwhile_is_left_alone(pets: Path, cache: Path) -> None:
    theirs: list[int] = []

    def meanwhile(event: object) -> None:
        if not theirs:
            theirs.append(0)
            load(pets)
            (entry,) = cache.glob("[!.]*")
            theirs[0] = entry.stat().st_ino

    load(pets, progress=meanwhile)
    assert [entry.stat().st_ino for entry in cache.iterdir()] == theirs


def test_what_another_process_has_just_put_in_place_is_in_nobodys_way(pets: Path, cache: Path) -> None:
    cache.mkdir(parents=True)
    # Listed, and not there, as a folder is that was renamed in between.
    (cache / ".partial-gone").symlink_to("nowhere")
    assert len(load(pets).split("all")) == 20


def test_an_interrupted_reading_leaves_nothing(pets: Path, cache: Path) -> None:
    def interrupt(event: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(pets, progress=interrupt)
    assert list(cache.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("HAPGOP_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="HAPGOP_CACHE"):
        load(pets)


def test_a_place_that_may_not_be_written_is_named(pets: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*where: object, **how: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(caching.tempfile, "mkdtemp", refused)
    with pytest.raises(InputError, match=f"{os.strerror(errno.EACCES)}.*HAPGOP_CACHE"):
        load(pets)


def test_too_little_space_is_seen_before_decoding(pets: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = caching.shutil._ntuple_diskusage(10, 5, 5)  # type: ignore[attr-defined]
    monkeypatch.setattr(caching.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="smaller size"):
        load(pets)
    assert list(cache.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="space cannot be reserved here")
def test_a_disk_that_is_full_after_all_is_seen_before_decoding(
    pets: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(handle: int, start: int, size: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(caching.os, "posix_fallocate", refused)
    for code in (errno.ENOSPC, errno.EDQUOT):
        with pytest.raises(InputError, match=f"{os.strerror(code)}.*HAPGOP_CACHE"):
            load(pets)
        assert list(cache.iterdir()) == []
    # A file system that cannot reserve has to do without.
    code = errno.EOPNOTSUPP
    assert len(load(pets).split("all")) == 20


def test_an_entry_is_on_the_disk_before_it_has_its_name(
    pets: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sync, rename = os.fsync, Path.rename

    def syncing(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        sync(handle)

    def renaming(path: Path, to: Path) -> Path:
        assert {entry.stat().st_ino for entry in (path, *path.iterdir())} == set(synced)
        assert (path / "images.npy").stat().st_ino == synced[0]
        return rename(path, to)

    monkeypatch.setattr(caching.os, "fsync", syncing)
    monkeypatch.setattr(Path, "rename", renaming)
    load(pets)
    assert len(synced) == 3


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ({(28, 28): 5}, (28, 28)),
        ({(128, 300): 5}, (128, 300)),
        ({(480, 640): 5}, (128, 168)),
        ({(1, 5): 1, (2, 9): 1}, (8, 8)),
        ({(50, 60): 3, (100, 90): 1}, (48, 48)),
        ({(3000, 4000): 1, (4000, 3000): 1}, (128, 128)),
    ],
)
def test_the_suggested_size(sizes: dict[tuple[int, int], int], wanted: tuple[int, int]) -> None:
    assert caching.suggested_size(Counter(sizes)) == wanted


def test_processes_answer_as_this_one_does(pets: Path) -> None:
    (pets / "cat" / "text.png").write_text("no picture")
    paths = [str(path) for path in sorted(pets.rglob("*.png"))]
    job = {"kind": "measure", "items": list(enumerate(paths))}
    alone = sorted(answer for chunk in worker.answers(job) for answer in chunk)
    spread = sorted(answer for chunk in workers.answers(job, 0, processes=2) for answer in chunk)
    assert spread == alone
    assert len(alone) == 21


def test_what_a_dead_process_leaves_is_done_here(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.sys, "executable", "/bin/false")
    paths = [str(path) for path in sorted(pets.rglob("*.png"))]
    job = {"kind": "measure", "items": list(enumerate(paths))}
    found = sorted(answer for chunk in workers.answers(job, 0, processes=2) for answer in chunk)
    assert found == [(number, [6, 8, "L", False]) for number in range(20)]


@pytest.fixture
def plugin() -> Iterator[Callable[[], None]]:
    """Registers a reader of HEIC, as a user's script does; what it reads is PNG behind the first bytes of HEIC."""
    Image.init()
    extensions, formats, identifiers = dict(Image.EXTENSION), dict(Image.OPEN), list(Image.ID)

    def opened(file: IO[bytes], name: object) -> Image.Image:
        return PngImagePlugin.PngImageFile(io.BytesIO(file.read()[len(HEIC) :]))

    def register() -> None:
        Image.register_open("HEIF", opened, lambda start: start.startswith(HEIC))
        Image.register_extension("HEIF", ".heic")

    yield register
    for now, before in ((Image.EXTENSION, extensions), (Image.OPEN, formats)):
        now.clear()
        now.update(before)
    Image.ID[:] = identifiers


def test_a_plugin_that_the_user_registers_is_used(
    pets: Path, plugin: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As many files as would be spread over processes, which know nothing of the plugin.
    monkeypatch.setattr(workers, "_WORTH_PROCESSES", 1e-9)
    monkeypatch.setattr(workers, "_cores", lambda: 2)
    picture = pets / "cat" / "3.png"
    (pets / "cat" / "3.heic").write_bytes(HEIC + picture.read_bytes())
    picture.unlink()
    assert [skipped.path for skipped in load(pets).skipped] == ["cat/3.heic"]
    plugin()
    data = load(pets)
    assert data.skipped == ()
    together = data.split("all")
    assert together.image(together.names.index("cat/3.heic"))[0, 0, 0] == 3
