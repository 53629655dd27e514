"""A call like one before takes the short way; a call that differs in anything does not."""

import pytest
import torch
from torch.nn import functional as F

from hapgop import engine, nn
from hapgop.errors import InputError
from hapgop.nn import functional, routes, shortcut

pytestmark = pytest.mark.usefixtures("plain_sums")


def _whole(*shape, last=False, dtype=torch.float32):
    numbers = torch.randint(-4, 5, shape).to(dtype)
    return numbers.contiguous(memory_format=torch.channels_last) if last else numbers


def test_what_differs_is_another_call():
    w, bias = _whole(6, 4, 3, 3), _whole(6)
    for _ in range(2):
        for last in (False, True):
            for dtype in (torch.float32, torch.float64):
                for setting in ((1, 0, 1, 1), (1, 1, 1, 1), ([2, 1], (1, 0), 1, 1), (1, [0, 2], (1, 2), 1)):
                    for b in (None, bias):
                        x = _whole(2, 4, 9, 8, last=last, dtype=dtype)
                        given = x, w.to(dtype), None if b is None else b.to(dtype)
                        assert torch.equal(functional.conv2d(*given, *setting), F.conv2d(*given, *setting))
                        relu = functional.conv2d(*given, *setting, activation="relu")
                        assert torch.equal(relu, F.relu(F.conv2d(*given, *setting)))


def test_the_second_call_asks_nobody(monkeypatch):
    x, w = _whole(1, 3, 8, 8), _whole(4, 3, 3, 3)
    want = functional.conv2d(x, w, None, [1, 1])
    monkeypatch.setattr(routes, "conv", None)
    assert torch.equal(functional.conv2d(x, w, None, [1, 1]), want)
    nn.reset_report()
    functional.conv2d(x, w, None, [1, 1])
    assert sum(nn.report().engine.values()) == 1


def test_another_precision_is_another_decision():
    x, w = _whole(2, 64, 30, 30, last=True), _whole(64, 64, 3, 3, last=True)
    functional.conv2d(x, w)
    try:
        engine.set_precision("fast")
        nn.reset_report()
        functional.conv2d(x, w)
        assert any("winograd" in algorithm for _, algorithm in nn.report().engine)
    finally:
        engine.set_precision("exact")
    nn.reset_report()
    functional.conv2d(x, w)
    assert not any("winograd" in algorithm for _, algorithm in nn.report().engine)


def test_a_mistake_is_told_every_time():
    x, w = _whole(1, 3, 8, 8), _whole(4, 3, 3, 3)
    functional.conv2d(x, w, _whole(4))
    for _ in range(2):
        with pytest.raises(InputError):
            functional.conv2d(x, w, _whole(5))
        with pytest.raises(InputError):
            functional.conv2d(x, w, activation="gelu")


def test_who_wants_a_gradient_gets_one():
    x, w = _whole(1, 3, 8, 8), _whole(4, 3, 3, 3)
    functional.conv2d(x, w)
    assert shortcut.free(x, w, None)
    w.requires_grad_()
    assert not shortcut.free(x, w, None)
    y = functional.conv2d(x, w)
    y.sum().backward()
    assert w.grad is not None
    with torch.no_grad():
        assert shortcut.free(x, w, None)
        assert functional.conv2d(x, w).grad_fn is None


def test_who_listens_is_heard():
    x, w = _whole(1, 3, 8, 8), _whole(4, 3, 3, 3)
    functional.conv2d(x, w)
    with torch.autocast("cpu", torch.bfloat16):
        assert functional.conv2d(x, w).dtype == torch.bfloat16
    batch = torch.func.vmap(lambda one: functional.conv2d(one, w))(x[None])
    assert torch.equal(batch[0], F.conv2d(x, w))
