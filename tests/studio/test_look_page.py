"""The page in a real browser: every view, every control, every number, by mouse and by keyboard alone."""

import json
from pathlib import Path

import numpy as np
import pytest

from hapgop import explain
from hapgop.explain.opened import image_like
from hapgop.nn import nets
from hapgop.predict import Preprocessing
from hapgop.studio.look import Sample, Subject, single_file

from .browser import Visit, digits, served
from .test_look_server import small

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
MINUS = "−"


def picture(page, selector):
    """What a canvas shows, as one text."""
    return page.eval_on_selector(selector, "canvas => canvas.toDataURL()")


def figure(page, selector):
    """A shown number, with every digit that it has."""
    return float(page.get_attribute(selector, "data-value"))


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


def read_window(page):
    """The numbers of the page's window: values, filter, products, and the engine's value."""
    return page.evaluate("""() => ({
        tables: [...document.querySelectorAll(".equation table")].map(
            (table) => [...table.querySelectorAll("td")].map((cell) => Number(cell.dataset.value))),
        shown: [...document.querySelectorAll(".equation table")].map(
            (table) => [...table.querySelectorAll("td")].map((cell) => cell.textContent)),
        value: Number((document.querySelector(".engine .value") ??
            document.querySelector(".sum .term:last-child b")).dataset.value),
        total: [...document.querySelectorAll(".sum b")].map((cell) => Number(cell.dataset.value)),
    })""")


def shown(value, text):
    """Is the text the value, within the rounding that the page states: four decimals, or four figures?"""
    read = float(text.replace(MINUS, "-"))
    return abs(read - value) <= 0.5001e-4 * max(1.0, abs(value) / 10 * 10.01)


def check_numbers(visit, subject, count, seed, layers=None):
    """Random (layer, channel, pixel) on the page against `explain.window` and the engine's map."""
    random = np.random.default_rng(seed)
    net, picture_ = subject.net, subject.sample(0)
    maps = net.maps(picture_.x)
    names = layers or [n.name for n in net.graph.nodes if n.op in ("conv2d", "max_pool2d", "avg_pool2d")]
    page = visit.go(f"window?image={picture_.id}&layer={names[0]}")
    # Layer by layer, as each brings its maps and weights along.
    for layer in sorted(map(str, random.choice(names, count))):
        c, h, w = image_like(net.sizes[layer])
        unit = int(random.integers(c)), int(random.integers(h)), int(random.integers(w))
        wanted = explain.taken_apart(net, maps, layer, *unit)
        k = int(random.integers(len(wanted.channels)))
        page.evaluate(
            "where => { location.hash = where; }",
            f"/window?image={picture_.id}&layer={layer}&c={unit[0]}&y={unit[1]}&x={unit[2]}&k={k}",
        )
        label = f"{layer}, channel {unit[0]}, row {unit[1]}, column {unit[2]}:"
        page.wait_for_function(
            "label => document.querySelector('.pointed')?.getAttribute('aria-label')?.startsWith(label)", arg=label
        )
        found = read_window(page)
        where = (layer, unit, k)
        assert np.float32(found["value"]) == np.float32(wanted.engine), where
        assert np.array_equal(np.float32(found["tables"][0]), wanted.values[k].ravel()), where
        if wanted.filter is not None:
            assert np.array_equal(np.float32(found["tables"][1]), wanted.filter[k].ravel()), where
            np.testing.assert_allclose(found["tables"][2], wanted.products[k].ravel(), rtol=1e-6, atol=1e-12)
            parts = found["total"][: 3 if len(wanted.channels) > 1 else 2]
            assert sum(parts) == pytest.approx(wanted.before, rel=1e-5, abs=1e-5), where
        for value, text in zip(found["tables"][0], found["shown"][0], strict=True):
            assert wanted.values[k].size > 25 or shown(value, text), (where, value, text)


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


def test_the_address_is_the_whole_state(browser, base, visit):
    page = visit.go("window?layer=conv2&c=5&y=3&x=2&k=7")
    text = page.inner_text(".equation")
    other = Visit(browser, base, locale="en-US")
    assert other.go(page.url.split("#/")[1]).inner_text(".equation") == text
    page.go_back()
    other.close()


def test_a_forgotten_picture_is_told_and_asked_for_once(visit):
    page = visit.go("window?image=forgotten&layer=conv1&c=0&y=0&x=0")
    page.wait_for_selector(".notice")
    assert "image=" not in page.url
    visit.complaints.clear()
    page.click(".notice button")
    page.focus(".pointed")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector(".pointed[aria-label^='conv1, channel 0, row 1,']")
    assert page.locator(".notice").count() == 0


def test_the_page_keeps_answers_up_to_so_many_bytes(visit):
    page = visit.go("learn?step=1")
    page.wait_for_load_state("networkidle")
    asked = page.evaluate("""async () => {
        const size = 100 << 20, head = new TextEncoder().encode(JSON.stringify({ arrays: { all: ["u1", [size], 0] } }));
        const buffer = new ArrayBuffer(4 + head.length + size), asked = [];
        new DataView(buffer).setUint32(0, head.length, true);
        new Uint8Array(buffer).set(head, 4);
        window.fetch = async (address) => {
            asked.push(address.at(-1));
            return { ok: true, headers: new Headers({ "content-type": "a/b" }), arrayBuffer: () => buffer };
        };
        const { once } = await import("/static/source.js");
        for (const n of [1, 2, 3, 2, 3, 1]) await once("large", { n });
        return asked;
    }""")
    assert asked == ["1", "2", "3", "1"]


