"""The page's server: what it answers, and what it refuses."""

import base64
import io
import json
import re
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from hapgop import explain
from hapgop.errors import InputError
from hapgop.explain.opened import Opened
from hapgop.predict import Preprocessing
from hapgop.program import Graph, Node
from hapgop.studio.look import Sample, Subject, application, serving, show, single_file
from hapgop.studio.look.packing import packed
from hapgop.web import uploads

KINDS = {"f4": np.float32, "u1": np.uint8, "i4": np.int32}


def unpacked(data):
    """What the page's own reader makes of an answer."""
    length = int.from_bytes(data[:4], "little")
    head = json.loads(data[4 : 4 + length])
    arrays = {}
    for name, (kind, shape, offset) in head.pop("arrays").items():
        start = 4 + length + offset
        count = int(np.prod(shape))
        arrays[name] = np.frombuffer(data, KINDS[kind], count, start).reshape(shape)
    return head, arrays


def small(random=None):
    """A net of two convolutions with a skip, for 1 x 8 x 8 images and three labels."""
    random = random or np.random.default_rng(0)
    nodes = (
        Node("conv", "conv2d", ("input",), {"out_channels": 4, "kernel_size": 3, "padding": 1, "activation": "relu"},
             {"weight": "conv.weight", "bias": "conv.bias"}),
        Node("deep", "conv2d", ("conv",), {"out_channels": 4, "kernel_size": 3, "padding": 1},
             {"weight": "deep.weight"}),
        Node("sum", "add", ("conv", "deep")),
        Node("pool", "max_pool2d", ("sum",), {"kernel_size": 2}),
        Node("flat", "flatten", ("pool",)),
        Node("head", "linear", ("flat",), {"out_features": 3}, {"weight": "head.weight"}),
    )  # fmt: skip
    sizes = {"conv.weight": (4, 1, 3, 3), "conv.bias": (4,), "deep.weight": (4, 4, 3, 3), "head.weight": (3, 64)}
    tensors = {name: random.normal(size=size).astype(np.float32) * 0.3 for name, size in sizes.items()}
    return Opened(Graph((1, 8, 8), nodes, "head"), tensors)


def subject(net=None):
    random = np.random.default_rng(1)
    pictures = [Sample(f"{n}.png", random.integers(0, 256, (8, 8, 1), dtype=np.uint8), "a") for n in range(3)]
    return Subject("small", net or small(), ("a", "b", "c"), Preprocessing((8, 8), 1, (0.5,), (0.25,)), pictures)


@pytest.fixture(scope="module")
def client():
    return TestClient(application(subject()), base_url="http://127.0.0.1:7007")


@pytest.fixture(scope="module")
def image(client):
    return client.get("/api/sample?n=0").json()["image"]


def test_a_module_is_shown_as_it_answers():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3))
    rules = Preprocessing((8, 8), 1, (0.5,), (0.25,))
    made = Subject.of_module("mine", net, rules, ["a", "b", "c"], subject().samples)
    one = made.sample(1)
    wanted = torch.softmax(net(torch.from_numpy(one.x)[None]), 1)[0].tolist()
    assert made.answer(one) == pytest.approx(wanted, rel=1e-5)
    assert Subject.of_module("mine", net, rules).classes == ("0", "1", "2")
    with pytest.raises(InputError, match="3 scores, but 2 labels"):
        Subject.of_module("mine", net, rules, ["a", "b"])
    with pytest.raises(InputError, match="4 x 6 x 6 numbers; one score a label"):
        Subject.of_module("mine", net[:2], rules)


