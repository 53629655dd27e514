"""The server: what it answers, what it refuses, and that those who wait together are answered together."""

import asyncio
import io

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from hapgop.errors import InputError
from hapgop.serve import Busy, Together, app, application, together


def png(bright, size=(4, 6)):
    """A picture whose left or right half is bright."""
    pixels = np.zeros(size, np.uint8)
    half = size[1] // 2
    pixels[:, half:] = 255 * (bright == "right")
    pixels[:, :half] = 255 * (bright == "left")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def asking(predictor):
    return TestClient(application(predictor, "halves"), base_url="http://127.0.0.1:7007")


@pytest.fixture
def client(predictor):
    return asking(predictor)


@pytest.mark.parametrize(("bright", "size"), [("left", (4, 6)), ("right", (40, 90))])
def test_a_picture_gets_the_label_that_predict_gives_it(client, predictor, bright, size):
    answer = client.post("/predict", content=png(bright, size))
    assert answer.status_code == 200
    wanted = predictor([Image.open(io.BytesIO(png(bright, size)))])[0]
    told = answer.json()
    assert told["label"] == wanted.label == bright
    assert told["confidence"] == pytest.approx(wanted.confidence)
    by_class = dict(zip(predictor.classes, wanted.probabilities.tolist(), strict=True))
    assert told["probabilities"] == pytest.approx(by_class)
    assert list(told["probabilities"]) == sorted(by_class, key=by_class.get, reverse=True)


def test_a_large_jpeg_is_decoded_as_predict_decodes_it(client, predictor, tmp_path):
    # Decoded whole, a dot's surroundings are cut off where they would be darker than black: the mean is brighter.
    dots = np.where(np.random.default_rng(0).random((1500, 2000)) < 0.1, 255, 0).astype(np.uint8)
    path, rules = tmp_path / "dots.jpg", predictor.preprocessing
    Image.fromarray(dots).save(path, quality=30)
    assert not np.array_equal(rules.pixels(path), rules.pixels(Image.open(path)))
    told = client.post("/predict", content=path.read_bytes()).json()
    wanted = predictor([path])[0]
    assert told["probabilities"] == dict(zip(predictor.classes, wanted.probabilities.tolist(), strict=True))


def test_a_picture_in_colour_finds_everything_planned(trained):
    predictor = trained(channels=3)
    client = asking(predictor)
    planned = set(predictor.program._ready)
    assert client.post("/predict", content=png("left")).json()["label"] == "left"
    assert set(predictor.program._ready) == planned


def test_labels_that_are_no_unicode_are_told(trained):
    """Names of folders, in another encoding than the system's."""
    client = asking(trained(classes=("caf\udce9", "right", "neither")))
    assert client.get("/").json()["classes"][0] == "caf\udce9"
    told = client.post("/predict", content=png("left")).json()
    assert told["label"] == next(iter(told["probabilities"])) == "caf\udce9"


def test_the_likeliest_alone(client):
    told = client.post("/predict?top=1", content=png("left")).json()
    assert list(told["probabilities"]) == ["left"]
    for wrong in ("0", "-1", "many", "1.5", "٣"):
        answer = client.post("/predict", params={"top": wrong}, content=png("left"))
        assert answer.status_code == 400
        assert "how many labels are wanted" in answer.json()["error"]


def test_what_it_says_of_itself(client):
    told = client.get("/").json()
    assert told["classes"] == ["left", "right", "neither"]
    assert (told["net"], told["size"]) == ("halves", [4, 6])
    assert client.get("/health").json() == {"status": "ready"}


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "Nothing arrived"), (b"Dear diary", "no picture that can be read"), (png("left", (40, 90))[:70], "damaged")],
)
def test_what_is_no_picture_is_said(client, content, words):
    answer = client.post("/predict", content=content)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_what_is_too_much_is_said(client, monkeypatch):
    monkeypatch.setattr("hapgop.web.limits.MOST_BYTES", 1000)
    assert client.post("/predict", content=bytes(1001)).status_code == 413
    monkeypatch.setattr(app, "_MOST", 0)
    answer = client.post("/predict", content=png("left"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "Too many pictures" in answer.json()["error"]


def test_others_are_not_answered_unless_that_is_wanted(predictor):
    for local, status in ((True, 403), (False, 200)):
        client = TestClient(application(predictor, "halves", local=local), base_url="http://10.0.0.7:7007")
        assert client.post("/predict", content=png("left")).status_code == status


def test_a_net_whose_answer_is_no_number_is_no_fault_of_the_picture(client, predictor, monkeypatch):
    def broken(batch):
        raise InputError("The net's answer is no number.")

    monkeypatch.setattr(predictor, "probabilities", broken)
    answer = client.post("/predict", content=png("left"))
    assert answer.status_code == 500
    assert "no number" in answer.json()["error"]
    monkeypatch.undo()
    assert client.post("/predict", content=png("left")).status_code == 200


def test_many_at_a_time_are_answered_in_batches_each_with_its_own(predictor, monkeypatch):
    sizes = []
    whole = predictor.probabilities
    monkeypatch.setattr(predictor, "probabilities", lambda batch: (sizes.append(len(batch)), whole(batch))[1])
    server = application(predictor, "halves")
    assert sizes == list(together.SIZES), "planned before anyone asks"
    sizes.clear()
    sides = ["left", "right", "neither"] * 14

    async def all_at_once():
        transport = httpx.ASGITransport(server)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await asyncio.gather(*(client.post("/predict", content=png(side)) for side in sides))

    answers = asyncio.run(all_at_once())
    assert [answer.json()["label"] for answer in answers] == sides
    assert sum(sizes) == len(sides)
    assert max(sizes) > 1
    assert set(sizes) <= set(together.SIZES)


def test_who_waits_too_long_is_told_and_a_failure_reaches_all(predictor, monkeypatch):
    monkeypatch.setattr(together, "_MOST_WAITING", 3)
    x = np.zeros((1, 4, 6), np.float32)

    async def ask(count):
        several = Together(predictor)
        return await asyncio.gather(*(several.probabilities(x) for _ in range(count)), return_exceptions=True)

    found = asyncio.run(ask(5))
    assert [isinstance(one, Busy) for one in found] == [False, False, False, True, True]

    def broken(batch):
        raise OSError("no more memory")

    monkeypatch.setattr(predictor, "probabilities", broken)
    assert [str(one) for one in asyncio.run(ask(3))] == ["no more memory"] * 3


def test_who_has_gone_does_not_disturb_the_others(predictor):
    x = np.zeros((1, 4, 6), np.float32)

    async def go():
        several = Together(predictor)
        asked = [asyncio.create_task(several.probabilities(x)) for _ in range(4)]
        await asyncio.sleep(0)
        asked[1].cancel()
        return await asyncio.gather(*asked, return_exceptions=True)

    found = asyncio.run(go())
    assert isinstance(found[1], asyncio.CancelledError)
    assert all(found[place].shape == (3,) for place in (0, 2, 3))
