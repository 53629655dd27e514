"""The frame of the page: the keyboard's focus, what is in sight, and answers that are late or do not come."""

import re

import numpy as np
import pytest

from .browser import Visit


def active(page):
    """Which control has the keyboard's focus: its tag, and what it says."""
    return page.evaluate("[document.activeElement.tagName, document.activeElement.innerText ?? '']")


def test_a_link_leaves_behind_where_one_pointed(visit):
    page = visit.go("window?layer=conv1&y=0&x=0")
    page.focus(".pointed")
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    page.get_by_role("link", name="Network").click()
    visit.ready("network")
    page.go_back()
    page.wait_for_function("location.hash.includes('y=3')")
    visit.ready("window")
    page.wait_for_function("document.querySelector('.pointed').ariaLabel.includes('row 3, column 0')")


@pytest.mark.parametrize(
    ("where", "control", "key", "changed"),
    [
        ("question", "fieldset input:checked", "ArrowRight", "document.querySelector('input[value=gradcam]').checked"),
        ("question", ".bars li:nth-child(3) button", "Enter", "location.hash.includes('label=')"),
        ("question", ".settings button:last-child", "Enter", "document.documentElement.dataset.theme === 'dark'"),
        ("question", ".settings button:first-child", "Enter", "document.documentElement.lang === 'ko'"),
        ("window?layer=conv1", ".chooser select", "ArrowDown", "!location.hash.includes('layer=conv1')"),
        ("window?layer=conv2", ".partial li:nth-child(4) button", "Enter", "location.hash.includes('k=3')"),
        ("play?count=2", ".outputs li:nth-child(2) button", "Enter",
         "document.querySelectorAll('.outputs button')[1].ariaPressed === 'true'"),
        ("play", ".editor select", "ArrowDown", "location.hash.includes('kinds=outline')"),
        ("learn?step=2", ".course nav li:nth-child(5) a", "Enter",
         "document.querySelector('.learn').dataset.step === '5'"),
    ],
)  # fmt: skip
def test_a_control_keeps_the_focus_when_it_is_used(visit, where, control, key, changed):
    page = visit.go(where)
    page.wait_for_load_state("networkidle")
    page.focus(control)
    tag = active(page)[0]
    page.keyboard.press(key)
    page.wait_for_function(changed)
    page.wait_for_timeout(300)
    assert active(page)[0] == tag != "BODY"


def test_what_mattered_is_of_the_label_asked_for_last(visit):
    """The answer for a label that was left is slow, and comes last: it is dropped."""
    page = visit.go("question")
    page.wait_for_selector(".mattered a")
    second, third = (page.locator(f".bars li:nth-child({n}) .name").inner_text() for n in (2, 3))
    late = []
    page.route(re.compile(rf"/api/mattered.*label={second}\b"), lambda route: late.append(route))
    page.locator(".bars button").nth(1).click()
    page.wait_for_selector(".mattered >> text=Computing")
    with page.expect_response(re.compile(rf"/api/mattered.*label={third}\b")):
        page.locator(".bars button").nth(2).click()
    page.wait_for_selector(".mattered a")
    right = page.inner_text(".mattered")
    with page.expect_response(re.compile(rf"/api/mattered.*label={second}\b")):
        late[0].continue_()
    page.wait_for_timeout(300)
    assert page.inner_text(".mattered") == right


def test_back_from_an_opened_picture_and_its_label(visit, tmp_path):
    from PIL import Image

    page = visit.go("question")
    page.wait_for_selector("canvas.over[data-drawn]")
    shown = "document.querySelector('.photo canvas').toDataURL()"
    before = page.evaluate(shown)
    page.locator(".bars button").nth(4).click()
    page.wait_for_function("location.hash.includes('label=')")
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (40, 30, 3), np.uint8)).save(tmp_path / "x.png")
    page.set_input_files("#file", str(tmp_path / "x.png"))
    page.wait_for_function("location.hash.includes('image=')")
    assert "label=" not in page.url, "the new picture is asked about its own answer"
    page.wait_for_function(f"{shown} !== {before!r}")
    page.go_back()
    page.wait_for_function(f"{shown} === {before!r}")


def test_the_same_wrong_file_is_told_twice(visit, tmp_path):
    page = visit.go("question")
    (tmp_path / "notes.png").write_text("Dear diary")
    for _ in range(2):
        page.set_input_files("#file", str(tmp_path / "notes.png"))
        page.wait_for_selector(".notice")
        assert page.evaluate("document.getElementById('file').value") == ""
        page.click(".notice button")
    visit.complaints.clear()


def test_a_drawing_stays_for_the_other_light_and_for_coming_back(visit):
    page = visit.go("draw")
    page.focus(".pad")
    page.keyboard.press("Space")
    for _ in range(5):
        page.keyboard.press("ArrowUp")
    drawn = page.eval_on_selector(".pad", "pad => pad.toDataURL()")
    for name in ("Light or dark", "한국어"):
        page.get_by_role("button", name=name).click()
        page.wait_for_function("document.querySelector('.answer h1').className !== 'begin'")
    page.locator("header nav a").first.click()
    visit.ready("question")
    page.locator("header nav a").nth(4).click()
    visit.ready("draw")
    page.wait_for_function("document.querySelector('.answer h1').className !== 'begin'")
    assert page.eval_on_selector(".pad", "pad => pad.toDataURL()") == drawn