def test_from_python_the_page_is_opened_in_the_browser(monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(serving.webbrowser, "open", opened.append)
    monkeypatch.setattr(serving, "serve", lambda subject, place, ready: (place.close(), ready("http://127.0.0.1:1/")))
    show(subject(), 0)
    assert opened == ["http://127.0.0.1:1/"]
    assert "http://127.0.0.1:1/ (Ctrl-C ends it)" in capsys.readouterr().out


def test_numbers_arrive_as_they_are():
    array = np.array([[0.1, np.float32(1e-40), -3e38]], np.float32)
    head, arrays = unpacked(packed({"a": 1}, {"x": array, "m": np.array([True, False]), "y": array.T}))
    assert head == {"a": 1}
    assert arrays["x"].tobytes() == array.tobytes()
    assert arrays["y"].tobytes() == array.T.tobytes()
    assert arrays["m"].tolist() == [1, 0]


def test_the_net_is_told_whole(client):
    net = client.get("/api/net").json()
    assert [layer["name"] for layer in net["layers"]] == ["conv", "deep", "sum", "pool", "flat", "head"]
    conv = net["layers"][0]
    assert conv["formula"] == "(8 - 3 + 1 + 1) / 1 + 1 = 8"
    assert conv["taps"]["rows"]["places"][0] == [-1, 0, 1]
    assert conv["taps"]["rows"]["reads"][0] == [-1, 0, 1]
    assert net["layers"][3]["reads"] == ["sum"]
    assert conv["algorithm"]["name"]


def test_maps_are_the_engines(client, image):
    looked = subject()
    maps = looked.net.maps(looked.sample(0).x)
    for name in ("input", "conv", "sum", "head"):
        head, arrays = unpacked(client.get("/api/maps", params={"image": image, "layers": name}).content)
        assert arrays[name].tobytes() == maps[name].tobytes()
    assert head["probabilities"] == pytest.approx(explain.probabilities(maps["head"]).tolist())


def test_a_field_on_the_wire_is_explains(client):
    looked = subject()
    ask = {"layer": "deep", "c": 3, "y": 0, "x": 7}
    _, field = unpacked(client.get("/api/field", params=ask).content)
    assert np.array_equal(field["mask"], explain.receptive_field(looked.net, np.zeros((1, 8, 8)), "deep", 0, 7, 3).mask)


@pytest.mark.parametrize(
    "question",
    ["evidence?method=occlusion", "evidence?method=gradcam", "evidence?method=integrated&label=2", "mattered?",
     "costs?", "larger?", "effective?layer=deep&c=0&y=1&x=1", "learning?"],
)  # fmt: skip
def test_every_question_about_a_picture_has_an_answer(client, image, question):
    answer = client.get(f"/api/{question}&image={image}")
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "question", ["exciting?layer=conv&c=1", "health?layer=conv", "weights?layer=head", "pixels?n=2"]
)
def test_every_question_about_the_net_has_an_answer(client, question):
    assert client.get(f"/api/{question}").status_code == 200


def test_the_net_is_run_once_a_sample_for_all_channels_of_a_layer(monkeypatch):
    looked, runs = subject(), []
    client = TestClient(application(looked), base_url="http://127.0.0.1:7007")
    monkeypatch.setattr(Opened, "maps", lambda net, x, maps=Opened.maps: runs.append(1) or maps(net, x))
    for channel in range(4):
        found = client.get(f"/api/exciting?layer=deep&c={channel}").json()
        wanted = explain.exciting(looked.net, [looked.sample(n).x for n in range(3)], "deep", channel)
        assert [one["value"] for one in found["found"]] == [one.value for one in wanted]
    assert len(runs) == 3 * (1 + 4), "each of what is wanted runs them all again"


def test_labels_that_are_no_unicode_are_told():
    looked = subject()
    looked.classes = ("a", "caf\udce9", "c")
    client = TestClient(application(looked), base_url="http://127.0.0.1:7007")
    assert client.get("/api/net").json()["classes"][1] == "caf\udce9"


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def test_a_picture_comes_in(client):
    answer = client.post("/api/show?name=x.png", content=png(np.full((20, 30, 3), 90, np.uint8)))
    assert answer.json()["name"] == "x.png"
    _, arrays = unpacked(client.get("/api/larger", params={"image": answer.json()["image"]}).content)
    assert arrays["pixels:"].shape == (20, 30, 3)


def test_live_pixels_give_all_layers_at_once(client):
    answer = client.post("/api/live?h=4&w=4&c=3&layers=conv,deep", content=bytes(48))
    head, arrays = unpacked(answer.content)
    assert set(arrays) == {"pixels:", "conv", "deep"}
    assert len(head["probabilities"]) == 3


def test_play_is_computed_by_the_engine_and_impossible_settings_explain_themselves(client, image):
    wanted = {"image": image, "filters": [[[[1, 0], [0, -1]]]], "padding": 1, "stride": 2}
    head, arrays = unpacked(client.post("/api/play", json=wanted).content)
    assert head["formula"] == "(8 - 2 + 1 + 1) / 2 + 1 = 5"
    x = np.pad(arrays["input"][0], 1)
    assert np.array_equal(arrays["maps"][0], (x[:-1, :-1] - x[1:, 1:])[::2, ::2])
    _, flipped = unpacked(client.post("/api/play", json=wanted | {"flip": True}).content)
    assert np.array_equal(flipped["maps"], -arrays["maps"])
    refused = client.post("/api/play", json=wanted | {"dilation": 20, "padding": 0})
    assert refused.status_code == 400
    assert "What would work" in refused.json()["error"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("maps?image=nothing", "not here any more"),
        ("maps?", "lacks 'image'"),
        ("weights?layer=none", "no layer called 'none'"),
        ("field?layer=conv&c=0&y=99&x=0", "row 99"),
        ("field?layer=conv&c=x&y=0&x=0", "a whole number"),
        ("sample?n=-1", "a whole number"),
    ],
)
def test_questions_that_cannot_be_answered(client, path, words):
    answer = client.get(f"/api/{path}")
    assert answer.status_code == 400
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("show", b"", "empty"),
        ("show", b"Dear diary", "no picture"),
        ("show", png(np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8))[:900], "damaged"),
        ("live?h=2&w=2&c=1", b"abc", "3 bytes are no 2 × 2"),
        ("live?h=2&w=2", b"abc", "whole number"),
        ("play", b"{", "JSON"),
        ("play", b"[]", "JSON object"),
        ("play", b'{"numbers": [[[1]]], "filters": [[1, [2]]]}', "equal length"),
        ("play", b'{"numbers": [[[1]]], "filters": [[[[1e999]]]]}', "finite"),
        ("play", b'{"numbers": [[[1]]], "filters": [[[[1]]]], "stride": 1.5}', "stride"),
        ("play", b'{"image": "gone", "filters": [[[[1]]]]}', "not here any more"),
    ],
)
def test_bodies_that_cannot_be_used(client, path, body, words):
    answer = client.post(f"/api/{path}", content=body)
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]