def test_two_visitors_do_not_disturb_each_other(browser, base, visit):
    other = Visit(browser, base, locale="en-US")
    ours, theirs = visit.go("question"), other.go("question")
    before = picture(ours, ".photo canvas")
    theirs.locator(".others .strip a").nth(3).click()
    theirs.wait_for_function("before => document.querySelector('.photo canvas')?.toDataURL() !== before", arg=before)
    ours.reload()
    visit.ready("question")
    assert picture(ours, ".photo canvas") == before
    other.close()


def test_light_dark_and_korean(visit):
    page = visit.go("question")
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    page.get_by_role("button", name="Light or dark").click()
    page.wait_for_function(f"{ground} !== {json.dumps(before)}")
    page.get_by_role("button", name="한국어").click()
    page.wait_for_selector("text=무엇일까요?")
    assert page.get_attribute("html", "lang") == "ko"


@pytest.mark.parametrize("where", ["question", "network", "window", "play", "draw", "learn"])
def test_the_page_obeys_its_own_policy(browser, base, where):
    one = Visit(browser, base, bypass_csp=False)
    one.go(where)
    one.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize(
    "where", ["question", "network", "window?layer=conv2", "play", "draw", "learn?step=7", "learn?step=11"]
)
def test_nothing_is_wider_than_the_screen(browser, base, where, width):
    narrow = Visit(browser, base, width=width, locale="ko-KR")
    page = narrow.go(where)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    narrow.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_violation(browser, base, scheme):
    one = Visit(browser, base, color_scheme=scheme, locale="en-US")
    wheres = ["question", "window?layer=conv2", "learn?step=5"]
    if scheme == "light":
        wheres += [
            "network",
            "window?layer=classify",
            "play",
            "draw",
            *(f"learn?step={n}" for n in (1, 2, 7, 9, 10, 11, 12)),
        ]
    for where in wheres:
        page = one.go(where)
        page.wait_for_load_state("networkidle")
        page.add_script_tag(path=str(AXE))
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)")
        serious = [
            (v["id"], v["nodes"][0]["html"][:200], v["nodes"][0].get("failureSummary", "")[:300])
            for v in found
            if v["impact"] in ("serious", "critical")
        ]
        assert serious == [], where
    one.close()


def test_the_single_file_still_answers_hovering(browser, subject, tmp_path):
    path = tmp_path / "look.html"
    path.write_bytes(single_file(subject, subject.sample(0)))
    assert path.stat().st_size < 5_000_000
    one = Visit(browser, path.as_uri().split("?")[0], locale="en-US")
    page = one.page
    page.goto(path.as_uri())
    one.ready("question")
    page.wait_for_selector(".mattered a")
    page.get_by_role("link", name="Window").click()
    one.ready("window")
    before = page.inner_text(".equation")
    box = page.locator(".pointed").bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    page.wait_for_function("before => document.querySelector('.equation').innerText !== before", arg=before)
    found = read_window(page)
    wanted = explain.taken_apart(subject.net, subject.maps(subject.sample(0)), "conv1", 0, 4, 4)
    assert np.float32(found["value"]) == np.float32(wanted.engine)
    page.get_by_role("link", name="Network").click()
    one.ready("network")
    assert page.get_by_role("link", name="Play").count() == 0
    one.close()


@pytest.mark.parametrize(("name", "side", "folded"), [("resnet20", 32, 20), ("resnet50", 96, 30)])
def test_a_residual_net_is_folded_and_its_numbers_are_right(browser, name, side, folded):
    """The numbers with batch norm and skips, and the picture of a net that is long."""
    import torch

    torch.manual_seed(1)
    module = nets.build(name, classes=10, input_shape=(3, side, side)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    looked = Subject.of_module(name, module, Preprocessing((side, side)), "abcdefghij", [Sample("x", pixels)])
    with served(looked) as address:
        one = Visit(browser, address, locale="en-US")
        page = one.go("network")
        stacks = page.locator(".stack").count()
        assert stacks < folded, "the blocks are folded"
        assert page.locator(".rail path").count() >= 9, "every skip is drawn"
        page.locator(".stack button").nth(2).click()
        page.wait_for_function(f"document.querySelectorAll('.stack').length > {stacks}")
        assert "open=" in page.url
        check_numbers(one, looked, 170, 1)
        one.close()


def test_a_skip_in_a_short_net_is_drawn(browser):
    looked = Subject("small", small(), ("a", "b", "c"), Preprocessing((8, 8), 1, (0.5,), (0.25,)))
    with served(looked) as address:
        one = Visit(browser, address, locale="en-US")
        assert one.go("network").locator(".rail path").count() == 1
        one.go("window?layer=sum&c=1&y=2&x=3")
        assert one.page.locator(".sum .term").count() == 3
        one.close()


def test_the_numbers_of_transposed_convolutions_are_right(browser):
    import torch
    from torch import nn

    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2), nn.ReLU(),
        nn.ConvTranspose2d(6, 3, (4, 2), (2, 1)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2),
    ).eval()  # fmt: skip
    pixels = np.random.default_rng(4).integers(0, 256, (8, 8, 1), dtype=np.uint8)
    rules = Preprocessing((8, 8), 1, (0.5,), (0.25,))
    looked = Subject.of_module("decoder", module, rules, "ab", [Sample("x", pixels)])
    with served(looked) as address:
        one = Visit(browser, address, locale="en-US")
        check_numbers(one, looked, 60, 2, ["2", "4"])
        one.close()