def test_the_answer_does_not_wait_for_the_other_samples(visit):
    waiting = []
    visit.page.route("**/api/pixels?*", lambda route: waiting.append(route))
    page = visit.go("question")
    page.wait_for_selector(".mattered a")
    assert page.locator(".others li").count() == 0
    for route in waiting:
        route.continue_()
    page.wait_for_selector(".others li >> nth=5")


def test_the_cards_do_not_wait_for_the_coverings(visit):
    waiting = []
    visit.page.route("**/api/change?*", lambda route: waiting.append(route))
    page = visit.go("question")

    def asked(times):
        while len(waiting) < times:
            page.wait_for_timeout(50)

    page.wait_for_selector(".mattered a")
    page.wait_for_selector(".changes >> text=Looking for a part that changes the answer")
    page.wait_for_selector(".others li >> nth=5")
    asked(1)
    waiting[0].fulfill(json={"looked": 16, "all": 49, "change": None})
    page.wait_for_selector("text=16 of 49 places tried")
    asked(2)
    waiting[1].fulfill(json={"looked": 32, "all": 49, "change": {"top": 1, "left": 2, "patch": [2, 2], "label": 3}})
    page.wait_for_selector("text=Cover the dashed patch, and it says 3.")
    assert page.locator(".frame.dashed").is_visible()
    page.locator(".bars button").nth(2).click()
    page.wait_for_function("location.hash.includes('label=')")
    assert page.locator(".frame.dashed").is_visible(), "it is the same for every label"


@pytest.mark.parametrize(("language", "words"), [("en", "has stopped"), ("ko", "서버가 멈추었습니다")])
def test_a_stopped_server_is_told_in_words(browser, base, language, words):
    one = Visit(browser, base, locale=language)
    page = one.go("window?layer=conv1")
    page.wait_for_load_state("networkidle")
    page.route("**/api/**", lambda route: route.abort())
    page.select_option(".chooser select", "conv2")
    page.wait_for_selector(f".notice >> text={words}")
    page.locator("header nav a").nth(3).click()
    page.wait_for_selector(f"main .wait >> text={words}")
    one.complaints[:] = [text for text in one.complaints if "ERR_FAILED" not in text]
    one.close()


def test_another_chapter_begins_at_its_top(visit):
    page = visit.go("learn?step=7")
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_selector(".learn[data-step='7']")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.locator(".turn a").last.click()
    page.wait_for_selector(".learn[data-step='8']")
    assert page.evaluate("scrollY") == 0
    assert page.title().startswith(page.inner_text("article h1"))
    box = page.locator(".course nav [aria-current]").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390


def test_another_picture_begins_at_the_top(visit):
    page = visit.go("question")
    page.set_viewport_size({"width": 800, "height": 600})
    page.locator(".others .strip a").nth(3).click()
    page.wait_for_function("document.querySelectorAll('.others .strip a')[3]?.ariaCurrent === 'true'")
    assert page.evaluate("scrollY") == 0


@pytest.mark.parametrize(
    ("where", "what"), [("question", ".answer h1"), ("draw", ".answer h1"), ("window?layer=conv1", ".pointed")]
)
def test_the_answer_is_in_sight_on_a_small_screen(visit, where, what):
    page = visit.go(where)
    page.set_viewport_size({"width": 800, "height": 600})
    box = page.locator(what).bounding_box()
    assert box["y"] + box["height"] <= 600


@pytest.mark.parametrize("where", ["play?size=7&padding=3", "play?size=11&padding=6&dilation=1"])
def test_large_filters_fit_on_a_narrow_screen(browser, base, where):
    narrow = Visit(browser, base, width=390, locale="en-US")
    page = narrow.go(where)
    page.wait_for_selector(".equation .numbers")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    narrow.close()


def test_short_numbers_keep_two_figures(visit):
    page = visit.go("question")
    found = page.evaluate(
        "async () => { const { short } = await import('/static/format.js');"
        "return [0, 0.0041, -0.0041, 0.0526, 0.25, -3.14159, 42.06].map(short); }"
    )
    assert found == ["0", "0.0041", "−0.0041", "0.053", "0.25", "−3.14", "42.1"]


def test_a_single_one_is_not_called_many(visit):
    page = visit.go("window?layer=conv2&c=0&y=0&x=0")
    said = page.evaluate(
        "async () => { const { t } = await import('/static/words.js');"
        "return [1, 2].flatMap((n) => ['sum.others', 'health.lead'].map((key) => t(key, { n }))); }"
    )
    assert said == [
        "1 other channel",
        "Judged by what they make of 1 picture.",
        "2 other channels",
        "Judged by what they make of 2 pictures.",
    ]
