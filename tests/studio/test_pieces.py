import base64
import io
import re
from string import Template

import numpy as np
import pytest
from matplotlib import rcParams
from PIL import Image

from hapgop.studio.curves import COLD, Curve, plot
from hapgop.studio.markup import Html, fill, parts, stored
from hapgop.studio.pictures import NEGATIVE, POSITIVE, colour, png, signed


def opened(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))


def test_fill_escapes_what_is_not_html():
    assert fill("<i>$a$b</i>", a="<&'\">", b=Html("<b>")) == "<i>&lt;&amp;&#x27;&quot;&gt;<b></i>"
    assert fill("$a", a="$b ${c}") == "$b ${c}"
    with pytest.raises(KeyError):
        fill("$a $b", a=1)


def test_every_piece_is_used_and_every_use_has_its_piece():
    package = "\n".join(stored(f"{name}.py") for name in ("results", "history", "net", "curves", "trust", "report"))
    used = set(re.findall(r'part\(\s*"([a-z ]+)"', package))
    assert used == set(parts())
    assert all(Template(piece).is_valid() for piece in parts().values())


def test_signed_numbers_are_two_inks_and_zero_is_clear():
    picture = np.asarray(opened(signed(np.array([[1.0, -0.5], [0.0, -2.0]]), 1.0)))
    assert picture.tolist() == [
        [[*POSITIVE.tolist(), 255], [*NEGATIVE.tolist(), 128]],
        [[*POSITIVE.tolist(), 0], [*NEGATIVE.tolist(), 255]],
    ]


def test_colour_is_around_grey():
    patch = np.array([1.0, 0.0, -1.0]).reshape(3, 1, 1)
    assert np.asarray(opened(colour(patch, 1.0))).tolist() == [[[255, 128, 0]]]
    assert np.asarray(opened(colour(0 * patch, 0.0))).tolist() == [[[128, 128, 128]]]


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 1), (3, 5, 3)])
def test_small_pictures_are_kept_to_the_pixel(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert np.array_equal(np.asarray(opened(png(pixels))), pixels.reshape(3, 5) if pixels.size == 15 else pixels)


def test_large_planes_are_averaged_strips_are_not():
    assert opened(signed(np.ones((224, 224)), 1.0)).size == (56, 56)
    assert opened(signed(np.ones((1, 250)), 1.0)).size == (250, 1)


def test_a_plot_is_blind_to_settings_made_elsewhere(monkeypatch):
    metrics = [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.5}]
    before = plot("Loss", metrics, [Curve("loss", "training", COLD)])
    monkeypatch.setitem(rcParams, "lines.linewidth", 9)
    monkeypatch.setitem(rcParams, "axes.facecolor", "red")
    assert plot("Loss", metrics, [Curve("loss", "training", COLD)]) == before
    assert rcParams["lines.linewidth"] == 9


def test_a_plot_takes_its_colours_from_the_page():
    drawing = plot("Loss", [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.5}], [Curve("loss", "it", COLD)])
    assert "var(--cold)" in drawing
    assert set(re.findall(r"#[0-9a-f]{6}", drawing)) <= {"#000000", "#ffffff"}


@pytest.mark.parametrize("value", [None, float("nan"), "0.5", True])
def test_a_plot_leaves_out_what_is_no_number(value):
    metrics = [{"epoch": 1, "loss": value}, {"epoch": 2}]
    drawing = plot("Loss", metrics, [Curve("loss", "training", COLD)])
    assert drawing == "" if value is not True else drawing
