"""What holds for every view: the address, visitors, languages, widths, the page's own policy, accessibility."""

import json
from pathlib import Path

import pytest

from .browser import Visit, picture

AXE = Path(__file__).parent / "vendor" / "axe.min.js"


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
