"""Nets of other kinds in a real browser, and the page as a single file."""

import numpy as np
import pytest

from hapgop import explain
from hapgop.nn import nets
from hapgop.predict import Preprocessing
from hapgop.studio.look import Sample, Subject, single_file

from .browser import Visit, served
from .shown_numbers import check_numbers, read_window
from .test_look_server import small


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
