"""What the page says of gates, means, groups and many channels, of large numbers, and where no evidence is."""

import pytest
import torch
from torch import nn

from hapgop import explain
from hapgop.explain.opened import Opened
from hapgop.studio.look import single_file
from hapgop.studio.look.facts import net_facts

from .browser import Visit, served
from .shown_numbers import read_window
from .test_true_page import GREY, of, padded, window


def gated():
    """A gate from the whole picture on every channel."""

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.pool, self.gate = nn.Conv2d(1, 2, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Sigmoid()
            self.end = nn.Linear(128, 3)

        def forward(self, x):
            y = self.conv(x)
            return self.end((y * self.gate(self.pool(y))).flatten(1))

    return of(Gated(), GREY)


def gate(subject):
    return next(node.name for node in subject.net.graph.nodes if node.op == "mul")


def grouped():
    convolutions = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=2)
    return of(nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(256, 3)), GREY)


def wide():
    """More channels than are shown one by one."""
    return of(nn.Sequential(nn.Conv2d(1, 50, 1), nn.Conv2d(50, 2, 1), nn.Flatten(), nn.Linear(128, 3)), GREY)


def test_units_that_do_not_see_alike_are_told():
    subject = gated()
    told = {layer["name"]: layer["unequal"] for layer in net_facts(subject)["layers"]}
    assert (told["conv"], told["pool"], told[gate(subject)]) == (False, False, True)


def test_behind_a_gate_a_single_file_speaks_of_no_padding(browser, tmp_path):
    subject, path = gated(), tmp_path / "look.html"
    path.write_bytes(single_file(subject, subject.sample(0)))
    one = Visit(browser, path.as_uri(), locale="en-US")
    one.page.goto(f"{path.as_uri()}#/window?layer={gate(subject)}&c=0&y=0&x=0")
    one.ready("window")
    assert "This value depends on 8 × 8 pixels of the image." in one.page.inner_text(".triptych")
    one.close()


def test_a_mean_is_made_of_its_window_and_not_taken_from_the_engine(browser, monkeypatch):
    """An engine that errs, in each mean by more than in the one before, is found out."""
    torch.manual_seed(0)
    errors, right = {"2": 1, "3": 3, "4": 6}, Opened.maps
    monkeypatch.setattr(
        Opened, "maps", lambda net, x: {name: y + errors.get(name, 0) for name, y in right(net, x).items()}
    )
    subject = padded()
    maps = subject.net.maps(subject.sample(0).x)
    with served(subject) as address:
        one = Visit(browser, address, locale="en-US")
        for layer in errors:
            found = read_window(window(one, layer, 1, 0, 0))["total"]
            wanted = explain.taken_apart(subject.net, maps, layer, 1, 0, 0)
            assert found == pytest.approx([wanted.total, wanted.engine], rel=1e-6)
            assert found[1] - found[0] > 0.9
        one.close()


def test_a_slice_is_counted_within_its_filter(browser):
    with served(grouped()) as address:
        one = Visit(browser, address, locale="en-US")
        page = one.go("window?layer=1&c=3&y=0&x=0&k=1")
        page.wait_for_selector(".pointed[aria-label^='1, channel 3, row 0, column 0:']")
        assert page.inner_text(".equation caption >> nth=0") == "Window on 0, channel 3"
        assert page.inner_text(".equation caption >> nth=1") == "Filter 3, slice 1"
        assert page.locator(".partial + .note").is_hidden()
        one.close()


def test_channels_that_are_not_shown_are_counted(browser):
    with served(wide()) as address:
        one = Visit(browser, address, locale="en-US")
        page = window(one, "1", 0)
        assert page.locator(".partial li").count() == 48
        assert page.inner_text(".partial + .note") == "+ 2 other channels"
        one.close()


def test_evidence_that_there_is_none_of_lies_nowhere(visit):
    told = visit.go("question").evaluate(
        "import('/static/question.js').then(({ where }) =>"
        " [[0, 0, 0, 0, 0, 0, 0, 0, 0], [-1, 0, 0, 0, 0, 0, 0, 0, 2]].map((heat) => where(heat, 3, 3)))"
    )
    assert told == ["", "Most of it lies at the bottom right."]


def test_large_numbers_round_up_to_the_next_unit(visit):
    told = visit.go("question").evaluate(
        "import('/static/format.js').then(({ large }) => [840, 416520, 999400, 999700].map((count) => large(count)))"
    )
    assert told == ["840", "417 k", "999 k", "1.0 M"]
