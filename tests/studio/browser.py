"""A real browser on a real server, for the tests of the page. Nothing but this machine can be reached."""

import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import uvicorn

from hapgop import explain
from hapgop.nn import nets
from hapgop.predict import Preprocessing
from hapgop.studio.look import Sample, Subject, application
from hapgop.web import free_socket

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]  # fmt: skip


def digits():
    """The small net of the demo, its weights as they begin."""
    torch.manual_seed(0)
    net = nets.build("digits", classes=10, input_shape=(1, 8, 8))
    opened = explain.opened(net, np.zeros((1, 8, 8)))
    random = np.random.default_rng(0)
    pictures = [Sample(f"{n}.png", random.integers(0, 256, (8, 8, 1), dtype=np.uint8), str(n)) for n in range(6)]
    rules = Preprocessing((8, 8), 1, (0.3,), (0.4,))
    return Subject("digits", opened, tuple("0123456789"), rules, pictures, lambda: pictures[1:])


@contextmanager
def chromium(**options):
    """Debian's Chromium; the test is skipped where it is not installed. Options are playwright's `launch`'s."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed (Debian's package chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS, **options)
        yield browser
        browser.close()


@contextmanager
def served(subject):
    """The address of a running page."""
    place = free_socket(0)
    server = uvicorn.Server(uvicorn.Config(application(subject), log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{place.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    place.close()


class Visit:
    """One visitor: a page, what its console said, and what it asked of the network."""

    def __init__(self, browser, base, **options):
        self.base = base
        # What the tests themselves evaluate is not the page's: its own policy has a test of its own.
        options.setdefault("bypass_csp", True)
        self.context = browser.new_context(
            viewport={"width": options.pop("width", 1280), "height": 860}, reduced_motion="reduce", **options
        )
        self.context.set_default_timeout(15_000)
        self.complaints, self.foreign = [], []
        self.context.route("**/*", self._only_here)
        self.page = self.context.new_page()
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _only_here(self, route):
        address = route.request.url
        if address.startswith((self.base, "data:", "blob:", "file:")):
            route.continue_()
        else:
            self.foreign.append(address)
            route.abort()

    def go(self, where, view=None):
        """Opens a state of the page and waits until it is drawn."""
        self.page.goto(f"{self.base}/#/{where}")
        self.ready(view or where.split("?")[0])
        return self.page

    def ready(self, view):
        self.page.wait_for_selector(f"main[data-ready={view}]")

    def close(self):
        self.context.close()
        assert self.complaints == []
        assert self.foreign == []


def picture(page, selector):
    """What a canvas shows, as one text."""
    return page.eval_on_selector(selector, "canvas => canvas.toDataURL()")


def figure(page, selector):
    """A shown number, with every digit that it has."""
    return float(page.get_attribute(selector, "data-value"))
