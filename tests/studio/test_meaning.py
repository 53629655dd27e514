"""The lesson's convolution in one dimension: what is shown is what the engine makes of the same samples."""

import numpy as np
import pytest

import hapgop

from .browser import Visit

# As in signals.js, on [-1, 1].
SHAPES = {
    "Box": np.ones_like,
    "Ramp": lambda x: (1 - x) / 2,
    "Bell": lambda x: (1 + np.cos(np.pi * x)) / 2,
    "Wave": lambda x: np.sin(np.pi * x),
}


def samples(shape, density):
    x = np.arange(-density, density + 1) / density
    values = SHAPES[shape](x)
    values[[0, -1]] /= 2
    return np.round(values, 6).astype(np.float32)


def area(f, g, shift, flip):
    """The integral by ever so many rectangles."""
    edges = np.linspace(-1, 1, 200_001)
    x = (edges[1:] + edges[:-1]) / 2
    inner = shift - x if flip else x - shift
    return float(np.sum(np.where(np.abs(inner) <= 1, SHAPES[f](x) * SHAPES[g](inner), 0)) * 1e-5)


def opened(visit, **settings):
    page = visit.go("learn?step=11", "learn")
    page.wait_for_selector(".learn[data-step='11']")
    for name, shape in settings.items():
        page.locator(f".given.{name}").get_by_role("radio", name=shape).check(force=True)
    return page


def terms(page, row):
    """The figures of a line under the plots: 0 area, 1 point, 2 the sample that is pointed at, 3 the sum."""
    return [float(v) for v in page.locator(".beside .sum").nth(row).locator("b").evaluate_all(
        "all => all.map((one) => one.dataset.value)"
    )]  # fmt: skip


def shift_to(page, value):
    page.get_by_label("Shift t").fill(str(value))


@pytest.mark.parametrize(
    ("f", "g", "flip", "density", "shift", "k"),
    [
        ("Box", "Ramp", True, 4, -0.5, 1),
        ("Box", "Ramp", False, 4, -0.5, 1),
        ("Wave", "Ramp", True, 8, 0.75, -3),
        ("Ramp", "Bell", False, 2, 1.5, 2),
        ("Box", "Box", True, 2, 2.5, 0),
        ("Bell", "Wave", True, 8, -1.125, -8),
    ],
)
def test_the_numbers_are_those_of_the_same_samples(visit, f, g, flip, density, shift, k):
    page = opened(visit, f=f, g=g)
    page.get_by_role("radio", name="Convolution" if flip else "Cross-correlation").first.check(force=True)
    page.get_by_role("radio", name=str(density), exact=True).check(force=True)
    shift_to(page, shift)
    left, right, n = samples(f, density), samples(g, density), round(shift * density)
    # Zeros around f, and the filter as nets slide it: turned round first, where it is to be a convolution.
    around = np.pad(left, 5 * density)[None, None, None]
    weight = (right[::-1] if flip else right)[None, None, None].copy()
    sums = hapgop.conv2d(around, weight)[0, 0, 0]
    wanted = float(sums[n + 5 * density])
    shown = "document.querySelectorAll('.beside .sum')[3].querySelectorAll('b')[1].dataset.value"
    page.wait_for_function(f"wanted => Math.abs({shown} - wanted) < 1e-5", arg=wanted)
    total, engine, spaced = terms(page, 3)
    assert np.float32(engine) == np.float32(wanted)
    assert total == pytest.approx(wanted, abs=1e-5)
    assert spaced == pytest.approx(wanted / density, rel=1e-6)
    assert terms(page, 0) == terms(page, 1) == [pytest.approx(area(f, g, shift, flip), abs=2e-5)]

    plot = page.locator(".beside .graph[role=application]")
    plot.hover(position={"x": (k / density + 3.5) / 7 * plot.bounding_box()["width"], "y": 40})
    at, there = np.arange(-density, density + 1), n - np.arange(-density, density + 1)
    there = there if flip else -there
    others = np.where(np.abs(there) <= density, right[np.clip(there + density, 0, 2 * density)], 0)
    products = left.astype(float) * others
    assert terms(page, 2) == pytest.approx(
        [left[k + density], others[k + density], products[k + density], products[at <= k].sum()], abs=1e-6
    )


def test_a_pointer_on_the_curve_moves_the_shift(visit):
    page = opened(visit)
    curve = page.locator(".beside .graph").nth(1)
    curve.hover(position={"x": (1.25 + 3.5) / 7 * curve.bounding_box()["width"], "y": 60})
    assert page.input_value("input[type=range]") == "1.25"
    assert terms(page, 1) == [pytest.approx(area("Box", "Ramp", 1.25, True), abs=2e-5)]


def test_everything_by_keyboard(visit):
    page = opened(visit)
    before = terms(page, 0)
    page.focus("input[type=range]")
    page.keyboard.press("ArrowRight")
    assert terms(page, 0) != before
    plot = page.locator(".beside .graph[role=application]")
    plot.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.getElementById('said').textContent.startsWith('Sample −1:')")
    assert "g " in plot.get_attribute("aria-label")
    page.keyboard.press("ArrowLeft")
    assert plot.get_attribute("aria-label").startswith("Sample −2:"), "the focus stays on the samples"


def test_what_was_set_outlives_language_and_light(visit):
    page = opened(visit, f="Wave")
    shift_to(page, 1)
    for name in ("Light or dark", "한국어"):
        page.get_by_role("button", name=name).click()
        page.wait_for_selector(".learn[data-step='11']")
        assert page.input_value("input[type=range]") == "1"
        assert page.locator(".given.f input:checked").get_attribute("value") == "wave"


def test_the_shift_slides_and_stops_with_the_chapter(visit):
    page = opened(visit)
    page.get_by_role("button", name="Slide slowly").click()
    page.wait_for_function("Number(document.querySelector('input[type=range]').value) > -0.4")
    page.locator(".turn a").last.click()
    page.wait_for_selector(".learn[data-step='12']")


@pytest.mark.parametrize(("scheme", "language"), [("dark", "ko"), ("light", "en")])
def test_no_complaint_in_either_light_or_language(browser, base, scheme, language):
    one = Visit(browser, base, locale=language, color_scheme=scheme, width=390)
    page = one.go("learn?step=11")
    page.wait_for_selector(".beside .sum b")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    one.close()
