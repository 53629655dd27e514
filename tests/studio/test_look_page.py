"""The page in a real browser: the question, the network, the window and its numbers."""

import numpy as np
import pytest

from hapgop import explain

from .browser import Visit, digits, figure, picture, served
from .shown_numbers import check_numbers


def test_the_question_comes_first(visit, subject):
    page = visit.go("question")
    answer = subject.answer(subject.sample(0))
    best = int(np.argmax(answer))
    assert page.inner_text("h1") == subject.classes[best]
    assert f"{100 * answer[best]:.1f} %" in page.inner_text(".sure")
    page.wait_for_selector(".mattered li a")
    assert page.locator(".mattered li").count() == 6


def test_each_method_draws_other_evidence(visit):
    page = visit.go("question")
    seen = set()
    for label, method in (("Cover it up", "occlusion"), ("Grad-CAM", "gradcam"), ("Pixel by pixel", "integrated")):
        page.get_by_label(label).check(force=True)
        page.wait_for_selector(f"canvas.over[data-drawn^='{method}']")
        seen.add(picture(page, "canvas.over"))
    assert len(seen) == 3
    page.wait_for_function("location.hash.includes('method=integrated')")


def test_asking_why_not_another_label_changes_the_evidence(visit):
    page = visit.go("question")
    page.wait_for_selector("canvas.over[data-drawn]")
    before, drawn = picture(page, "canvas.over"), page.get_attribute("canvas.over", "data-drawn")
    page.locator(".bars button").nth(1).click()
    page.wait_for_selector(f"canvas.over[data-drawn]:not([data-drawn='{drawn}'])")
    assert picture(page, "canvas.over") != before
    assert page.locator(".bars button").nth(1).get_attribute("aria-pressed") == "true"


def test_training_pictures_that_look_alike_are_framed(visit, subject):
    page = visit.go("question")
    page.wait_for_selector("section[data-label] .frame")
    shown = subject.sample(0)
    layer, place = explain.strongest_place(subject.net, shown.x)
    wanted = explain.alike(subject.net, shown.x, [one.x for one in subject.lessons], layer, place, top=6)
    links = page.query_selector_all("section[data-label] a")
    assert len(links) == len(wanted) == 5
    assert links[0].inner_text().split()[0] == subject.lessons[wanted[0].image].truth
    before = page.get_attribute("section[data-label]", "data-label")
    page.click(".bars li:nth-child(3) button")
    page.wait_for_selector(f"section[data-label]:not([data-label='{before}'])")
    page.click("section[data-label] a >> nth=0")
    visit.ready("window")
    assert page.input_value(".chooser select") == layer


def test_another_sample_is_another_picture(visit):
    page = visit.go("question")
    before = picture(page, ".photo canvas")
    page.locator(".others .strip a").nth(2).click()
    page.wait_for_function("before => document.querySelector('.photo canvas')?.toDataURL() !== before", arg=before)
    assert "image=" in page.url


def test_a_file_is_opened_and_a_wrong_one_is_told(visit, tmp_path):
    from PIL import Image

    page = visit.go("question")
    wrong = tmp_path / "notes.png"
    wrong.write_text("Dear diary")
    page.set_input_files("#file", str(wrong))
    assert "no picture" in page.inner_text(".notice")
    assert any("400" in text for text in visit.complaints)
    visit.complaints.clear()
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (40, 30, 3), np.uint8)).save(tmp_path / "x.png")
    page.set_input_files("#file", str(tmp_path / "x.png"))
    page.wait_for_function("location.hash.includes('image=')")
    visit.ready("question")


def test_the_network_shows_every_layer_with_its_formula(visit, subject):
    page = visit.go("network")
    assert page.locator(".stack").count() == 1 + len(subject.net.layers)
    text = page.inner_text(".row")
    assert "(8 - 3 + 1 + 1) / 1 + 1 = 8" in text
    assert "64 × 2 × 2" in text
    page.get_by_role("button", name="Measure each layer").click()
    page.wait_for_selector(".costs tbody tr")
    assert page.locator(".costs tbody tr").count() == len(subject.net.layers)
    page.locator(".stack .art").nth(2).click()
    visit.ready("window")
    assert "layer=conv2" in page.url


