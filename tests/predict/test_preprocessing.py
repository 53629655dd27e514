import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hapgop.errors import InputError
from hapgop.predict import Preprocessing

GREY = Preprocessing((4, 6), 1, (0.5,), (0.25,))


def test_the_formula():
    rules = Preprocessing((1, 2), 3, (0.25, 0.5, 0.75), (0.5, 0.25, 1.0))
    result = rules(np.array([[[0, 51, 102], [255, 204, 153]]], np.uint8))
    wanted = (np.array([[[0, 0.2, 0.4], [1, 0.8, 0.6]]]) - [0.25, 0.5, 0.75]) / [0.5, 0.25, 1.0]
    assert result.dtype == np.float32
    assert result.shape == (3, 1, 2)
    # Two roundings of numbers no larger than 4.
    assert np.abs(result - wanted.transpose(2, 0, 1)).max() <= 4 * 2 * 2.0**-24


@given(st.integers(1, 5), st.sampled_from([1, 3]), st.integers(0, 2**32 - 1))
def test_a_picture_gives_the_same_bits_alone_and_in_any_batch(n, channels, seed):
    rules = Preprocessing((3, 5), channels, (0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels])
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 3, 5, channels)).astype(np.uint8)
    together = rules.batch(pixels)
    assert together.transpose(0, 2, 3, 1).flags.c_contiguous
    for one, alone in zip(together, pixels, strict=True):
        assert np.array_equal(rules(alone), one)


def test_files_images_and_arrays_are_the_same(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    for rules in (GREY, Preprocessing((9, 7))):
        from_array = rules.pixels(array)
        assert from_array.shape == (*rules.size, rules.channels)
        assert np.array_equal(rules.pixels(Image.fromarray(array)), from_array)
        assert np.array_equal(rules.pixels(tmp_path / "a.png"), from_array)
        assert np.array_equal(rules.pixels(str(tmp_path / "a.png")), from_array)


def test_a_picture_of_the_right_size_is_untouched():
    array = np.random.default_rng(0).integers(0, 256, (4, 6)).astype(np.uint8)
    assert np.array_equal(GREY.pixels(array)[..., 0], array)
    assert np.array_equal(GREY.pixels(array[..., None])[..., 0], array)


def wide():
    """A picture twice as wide as high: black, white, white, black quarters."""
    return np.repeat(np.array([[0, 255, 255, 0]], np.uint8), 20, axis=1).repeat(40, axis=0)


def test_stretch_fit_and_crop():
    def rules(resize):
        return Preprocessing((8, 8), 1, (0.2,), (1.0,), resize).pixels(wide())[..., 0]

    stretched, fitted, cropped = rules("stretch"), rules("fit"), rules("crop")
    assert stretched[4, 0] == 0
    assert stretched[4, 4] == 255
    assert (cropped[:, 1:-1] == 255).all()
    assert (fitted[:2] == 51).all()
    assert (fitted[-2:] == 51).all()
    assert fitted[4, 0] == 0
    assert fitted[4, 4] == 255


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.sampled_from(["stretch", "fit", "crop"]),
    st.sampled_from([1, 3]),
)
def test_any_picture_fits_any_size(given_size, size, resize, channels):
    mean, std = (0.5,) * channels, (0.5,) * channels
    rules = Preprocessing(size, channels, mean, std, resize)
    pixels = rules.pixels(np.full((*given_size, 3), 128, np.uint8))
    # A picture of the mean stays so, whatever is cut off or filled in.
    assert (pixels == 128).all()
    assert pixels.shape == (*size, channels)


def test_json_and_back():
    for rules in (GREY, Preprocessing((7, 9), resize="fit")):
        assert Preprocessing.from_json(json.loads(json.dumps(rules.to_json()))) == rules


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": (0, 3)}, "size is"),
        ({"size": (3,)}, "size is"),
        ({"size": 3}, "lists of numbers"),
        ({"channels": 2}, r"1 channel \(grey\) or 3"),
        ({"mean": (0.5, 0.5)}, "as many means and stds; given were 2 and 3"),
        ({"mean": ("a", "b", "c")}, "lists of numbers"),
        ({"std": (1, 0, 1)}, "every std above 0"),
        ({"mean": (0, float("nan"), 0)}, "every mean must be finite"),
        ({"resize": "squash"}, "one of stretch, fit, crop"),
    ],
)
def test_settings_that_make_no_sense(change, words):
    settings = {"size": (4, 4), "channels": 3, "mean": (0, 0, 0), "std": (1, 1, 1), **change}
    with pytest.raises(InputError, match=words):
        Preprocessing(**settings)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda j: 3, "must be a JSON object"),
        (lambda j: {**j, "mean": 0.5}, "a list under 'mean'"),
        (lambda j: {k: v for k, v in j.items() if k != "std"}, "a list under 'std'"),
        (lambda j: {**j, "input_size": [4, 6]}, r"input_size is \[channels"),
        (lambda j: {**j, "input_size": [1, "a", 6]}, "lists of numbers"),
        (lambda j: {**j, "input_size": ["1", 4, 6]}, "1 channel"),
        (lambda j: {**j, "interpolation": "bicubic"}, "'bilinear', not 'bicubic'"),
        (lambda j: {**j, "resize": ["fit"]}, "one of stretch"),
        (lambda j: {**j, "mean": [None]}, "lists of numbers"),
    ],
)
def test_json_that_makes_no_sense(change, words):
    with pytest.raises(InputError, match=words):
        Preprocessing.from_json(change(GREY.to_json()))


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 6)), np.zeros((4, 6, 2), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 6), np.uint8)],
    ids=lambda a: f"{a.dtype} {a.shape}",
)
def test_an_array_that_is_no_picture(array):
    with pytest.raises(InputError, match="A picture as an array is uint8"):
        GREY.pixels(array)


def test_a_batch_that_is_none():
    with pytest.raises(InputError, match=r"uint8 of shape \(n, h, w, 1\), not float64"):
        GREY.batch(np.zeros((1, 4, 6, 1)))
    with pytest.raises(InputError, match=r"not uint8 of \(1, 4, 6, 3\)"):
        GREY.batch(np.zeros((1, 4, 6, 3), np.uint8))
