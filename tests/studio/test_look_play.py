"""Play, draw and the lesson in a real browser, by mouse and by keyboard alone."""

import numpy as np
import pytest
from torch import nn

from .browser import Visit, picture, served
from .test_true_page import GREY, of


def test_the_filter_slides_by_itself(visit):
    page = visit.go("window?layer=conv1&y=0&x=0")
    page.get_by_role("button", name="Slide slowly").click()
    page.wait_for_function("location.hash.includes('x=1')")
    page.get_by_role("button", name="Stop").click()
    assert page.get_by_role("button", name="Slide slowly").is_visible()


@pytest.mark.parametrize(
    ("control", "value", "size"),
    [("Filter size", 5, (4, 4)), ("Stride", 2, (3, 3)), ("Padding", 2, (10, 10)), ("Dilation", 2, (4, 4))],
)
def test_each_setting_changes_the_map_and_the_formula(visit, control, value, size):
    page = visit.go("play")
    before, formula = picture(page, ".outputs canvas"), page.inner_text(".formula.big")
    page.get_by_label(control, exact=True).fill(str(value))
    page.wait_for_function("before => document.querySelector('.formula.big').innerText !== before", arg=formula)
    page.wait_for_selector(".outputs canvas")
    assert picture(page, ".outputs canvas") != before
    made = page.eval_on_selector(".outputs canvas", "c => [c.height, c.width]")
    assert tuple(made) == size
    assert f"= {size[0]}" in page.inner_text(".formula.big")


def test_impossible_settings_explain_themselves(visit):
    page = visit.go("play?size=11")
    text = page.inner_text(".formula.wrong")
    assert "What would work: a kernel of at most 8" in text
    assert any("400" in text for text in visit.complaints)
    visit.complaints.clear()


def test_filters_can_be_chosen_edited_added_and_turned(visit):
    page = visit.go("play")
    seen = [picture(page, ".outputs canvas")]

    def change(what):
        what()
        page.wait_for_function("b => document.querySelector('.outputs canvas')?.toDataURL() !== b", arg=seen[-1])
        seen.append(picture(page, ".outputs canvas"))

    change(lambda: page.get_by_text("Convolution", exact=True).click())
    change(lambda: page.locator(".editor select").select_option("sharpen"))
    change(lambda: page.locator(".editor input").first.fill("7.5"))
    change(lambda: page.locator(".editor select").select_option("learned2"))
    page.get_by_label("Filters", exact=True).fill("4")
    page.wait_for_function("document.querySelectorAll('.outputs canvas').length === 4")


def test_a_learned_filter_that_is_not_square_is_whole(browser):
    looked = of(nn.Sequential(nn.Conv2d(1, 2, (1, 7), padding=(0, 3)), nn.Flatten(), nn.Linear(128, 3)), GREY)
    with served(looked) as address:
        one = Visit(browser, address, locale="en-US")
        page = one.go("play?count=2&kinds=learned1-edge")
        page.wait_for_selector(".outputs canvas")
        shown = page.eval_on_selector_all(".editor input", "all => all.map((one) => Number(one.value))")
        rows = np.array(shown).reshape(3, 7)
        weight = looked.net.tensors[looked.net.nodes["0"].params["weight"]]
        assert rows[1] == pytest.approx(weight[1, 0, 0], abs=0.51e-4)
        assert not rows[[0, 2]].any()
        assert page.eval_on_selector(".outputs canvas", "c => [c.height, c.width]") == [6, 2]
        one.close()


@pytest.mark.parametrize("size", range(2, 12))
def test_a_filter_of_any_size_does_what_it_is_called(visit, size):
    page = visit.go("play")
    made = page.evaluate(
        "size => import('/static/play.js').then(({ filterOf }) => Object.fromEntries("
        "['edge', 'outline', 'blur', 'sharpen', 'emboss', 'identity'].map((kind) => [kind, filterOf(kind, size)])))",
        size,
    )
    filters = {kind: np.array(rows) for kind, rows in made.items()}
    middle = (size - 1) // 2
    assert [list(place) for place in np.argwhere(filters["identity"])] == [[middle, middle]]
    wanted = {"edge": 0, "outline": 0, "blur": 1, "sharpen": 1, "emboss": 0, "identity": 1}
    assert {kind: pytest.approx(rows.sum()) for kind, rows in filters.items()} == wanted
    assert all(rows.any() for rows in filters.values())
    assert filters["sharpen"].argmax() == filters["outline"].argmax() == middle * size + middle