def test_the_numbers_shown_are_explains_and_the_engines(visit, subject):
    check_numbers(visit, subject, 170, 0)


def test_a_fully_connected_unit_is_taken_apart(visit, subject):
    page = visit.go("window?layer=classify&c=3")
    page.wait_for_selector(".terms")
    wanted = explain.taken_apart(subject.net, subject.maps(subject.sample(0)), "classify", 3, 0, 0)
    assert figure(page, ".engine .value") == pytest.approx(wanted.engine, rel=1e-6)
    assert page.locator(".terms tbody tr").count() == 8


def test_pointing_moves_the_window_and_what_it_sees(visit, subject):
    page = visit.go("window?layer=conv3&c=1&y=0&x=0")
    page.wait_for_timeout(400)
    before = page.inner_text(".equation"), picture(page, ".over")
    box = page.locator(".pointed").bounding_box()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.9 * box["height"])
    page.wait_for_function("location.hash.includes('y=3') && location.hash.includes('x=2')")
    page.wait_for_timeout(400)
    assert page.inner_text(".equation") != before[0]
    assert picture(page, ".over") != before[1]
    mask = explain.receptive_field(subject.net, np.zeros((1, 8, 8)), "conv3", 3, 2, 1).mask
    veil = page.eval_on_selector(
        ".over", "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((_, i) => i % 4 === 3)"
    )
    assert np.array_equal(np.array(veil).reshape(8, 8) == 0, mask)


def test_how_strongly_each_pixel_moves_a_value(visit, subject):
    """The heat is the gradient's; where an activation holds the value, the page says so."""
    y = subject.maps(subject.sample(0))["conv1"][0]
    (up, across), (dead_up, dead_across) = np.argwhere(y > 0)[0], np.argwhere(y == 0)[0]
    page = visit.go(f"window?layer=conv1&c=0&y={up}&x={across}")
    page.wait_for_selector(".inspect .over:not(.pixels)[hidden]", state="attached")
    page.click("text=How strongly each pixel moves it")
    page.wait_for_selector("canvas.over:not([hidden]) >> nth=0")
    assert "strong=1" in page.url
    page.wait_for_function("document.querySelectorAll('.inspect canvas.over')[1].width === 8")
    opaque = page.evaluate(
        "() => { const over = document.querySelectorAll('.inspect canvas.over')[1].getContext('2d');"
        "return over.getImageData(0, 0, 8, 8).data.filter((value, i) => i % 4 === 3 && value > 0).length; }"
    )
    heat = explain.effective_field(subject.net, subject.sample(0).x, "conv1", 0, int(up), int(across))
    assert 0 < opaque <= np.count_nonzero(heat) <= 9
    page = visit.go(f"window?layer=conv1&c=0&y={dead_up}&x={dead_across}&strong=1")
    page.wait_for_selector("text=No pixel moves this value now")


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("where", ["question", "learn?step=10"])
def test_it_is_said_where_a_mirror_image_has_a_say(browser, mirror, where):
    looked = digits()
    looked.mirror = mirror
    with served(looked) as address:
        one = Visit(browser, address, locale="en-US")
        page = one.go(where)
        page.wait_for_load_state("networkidle")
        assert ("the mean over the picture and its mirror image" in page.inner_text("main")) == mirror
        one.close()


def test_the_filters_of_a_layer_are_judged(visit, subject):
    page = visit.go("window?layer=conv1")
    page.wait_for_selector(".health .note >> nth=1")
    found = explain.filter_health(subject.net, [subject.sample(n).x for n in range(6)], "conv1")
    text = page.inner_text(".health")
    assert "what they make of 6 pictures" in text
    assert ("Never above zero" in text) == bool(found.dead)
    assert ("no two are the same" in text) == (not found.dead and not found.duplicates)
