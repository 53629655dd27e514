"""One file of a net that is too large for it: whole windows are kept, and what is left out is said."""

import numpy as np
import pytest
import torch

from hapgop import explain
from hapgop.explain.window import channels_read
from hapgop.nn import nets
from hapgop.predict import Preprocessing
from hapgop.studio.look import Sample, Subject, single, single_file
from hapgop.studio.look.fitting import everything, fitting

from .browser import Visit
from .shown_numbers import read_window
from .test_look_server import small


def looked(name="resnet20", side=32):
    torch.manual_seed(0)
    module = nets.build(name, classes=12, input_shape=(3, side, side)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Subject.of_module(name, module, Preprocessing((side, side)), list("abcdefghijkl"), [Sample("x", pixels)])


@pytest.fixture(scope="module")
def large():
    return looked()


@pytest.fixture(scope="module")
def maps(large):
    return large.maps(large.sample(0))


def test_with_room_enough_everything_is_kept(large, maps):
    assert fitting(large.net, maps, 10**8, [], {}) == everything(large.net)


@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v2"])
@pytest.mark.parametrize("room", [0, 60_000, 150_000, 600_000])
def test_every_window_that_is_kept_is_whole(name, room):
    subject = looked(name)
    net, maps = subject.net, subject.maps(subject.sample(0))
    found = fitting(net, maps, room, [next(iter(net.layers))], {})
    assert found != everything(net)
    assert bool(found.windows) == (room > 0)
    for layer, channels in found.windows.items():
        node = net.nodes[layer]
        assert set(channels) <= set(found.maps[layer])
        if not node.weighted:
            continue
        assert set(channels) <= set(found.weights[layer])
        source = node.inputs[0]
        if source != net.graph.input and node.op != "linear":
            read = {int(k) for c in channels for k in channels_read(node, net.sizes[source][0], c)}
            assert read <= set(found.maps[source])
    if room >= 600_000:
        assert sum(net.nodes[layer].weighted for layer in found.windows) > 5


def test_the_channels_that_are_liked_are_kept(large, maps):
    layer = [name for name in large.net.layers if large.net.nodes[name].op == "conv2d"][-1]
    found = fitting(large.net, maps, 300_000, [layer], {layer: [60, 3, 41]})
    assert {60, 3, 41} <= set(found.windows[layer])


def test_every_convolution_in_it_answers_with_the_right_numbers(browser, large, maps, tmp_path, monkeypatch):
    monkeypatch.setattr(single, "MOST_BYTES", 400_000)
    path = tmp_path / "look.html"
    path.write_bytes(single_file(large, large.sample(0)))
    assert path.stat().st_size < 700_000, "the page itself is some 200 kB"
    one = Visit(browser, path.as_uri(), locale="en-US")
    page = one.page
    page.goto(f"{path.as_uri()}#/window")
    one.ready("window")
    windows = page.evaluate(
        "import('look/source.js').then((source) => source.once('net', {})).then((net) => net.windows)"
    )
    convolutions = [name for name in windows if large.net.nodes[name].op == "conv2d"]
    assert len(convolutions) > 3
    assert page.input_value(".chooser select") in windows
    assert "holds the windows of" in page.inner_text("main")
    for layer in convolutions:
        c = windows[layer][-1]
        page.evaluate("where => { location.hash = where; }", f"/window?layer={layer}&c={c}&y=2&x=1")
        page.wait_for_selector(f".pointed[aria-label^='{layer}, channel {c}, row 2, column 1:']")
        found, wanted = read_window(page), explain.taken_apart(large.net, maps, layer, c, 2, 1)
        assert np.float32(found["value"]) == np.float32(wanted.engine), layer
        assert np.array_equal(np.float32(found["tables"][0]), wanted.values[0].ravel()), layer
        assert np.array_equal(np.float32(found["tables"][1]), wanted.filter[0].ravel()), layer
        total = found["total"][: 3 if len(wanted.channels) > 1 else 2]
        assert sum(total) == pytest.approx(wanted.before, rel=1e-5, abs=1e-5), layer
    page.focus(".pointed")
    page.keyboard.press("PageDown")
    page.wait_for_function(f"Number(new URLSearchParams(location.hash.split('?')[1]).get('c')) === {windows[layer][0]}")
    left = next(name for name in large.net.layers if name not in windows)
    page.evaluate("where => { location.hash = where; }", f"/window?layer={left}&c=0&y=0&x=0")
    page.wait_for_selector(f"text=The window of {left} is not part of this file")
    page.select_option(".chooser select", convolutions[0])
    page.wait_for_selector(f".pointed[aria-label^='{convolutions[0]},']")
    one.close()


def test_a_flattened_value_sees_what_it_saw_in_its_map(browser, tmp_path):
    sample = Sample("x", np.full((8, 8, 1), 200, np.uint8))
    subject = Subject("small", small(), ("a", "b", "c"), Preprocessing((8, 8), 1, (0.5,), (0.25,)), [sample])
    path, shown = tmp_path / "look.html", subject.sample(0)
    path.write_bytes(single_file(subject, shown))
    one = Visit(browser, path.as_uri(), locale="en-US")
    c = subject.net.sizes["flat"][0] - 1
    one.page.goto(f"{path.as_uri()}#/window?layer=flat&c={c}")
    one.ready("window")
    box = explain.receptive_field(subject.net, shown.x, "flat", 0, 0, c).box
    frame = one.page.eval_on_selector(
        ".triptych .frame", "({ style }) => ['top', 'left', 'height', 'width'].map((side) => parseFloat(style[side]))"
    )
    top, left, bottom, right = (100 * place / 8 for place in box)
    assert frame == pytest.approx([top, left, bottom - top, right - left])
    assert f"{box[2] - box[0]} × {box[3] - box[1]} pixels" in one.page.inner_text(".triptych")
    one.close()
