"""Every view as a picture; `HAPGOP_PICTURES=docs` keeps them as those of docs/look.md."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from hapgop import train
from hapgop.cli import looking
from hapgop.predict import Predictor
from hapgop.studio.look import Subject

from .browser import Visit, served

# Name, address, light, width.
PICTURES = (
    ("question", "question", "light", 1280),
    ("network", "network", "light", 1280),
    ("window", "window?layer=conv2&c=3&y=1&x=3", "light", 1280),
    ("play", "play?count=3&kinds=edge-outline-blur", "dark", 1280),
    ("draw", "draw", "light", 1280),
    ("learn", "learn?step=6", "light", 1280),
    ("meaning", "learn?step=11", "light", 1280),
    ("narrow", "question", "dark", 390),
)
# Bytes: pictures that belong into a repository.
_MOST = 100_000


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A net that has learned the digits, so that there is something to see."""
    data = train.load("digits")
    run = tmp_path_factory.mktemp("pictures") / "digits"
    train.fit(data, run, train.suggested_recipe(data, epochs=12))
    predictor = Predictor(run)
    subject = Subject.of("digits", predictor, looking.samples(predictor), lambda: looking.lessons(predictor))
    with served(subject) as address:
        yield address


def draw_seven(page):
    box = page.locator(".pad").bounding_box()

    def at(x, y):
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    page.mouse.move(*at(0.28, 0.16))
    page.mouse.down()
    for x, y in ((0.72, 0.16), (0.45, 0.86)):
        page.mouse.move(*at(x, y), steps=8)
    page.mouse.up()
    page.wait_for_function("Number(document.querySelector('.draw').dataset.updates) > 3")


@pytest.mark.parametrize(("name", "where", "light", "width"), PICTURES, ids=[one[0] for one in PICTURES])
def test_a_view_is_worth_a_picture(browser, base, name, where, light, width):
    visit = Visit(browser, base, locale="en-US", color_scheme=light, width=width)
    page = visit.go(where)
    if name == "draw":
        draw_seven(page)
    if name == "meaning":
        page.locator(".widget").first.evaluate("widget => widget.scrollIntoView()")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(400)
    taken = Image.open(io.BytesIO(page.screenshot(full_page=name == "window"))).convert("RGB")
    visit.close()
    assert taken.width == width
    assert (sum(taken.getpixel((0, 0))) > 3 * 128) == (light == "light")
    assert taken.getcolors(100) is None, "of more colours than that"
    if folder := os.environ.get("HAPGOP_PICTURES"):
        written = Path(folder) / f"look-{name}.webp"
        taken.save(written, "webp", quality=88, method=6)
        assert written.stat().st_size < _MOST
