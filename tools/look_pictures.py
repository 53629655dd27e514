"""Takes the pictures of docs/look.md: the live page on a trained run, in Debian's Chromium.

`python tools/look_pictures.py RUN` writes docs/look-*.webp; under a hundred kilobytes each.
"""

import io
import sys
import threading
import time
from pathlib import Path

import uvicorn
from PIL import Image
from playwright.sync_api import sync_playwright

from hapgop.cli.looking import samples
from hapgop.predict import Predictor
from hapgop.studio.look import Subject, application, free_socket

DOCS = Path(__file__).resolve().parent.parent / "docs"
CHROMIUM = "/usr/bin/chromium"
# Name, address, light, width.
PICTURES = (
    ("question", "question", "light", 1280),
    ("network", "network", "light", 1280),
    ("window", "window?layer=conv2&c=3&y=1&x=3", "light", 1280),
    ("play", "play?count=3&kinds=edge-outline-blur", "dark", 1280),
    ("learn", "learn?step=6", "light", 1280),
    ("narrow", "question", "dark", 390),
)


def main(run: str) -> None:
    """Serves the run and takes every picture once."""
    predictor = Predictor(run)
    subject = Subject.of(Path(run).name, predictor, samples(predictor))
    place = free_socket(0)
    server = uvicorn.Server(uvicorn.Config(application(subject), log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    base = f"http://127.0.0.1:{place.getsockname()[1]}"
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for name, where, light, width in PICTURES:
            page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=light, locale="en-US")
            page.goto(f"{base}/#/{where}")
            page.wait_for_selector("main[data-ready]")
            page.wait_for_load_state("networkidle")
            page.wait_for_timeout(500)
            picture = Image.open(io.BytesIO(page.screenshot(full_page=name == "window")))
            picture.convert("RGB").save(DOCS / f"look-{name}.webp", quality=88, method=6)
            page.close()
        browser.close()
    server.should_exit = True
    thread.join()


if __name__ == "__main__":
    main(sys.argv[1])
