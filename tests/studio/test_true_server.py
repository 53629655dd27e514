"""What the page's server keeps and what it says of nets that answer with no numbers."""

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient
from torch import nn

from hapgop import explain
from hapgop.errors import InputError
from hapgop.explain.opened import Opened
from hapgop.predict import Preprocessing
from hapgop.studio.look import Sample, application
from hapgop.studio.look.subject import _FRAMES, Subject

from .test_look_server import small, subject


def client(looked: Subject) -> TestClient:
    return TestClient(application(looked), base_url="http://127.0.0.1:7007")


def taught() -> list[Sample]:
    return [Sample(f"l{n}", np.full((8, 8, 1), 200 + n, np.uint8), "a") for n in range(3)]


def test_a_drawing_pushes_out_nobodys_pictures(monkeypatch):
    monkeypatch.setattr("hapgop.studio.look.subject._PICTURES", 4)
    looked = subject()
    looked.taught = taught
    asked = client(looked)
    lessons = [one.id for one in looked.lessons]
    samples = [asked.get("/api/sample", params={"n": n}).json()["image"] for n in range(3)]
    uploaded = looked.show(np.full((8, 8, 1), 90, np.uint8)).id
    for value in range(60):
        body = bytes([value, 255 - value, 0, 9])
        assert asked.post("/api/live?h=2&w=2&c=1&layers=", content=body).status_code == 200
    for one in (*lessons, *samples, uploaded):
        assert asked.get("/api/picture", params={"image": one}).status_code == 200
    assert len(looked._frames) == _FRAMES
    assert len(looked._pictures) == 1


def test_a_frame_that_is_asked_about_stays():
    looked = subject()
    asked = looked.frame(np.full((8, 8, 1), 7, np.uint8))
    assert looked.picture(asked.id) is asked
    for value in range(20, 60):
        looked.frame(np.full((8, 8, 1), value, np.uint8))
    assert looked.picture(asked.id) is asked


def test_samples_outlive_many_uploads(monkeypatch):
    monkeypatch.setattr("hapgop.studio.look.subject._PICTURES", 2)
    looked = subject()
    first = looked.sample(0)
    for value in range(9):
        looked.show(np.full((8, 8, 1), value, np.uint8))
    assert looked.picture(first.id) is first


def test_a_link_to_a_sample_outlives_the_server():
    identity = subject().sample(2).id
    answer = client(subject()).get("/api/picture", params={"image": identity})
    assert (answer.status_code, answer.json()["name"]) == (200, "2.png")


def test_a_link_to_a_training_picture_outlives_the_server():
    first, again, lost = subject(), subject(), subject()
    first.taught = again.taught = taught
    asked = {"image": first.sample(0).id}
    link = client(first).get("/api/alike", params=asked).json()["found"][0]["image"]
    answer = client(again).get("/api/picture", params={"image": link})
    assert (answer.status_code, answer.json()["image"]) == (200, link)

    def gone():
        raise InputError("The folder is not there any more.")

    lost.taught = gone
    answer = client(lost).get("/api/picture", params={"image": link})
    assert answer.status_code == 400
    assert "not here any more" in answer.json()["error"]


@pytest.mark.parametrize("question", ["sample?n=0", "exciting?layer=conv&c=0"])
def test_weights_that_are_no_numbers_are_told_in_a_sentence(question):
    net = small()
    broken = {name: np.full_like(tensor, np.nan) for name, tensor in net.tensors.items()}
    looked = subject(Opened(net.graph, broken))
    answer = client(looked).get(f"/api/{question}&image={looked.sample(0).id}")
    assert answer.status_code == 400
    assert "weights cannot be right" in answer.json()["error"]


def test_what_a_covering_changes_is_found_in_parts():
    """Part by part, the page finds the first of all, or none where there is none."""
    looked = subject()
    for number in range(len(looked.samples)):
        shown, first, found = looked.sample(number), 0, None
        every = explain.what_changes(looked.net, shown.x)
        while found is None:
            told = client(looked).get("/api/change", params={"image": shown.id, "first": first}).json()
            found, first = told["change"], told["looked"]
            if first == told["all"]:
                break
        assert told["all"] == len(explain.coverings(*shown.x.shape[1:]))
        assert (found is None) == (not every)
        if found:
            assert (found["top"], found["left"], found["label"]) == (every[0].top, every[0].left, every[0].label)


def test_a_covering_changes_the_answer_that_is_shown_where_a_mirror_image_has_a_say():
    """The left half is bright: the net says yes of the picture, no of its mirror image and of both together."""
    head = nn.Linear(64, 2)
    with torch.no_grad():
        head.weight.zero_()
        head.weight[1].view(8, 8)[:, :4] = 1
        head.bias.copy_(torch.tensor([30.0, 0.0]))
    pixels = np.zeros((8, 8, 1), np.uint8)
    pixels[:, :4] = 255
    rules, samples = Preprocessing((8, 8), 1, (0.0,), (1.0,)), [Sample("half.png", pixels)]
    looked = Subject.of_module("half", nn.Sequential(nn.Flatten(), head), rules, ["no", "yes"], samples)
    assert explain.what_changes(looked.net, looked.sample(0).x), "of the picture alone, some covering does"
    looked.mirror = True
    shown, found = looked.sample(0), {"looked": 0, "all": 1, "change": None}
    assert np.argmax(looked.answer(shown)) == 0
    while found["change"] is None and found["looked"] < found["all"]:
        asked = {"image": shown.id, "first": found["looked"]}
        found = client(looked).get("/api/change", params=asked).json()
    assert found["change"] is None
