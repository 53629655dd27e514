"""IDX files, .npz archives and the digits: read exactly, refused with words."""

import errno
import gzip
import os
import struct
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from sklearn.datasets import load_digits

from hapgop.errors import InputError
from hapgop.train import SPLITS, load
from hapgop.train.data import VALIDATION_SHARE, assembled, divided

IMAGES = np.arange(40 * 3 * 4, dtype=np.int64).reshape(40, 3, 4).astype(np.uint8)
LABELS = (np.arange(40) % 2).astype(np.uint8)


def idx_bytes(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def idx_folder(root: Path, *, packed: bool, images: np.ndarray = IMAGES, labels: np.ndarray = LABELS) -> Path:
    root.mkdir(exist_ok=True)
    for prefix, part in (("train", slice(None)), ("t10k", slice(30))):
        for what, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
            content = idx_bytes(array[part])
            path = root / f"{prefix}-{what}"
            if packed:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
            else:
                path.write_bytes(content)
    return root


def all_pixels(split: object) -> np.ndarray:
    return split.batch(slice(None))  # type: ignore[attr-defined]


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read_exactly_and_the_test_split_is_kept(tmp_path: Path, packed: bool) -> None:
    data = load(idx_folder(tmp_path / "idx", packed=packed))
    assert data.classes == ("0", "1")
    assert data.input_shape == (1, 3, 4)
    assert data.test is not None
    assert (all_pixels(data.test)[..., 0] == IMAGES[:30]).all()
    assert (data.test.labels == LABELS[:30]).all()
    together = data.split("all")
    kept = dict(zip(together.names, all_pixels(together), strict=True))
    assert len(kept) == 70
    for number in range(40):
        assert (kept[f"train-images-idx3-ubyte[{number}]"][..., 0] == IMAGES[number]).all()


def test_a_validation_split_is_a_tenth_of_each_class(tmp_path: Path) -> None:
    data = load(idx_folder(tmp_path / "idx", packed=False))
    assert len(data.train) == 36
    assert np.bincount(data.validation.labels).tolist() == [2, 2]
    assert not set(data.train.names) & set(data.validation.names)
    assert any("validation split is 4" in note and "10% of each class" in note for note in data.notes)


def test_another_share_is_held_back_where_it_is_asked_for(tmp_path: Path) -> None:
    data = load(idx_folder(tmp_path / "idx", packed=False), validation=0.375)
    assert np.bincount(data.validation.labels).tolist() == [8, 8]
    assert len(data.train) == 24
    assert data.validation_share == 0.375
    assert any("37.5% of each class" in note for note in data.notes)


def test_a_share_that_nothing_is_drawn_by_is_said(tmp_path: Path) -> None:
    data = load(idx_folder(tmp_path / "idx", packed=False))
    splits = {name: data.split(name) for name in SPLITS}
    found = assembled("here", "idx", data.classes, splits)
    again = divided(found, 0, 0.3)
    assert again.validation.names == data.validation.names
    assert any("a validation split of their own" in note for note in again.notes)
    assert not divided(found, 0, VALIDATION_SHARE).notes


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("train-images-idx3-ubyte", idx_bytes(IMAGES)[:-1], "damaged or cut off"),
        ("train-images-idx3-ubyte", idx_bytes(IMAGES) + b"\0", "damaged or cut off"),
        ("train-images-idx3-ubyte", idx_bytes(IMAGES, kind=0x0D), "0x0d"),
        ("train-images-idx3-ubyte", b"hello", "not an IDX file"),
        ("train-labels-idx1-ubyte", idx_bytes(LABELS[:7]), r"\(7,\)"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    root = idx_folder(tmp_path / "idx", packed=False)
    (root / name).write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        load(root)
    assert name in str(caught.value)


def test_a_missing_or_truncated_packed_idx_file_is_named(tmp_path: Path) -> None:
    root = idx_folder(tmp_path / "idx", packed=True)
    path = root / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte\.gz: cannot be unpacked"):
        load(root)
    (root / "t10k-labels-idx1-ubyte.gz").unlink()
    idx_folder(root, packed=False)
    (root / "t10k-labels-idx1-ubyte").unlink()
    for name in ("train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"):
        (root / name).unlink()
    with pytest.raises(InputError, match="t10k-labels-idx1-ubyte"):
        load(root)


def test_digits_are_those_of_scikit_learn() -> None:
    data = load("digits")
    together = data.split("all")
    numbers = [int(name.removeprefix("digits[").removesuffix("]")) for name in together.names]
    assert sorted(numbers) == list(range(1797))
    bunch = load_digits()
    assert (all_pixels(together)[..., 0] == np.rint(bunch.images[numbers] / 16 * 255)).all()
    assert (together.labels == bunch.target[numbers]).all()
    again = load("digits")
    assert data.validation.names == again.validation.names
    assert data.validation.names != load("digits", seed=1).validation.names
    assert data.test is not None
    shares = np.bincount(data.test.labels) / np.bincount(bunch.target)
    assert abs(shares - 0.2).max() < 0.005


def test_a_folder_called_digits_is_not_passed_over_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not any("./digits" in note for note in load("digits").notes)
    (tmp_path / "digits").mkdir()
    assert any("digits/ here is not used: ./digits names it" in note for note in load("digits").notes)


def test_the_home_of_nobody_is_a_name_like_any_other() -> None:
    with pytest.raises(InputError, match="~nobody-of-this-name: there is no such folder or file"):
        load("~nobody-of-this-name")


@pytest.mark.parametrize("looking", ["exists", "is_dir", "iterdir"])
def test_a_place_that_may_not_be_looked_at_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looking: str
) -> None:
    root = idx_folder(tmp_path / "idx", packed=False)

    def refused(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, looking, refused)
        with pytest.raises(InputError, match=rf"idx: cannot be read \({os.strerror(errno.EACCES)}\)"):
            load(root)


LAYOUTS = {
    "nhw": (IMAGES, IMAGES[..., None]),
    "nhwc": (np.repeat(IMAGES[..., None], 3, 3), np.repeat(IMAGES[..., None], 3, 3)),
    "nchw": (np.repeat(IMAGES[:, None], 3, 1), np.repeat(IMAGES[..., None], 3, 3)),
    "float to 1": ((IMAGES / 255).astype(np.float32), IMAGES[..., None]),
    "float to a little over 1": (IMAGES.astype(np.float32) * np.float32(1.02 / 255), None),
    "float to 255": (IMAGES.astype(np.float64), IMAGES[..., None]),
    "int64": (IMAGES.astype(np.int64), IMAGES[..., None]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_npz_layouts_become_the_same_bytes(tmp_path: Path, layout: str) -> None:
    x, wanted = LAYOUTS[layout]
    path = tmp_path / "a.npz"
    np.savez(path, x_train=x, y_train=LABELS[:, None], x_test=x[:9], y_test=LABELS[:9].astype(float))
    data = load(path)
    assert data.test is not None
    if wanted is None:  # what resampling left above white is white
        wanted = np.clip(np.rint(x.astype(np.float32) * 255), 0, 255)[..., None]
        assert 250 < wanted.max() <= 255
    assert (all_pixels(data.test) == wanted[:9]).all()
    assert data.test.names[3] == "x_test[3]"
    assert (data.test.labels == LABELS[:9]).all()


def test_npz_with_x_and_y_alone_is_split_in_three(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=IMAGES, y=LABELS, classes=np.array(["even", "odd"]))
    data = load(path)
    assert data.classes == ("even", "odd")
    assert data.test is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (28, 4, 8)


def test_npz_labels_may_be_names(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=IMAGES, y=np.array(["dog", "cat"])[LABELS])
    data = load(path)
    assert data.classes == ("cat", "dog")
    together = data.split("all")
    for name, label in zip(together.names, together.labels, strict=True):
        assert label == 1 - LABELS[int(name[2:-1])]


def test_a_name_in_either_spelling_of_unicode_is_one_class(tmp_path: Path) -> None:
    one, other = (normalize(form, "é") for form in ("NFC", "NFD"))
    np.savez(tmp_path / "a.npz", x=IMAGES, y=np.array([one, other, "a", "a"] * 10))
    assert load(tmp_path / "a.npz").classes == ("a", one)
    np.savez(tmp_path / "b.npz", x=IMAGES, y=LABELS, classes=["a", other])
    assert load(tmp_path / "b.npz").classes == ("a", one)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"a": IMAGES}, "there are a"),
        ({"x": IMAGES}, "no y"),
        ({"x": IMAGES, "y": LABELS[:3]}, "40 images in x, but 3 labels in y"),
        ({"x": IMAGES[0], "y": LABELS}, r"shape \(3, 4\)"),
        ({"x": IMAGES - 10.0, "y": LABELS}, "not normalised"),
        ({"x": np.full((40, 3, 4), np.nan), "y": LABELS}, "values from nan"),
        ({"x": IMAGES * 300.0, "y": LABELS}, "wanted are 0 to 1 or 0 to 255"),
        ({"x": IMAGES > 5, "y": LABELS}, "type bool"),
        ({"x": IMAGES, "y": np.eye(2)[LABELS]}, "argmax"),
        ({"x": IMAGES, "y": LABELS - 1.0}, "labels from -1"),
        ({"x": IMAGES, "y": LABELS + 0.5}, "whole numbers"),
        ({"x": IMAGES, "y": LABELS * 0}, "only one class"),
        ({"x": IMAGES, "y": LABELS * 2}, "class '1'"),
        ({"x": IMAGES, "y": np.array([{}] * 40)}, "pickles"),
        ({"x": IMAGES, "y": LABELS, "classes": np.array(["one"])}, "labels go up to 1"),
        ({"x": IMAGES, "y": LABELS, "classes": np.array(["crane", "crane"])}, "classes has 'crane' more than once"),
        ({"x": IMAGES, "y": LABELS, "classes": np.array(["é", normalize("NFD", "é")])}, "'é' more than once"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:, :2], "y_test": LABELS}, "one size"),
    ],
)
def test_unusable_archives_say_why(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})
    with pytest.raises(InputError, match=said) as caught:
        load(path)
    assert "a.npz" in str(caught.value)


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=IMAGES, y=LABELS)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"a\.npz: cannot be read"):
        load(path)


def test_arrays_are_resized_and_greyed_on_request(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.repeat(np.full((40, 5, 7, 1), 90, np.uint8), 3, 3), y=LABELS)
    data = load(path, size=(4, 2), channels=1)
    assert data.input_shape == (1, 4, 2)
    assert (all_pixels(data.train) == 90).all()
    assert any("became 4x2x1" in note for note in data.notes)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": 0}, "size"),
        ({"size": (3, 4, 5)}, "size"),
        ({"channels": 2}, "channels"),
        ({"resize": "?"}, "resize"),
        ({"validation": 0.0}, "validation"),
        ({"validation": 1.0}, "validation"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load("digits", **settings)  # type: ignore[arg-type]