def huge_png(width, height):
    """A PNG whose header promises that many pixels; nobody is to decode them."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(10_000, 10_000), (100_000, 100_000)])
def test_a_picture_of_a_hundred_megapixels_is_refused_with_the_limit(client, size):
    answer = client.post("/api/show", content=huge_png(*size))
    assert answer.status_code == 400
    assert "More than 64 million are refused" in answer.json()["error"]


def test_an_upload_over_the_limit_is_refused(client, monkeypatch):
    monkeypatch.setattr("hapgop.web.limits.MOST_BYTES", 1000)
    answer = client.post("/api/show", content=bytes(1001))
    assert answer.status_code == 413
    assert client.post("/api/show", content=bytes(1000)).status_code == 400
    assert uploads.MOST_BYTES == 32 * 2**20


@pytest.mark.parametrize("host", ["example.com", "127.0.0.1.example.com", "localhost.evil:7007", "", "10.0.0.1:7007"])
def test_another_host_is_refused(client, host):
    answer = client.get("/api/net", headers={"host": host})
    assert answer.status_code == 403
    assert "Only this machine" in answer.json()["error"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2:7007", "localhost:7007", "[::1]:7007", "[::1]"])
def test_this_machine_is_answered(client, host):
    assert client.get("/", headers={"host": host}).status_code == 200


def test_a_page_from_elsewhere_cannot_post(client):
    body = bytes(16)
    theirs = client.post("/api/live?h=4&w=4&c=1", content=body, headers={"origin": "http://evil.example"})
    ours = client.post("/api/live?h=4&w=4&c=1", content=body, headers={"origin": "http://127.0.0.1:7007"})
    assert (theirs.status_code, ours.status_code) == (403, 200)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/../subject.py",
        "/static//etc/passwd",
        "/etc/passwd",
    ],
)
def test_nothing_outside_the_folder_is_served(client, path):
    assert client.get(path).status_code == 404


def test_the_page_may_load_nothing_from_elsewhere(client):
    answer = client.get("/")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "http" not in answer.text.replace("http-equiv", "")


def test_old_pictures_are_forgotten(monkeypatch):
    monkeypatch.setattr("hapgop.studio.look.subject._PICTURES", 4)
    looked = subject()
    first = looked.show(np.full((8, 8, 1), 1, np.uint8))
    for value in range(2, 6):
        looked.show(np.full((8, 8, 1), value, np.uint8))
    with pytest.raises(InputError, match="not here any more"):
        looked.picture(first.id)


def test_the_single_file_is_small_and_needs_nothing_else():
    looked = subject()
    page = single_file(looked, looked.sample(0)).decode()
    assert len(page) < 1_000_000
    assert "/static/" not in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert '<script type="importmap">' in page


def test_the_single_file_explains_the_label_that_it_shows():
    looked = subject()
    looked.mirror = True
    random = np.random.default_rng(2)
    tried = (looked.show(random.integers(0, 256, (8, 8, 1), dtype=np.uint8)) for _ in range(100))
    one = next(one for one in tried if np.argmax(looked.answer(one)) != looked.maps(one)["head"].argmax())
    page = single_file(looked, one).decode()
    kept = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    told = {key: zlib.decompress(base64.b64decode(value[1:])) for key, value in kept.items()}
    label = int(np.argmax(json.loads(told["sample"])["probabilities"]))
    assert {unpacked(told[f"evidence {method}"])[0]["label"] for method in ("occlusion", "integrated")} == {label}
    wanted = explain.channels_that_mattered(looked.net, one.x, label)
    assert [m["share"] for m in json.loads(told["mattered"])["channels"]] == [m.share for m in wanted]


def test_a_name_cannot_end_the_script_of_the_single_file():
    looked = subject()
    looked.title = "</script><script>alert(1)</script>"
    assert "<script>alert" not in single_file(looked, looked.sample(0)).decode()
