"""The frame of the page where a test needs a browser or a server of its own."""

from hapgop.studio.look import Live, Watched
from hapgop.web import free_socket

from .browser import Visit, chromium, digits, served
from .test_watch import trained


def test_pointing_goes_on_where_browsers_limit_changes_of_the_address():
    """As people's Chromium does: playwright switches this protection off unless it is told not to."""
    with served(digits()) as base, chromium(ignore_default_args=["--disable-ipc-flooding-protection"]) as browser:
        visit = Visit(browser, base, locale="en-US")
        page = visit.go("window?layer=conv1")
        told = page.evaluate("""async () => {
            const map = document.querySelector(".pointed"), box = map.getBoundingClientRect();
            for (let n = 0; n < 640; n++) {
                const y = Math.floor(n / 8) % 8, x = n % 8;
                map.dispatchEvent(new PointerEvent("pointermove", { pointerType: "mouse", bubbles: true,
                    clientX: box.left + (x + 0.5) * box.width / 8, clientY: box.top + (y + 0.5) * box.height / 8 }));
                await new Promise((done) => setTimeout(done));
                if (!map.getAttribute("aria-label").includes(`row ${y}, column ${x}:`)) return n;
            }
            return "all";
        }""")
        assert told == "all", "the window stopped following"
        page.wait_for_function("location.hash.includes('y=7') && location.hash.includes('x=7')")
        visit.close()


def test_a_training_survives_a_few_unanswered_questions():
    watched = Watched("net")
    live = Live(watched, free_socket(0))
    with chromium() as browser:
        visit = Visit(browser, live.address.rstrip("/"), locale="en-US")
        try:
            page, lost = visit.go("", "watch"), []

            def lose(route):
                lost.append(route.abort()) if len(lost) < 3 else route.continue_()

            page.route("**/api/watch*", lose)
            page.wait_for_timeout(2500)
            trained(watched)
            page.wait_for_selector(".chart circle >> nth=3")
            assert len(lost) == 3
            visit.complaints.clear()
        finally:
            visit.close()
            live.end()