def test_drawing_is_followed_by_every_layer(visit, subject):
    page = visit.go("draw")
    page.wait_for_selector(".draw[data-updates]")
    before = picture(page, ".tiles canvas")
    box = page.locator(".pad").bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    for step in range(40):
        page.mouse.move(box["x"] + 60 + 4 * step, box["y"] + 60 + 5 * step)
    page.mouse.up()
    page.wait_for_function("b => document.querySelector('.tiles canvas').toDataURL() !== b", arg=before)
    assert page.locator(".following").count() == 3
    assert page.inner_text(".answer h1") in subject.classes
    page.get_by_role("button", name="Clear").click()
    page.wait_for_function("document.querySelector('.answer h1').className === 'begin'")


def test_the_camera_is_followed(visit):
    page = visit.go("draw")
    page.get_by_role("button", name="Camera").click()
    page.wait_for_function("Number(document.querySelector('.draw').dataset.updates) > 5")
    page.get_by_role("button", name="Camera").click()


def test_a_camera_that_is_allowed_too_late_stays_off(visit):
    page = visit.go("draw")
    page.evaluate("""() => {
        const media = navigator.mediaDevices, open = media.getUserMedia.bind(media);
        window.streams = [];
        const permission = new Promise((allow) => { window.allow = allow; });
        media.getUserMedia = async (wanted) => {
            await permission;
            streams.push(await open(wanted));
            return streams.at(-1);
        };
    }""")
    camera = page.get_by_role("button", name="Camera")
    camera.click()
    camera.click()
    page.get_by_role("link", name="Network").click()
    visit.ready("network")
    page.evaluate("allow()")
    page.wait_for_function("streams.length && streams.every((one) => one.getTracks()[0].readyState === 'ended')")
    assert page.evaluate("streams.length") == 1


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_lesson_goes_through_twelve_chapters(visit, language):
    page = visit.go(f"learn?lang={language}")
    titles = []
    for step in range(1, 13):
        page.wait_for_selector(f".learn[data-step='{step}']")
        titles.append(page.inner_text("article h1"))
        assert page.locator(".widget > *").count() > 0
        if step < 12:
            page.locator(".turn a").last.click()
    assert len(set(titles)) == 12
    if step == 12:
        visit.complaints[:] = [text for text in visit.complaints if "400" not in text]


def test_the_lessons_sliders_move_what_they_say(visit):
    page = visit.go("learn?step=5")
    page.wait_for_selector(".learn[data-step='5']")
    page.get_by_label("Stride", exact=True).fill("3")
    page.wait_for_function("document.querySelector('.formula.big').innerText.includes('rounded down to 2')")
    page.get_by_label("Filter F").fill("7")
    page.get_by_label("Input N").fill("5")
    page.wait_for_selector(".formula.wrong")
    visit.complaints.clear()
    page.goto(page.url.replace("step=5", "step=12"))
    page.wait_for_selector(".learn[data-step='12']")
    before = page.inner_text(".widget")
    page.get_by_label("Step").fill("24")
    assert page.inner_text(".widget") != before


def test_everything_by_keyboard_alone(visit):
    page = visit.go("question")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Window":
            break
    page.keyboard.press("Enter")
    visit.ready("window")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className").startswith("pointed"):
            break
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("location.hash.includes('y=1') && location.hash.includes('x=1')")
    assert page.evaluate("document.activeElement.className").startswith("pointed"), "the focus stays where it was"
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") != label
    page.wait_for_function("document.getElementById('said').textContent.includes('row 1, column 1')")
    page.keyboard.press("PageDown")
    page.wait_for_function("location.hash.includes('c=1')")


def test_drawing_by_keyboard(visit, subject):
    page = visit.go("draw")
    page.focus(".pad")
    page.keyboard.press("Space")
    for key in ["ArrowUp"] * 5 + ["ArrowRight"] * 4:
        page.keyboard.press(key)
    page.wait_for_function("document.querySelector('.answer h1').className !== 'begin'")
    assert page.inner_text(".answer h1") in subject.classes
