"""From pixels to numbers in a model: what Pillow and `Preprocessing` make of the same pictures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from hapgop.errors import InputError
from hapgop.export import Value, Writer
from hapgop.export.pictures import write_pictures
from hapgop.predict import Preprocessing

SIDE = st.integers(1, 70)


def rules_of(size, channels, resize):
    return Preprocessing(size, channels, (0.4, 0.5, 0.6)[:channels], (0.2, 0.25, 0.3)[:channels], resize)


def model(rules):
    writer = Writer()
    write_pictures(writer, rules, "pictures", "x")
    takes = Value("pictures", np.uint8, ("n", "height", "width", 3))
    return writer.model("pictures", takes, Value("x", np.float32, ("n", rules.channels, *rules.size)), {})


def steps_apart(rules, pixels):
    """How far the model's numbers are from those of `Preprocessing`, in steps of a pixel's 256."""
    found = ReferenceEvaluator(model(rules)).run(None, {"pictures": pixels})[0]
    wanted = rules.batch(np.stack([rules.pixels(picture) for picture in pixels]))
    assert found.shape == wanted.shape
    return np.abs(found - wanted) * 255 * np.reshape(rules.std, (-1, 1, 1))


@settings(max_examples=40)
@given(
    st.tuples(SIDE, SIDE), st.tuples(SIDE, SIDE), st.sampled_from([1, 3]), st.sampled_from(["stretch", "crop"]),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_pixels_are_those_that_pillow_makes(given_size, wanted, channels, resize, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (2, *given_size, 3), np.uint8)
    # Two roundings leave each within a step of the exact sum. Pillow may go over rows first, which are others.
    assert steps_apart(rules_of(wanted, channels, resize), pixels).max() < 2.01


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (1080, 1920)])
@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_large_photographs_too(size, resize):
    chance = np.random.default_rng(7)
    ramp = np.add.outer(np.linspace(0, 90, size[0]), np.linspace(0, 130, size[1]))[..., None]
    pixels = (ramp + chance.integers(0, 36, (*size, 3))).astype(np.uint8)[None]
    apart = steps_apart(rules_of((64, 48), 3, resize), pixels)
    assert apart.max() < 1.01
    # To a tenth, weights are whole 200ths: one sum in 200 is at the very middle, in each of the two passes.
    assert (apart > 0.01).mean() < 0.01


def test_pictures_of_the_right_size_are_not_touched():
    pixels = np.random.default_rng(8).integers(0, 256, (1, 11, 13, 3), np.uint8)
    assert steps_apart(rules_of((11, 13), 3, "stretch"), pixels).max() < 1e-4
    grey = np.repeat(pixels[..., :1], 3, axis=3)
    assert steps_apart(rules_of((11, 13), 1, "crop"), grey).max() < 1e-4


def test_what_has_no_words_is_said():
    with pytest.raises(InputError, match="the rule 'fit' cannot be written"):
        model(rules_of((4, 4), 3, "fit"))
