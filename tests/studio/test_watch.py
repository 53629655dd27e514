"""A training that is watched: what the page is told, what it draws, and how it becomes the page of the run."""

import numpy as np
import pytest
from starlette.testclient import TestClient

from hapgop.studio.look import Live, Watched, watching
from hapgop.train import EpochDone, Formed, Step
from hapgop.web import free_socket

from .browser import Visit, chromium
from .test_look_server import subject, unpacked


def step(epoch, number, loss, accuracy, epochs=2, steps=4):
    return Step(epoch, epochs, number, steps, loss, accuracy, 123.0, 61.0, 0.01)


def done(epoch, accuracy):
    return EpochDone(epoch, 2, 1.0, 0.5, 1.1, accuracy, 0.1, 3.0, 123.0, 0.0, True)


def trained(watched):
    """Two epochs of four steps; a step's loss is told as the mean over its epoch so far."""
    for epoch in (1, 2):
        for number in range(1, 5):
            watched(step(epoch, number, (number + 1) / 2, 0.1 * number))
            watched(Formed(np.full((2, 3, 3, 3), number / 4, np.float32)))
        watched(done(epoch, 0.25 * epoch))
    return watched


def test_a_point_is_the_mean_of_its_own_steps():
    """The means 1, 1.5, 2, 2.5 are those of the losses 1, 2, 3, 4; right are 0.1, 0.3, 0.5, 0.7."""
    told = trained(Watched("net")).told(0)
    assert [p[0] for p in told["points"]] == [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    assert [p[1] for p in told["points"]] == pytest.approx([1, 2, 3, 4] * 2)
    assert [p[2] for p in told["points"]] == pytest.approx([0.1, 0.3, 0.5, 0.7] * 2)
    assert [line["val_accuracy"] for line in told["done"]] == [0.25, 0.5]
    assert (told["epoch"], told["step"], told["filters"]) == (2, 4, 7)


def test_a_long_training_has_no_more_points_than_a_curve_needs():
    watched = Watched("net")
    for number in range(1, 6001):
        watched(step(1, number, 1.0, 0.5, epochs=1, steps=6000))
    assert 500 <= len(watched.told(0)["points"]) <= 601
    assert len(watched.told(590)["points"]) == len(watched.told(0)["points"]) - 590


def test_each_event_is_passed_on():
    heard = []
    trained(Watched("net", heard.append))
    assert len(heard) == 18


def test_the_server_tells_what_the_training_told():
    watched = Watched("net")
    client = TestClient(watching(watched), base_url="http://127.0.0.1:7007")
    assert client.get("/api/watch?since=0").json()["stage"] == "reading"
    assert client.get("/api/filters").status_code == 400
    trained(watched)
    assert len(client.get("/api/watch?since=3").json()["points"]) == 5
    assert unpacked(client.get("/api/filters").content)[1]["filters"].shape == (2, 3, 3, 3)
    watched.close()
    assert client.get("/api/watch?since=0").json()["stage"] == "judging"
    assert client.get("/api/watch?since=x").status_code == 400
    assert client.get("/", headers={"host": "example.org"}).status_code == 403


def test_the_page_of_the_training_becomes_that_of_the_net():
    live = Live(trained(Watched("net")), free_socket(0))
    try:
        with TestClient(live._answer, base_url=live.address) as client:
            assert "watch.js" in client.get("/").text
            live.become(subject())
            assert client.get("/api/watch?since=0").json()["stage"] == "done"
            assert client.get("/api/net").json()["title"] == "small"
    finally:
        live.end()


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_curves_and_the_filters_follow_the_training(language):
    watched = Watched("net")
    live = Live(watched, free_socket(0))
    with chromium() as browser:
        visit = Visit(browser, live.address.rstrip("/"), locale=language, color_scheme="dark", width=390)
        try:
            page = visit.go(f"?lang={language}", "watch")
            watched(step(1, 1, 2.0, 0.1))
            watched(Formed(-np.ones((2, 3, 3, 3), np.float32)))
            page.wait_for_selector(".tiles canvas")
            curve = page.get_attribute(".chart .line", "d")
            filters = page.eval_on_selector(".tiles canvas", "canvas => canvas.toDataURL()")
            trained(watched)
            page.wait_for_selector(".chart circle >> nth=3")
            assert page.get_attribute(".chart .line", "d") != curve
            assert page.get_attribute(".chart .line", "d").count("L") == 8
            assert page.eval_on_selector(".tiles canvas", "canvas => canvas.toDataURL()") != filters
            assert "50.0 %" in page.inner_text("main")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            live.become(subject())
            page.wait_for_selector("main[data-ready=question]")
        finally:
            visit.close()
            live.end()
