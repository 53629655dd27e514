"""Where PyTorch's operator is measured clearly faster, it computes, and the report says so."""

import pytest
import torch

from hapgop import engine, nn
from hapgop.nn import functional, ops, rivals, routes

X, W, G = (1, 4, 9, 9), (6, 4, 3, 3), (1, 6, 7, 7)
SETTING = ((1, 1), (0, 0, 0, 0), (1, 1), 1)


@pytest.fixture
def measured(monkeypatch):
    """What a measurement says; and what was measured."""
    said = {"ours": 1.0, "PyTorch": 0.5}
    asked = []

    def compare(key, calls):
        asked.append(key)
        for call in calls.values():
            call()
        return said

    monkeypatch.setattr(engine, "get_tuning", lambda: "close")
    monkeypatch.setattr(engine, "measured", lambda key: None)
    monkeypatch.setattr(engine, "may_measure", lambda: True)
    monkeypatch.setattr(engine, "compare", compare)
    routes.forget()
    yield said, asked
    routes.forget()


def _whole(*shape):
    return torch.randint(-4, 5, shape).float()


def _all(last):
    """Each operation of one layer, and PyTorch's."""
    x, w, g = (_whole(*shape) for shape in (X, W, G))
    if last:
        x, w, g = (t.contiguous(memory_format=torch.channels_last) for t in (x, w, g))
    backward = torch.ops.aten.convolution_backward.default
    gradients = backward(g, x, w, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True, True, False])
    yield functional.conv2d(x, w), torch.nn.functional.conv2d(x, w)
    yield ops.grad_x(g, w, None, (9, 9), *SETTING, last, None), gradients[0]
    yield ops.grad_w(x, g, (3, 3), *SETTING, last), gradients[1]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("faster", [False, True])
def test_the_faster_one_computes(measured, last, faster):
    said, asked = measured
    said["PyTorch"] = 0.9 if faster else 0.96
    nn.reset_report()
    for ours, theirs in _all(last):
        assert torch.equal(ours, theirs)
        assert ours.stride() == theirs.stride()
    report = nn.report()
    assert len(asked) == 3
    assert all("PyTorch" in key for key in asked)
    if faster:
        assert report.pytorch == {(op, rivals.FASTER): 1 for op in ("conv", "grad_x", "grad_w")}
        assert not report.engine
    else:
        assert not report.pytorch


def test_it_is_measured_once(measured):
    x, w = _whole(*X), _whole(*W)
    for _ in range(3):
        functional.conv2d(x, w)
    assert len(measured[1]) == 1


def test_not_where_tuning_is_off_or_nothing_may_be_measured(measured, monkeypatch):
    monkeypatch.setattr(engine, "may_measure", lambda: False)
    functional.conv2d(_whole(*X), _whole(*W))
    monkeypatch.setattr(engine, "may_measure", lambda: True)
    monkeypatch.setattr(engine, "get_tuning", lambda: "off")
    routes.forget()
    functional.conv2d(_whole(*X), _whole(*W))
    assert not measured[1]


def test_the_users_random_numbers_stay(measured):
    torch.manual_seed(3)
    x, w = _whole(*X), _whole(*W)
    state = torch.get_rng_state()
    functional.conv2d(x, w)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_every_dtype_is_compared(measured, dtype):
    said, asked = measured
    said["PyTorch"] = 2.0
    layer = nn.Conv2d(4, 6, 3).to(dtype).eval()
    with torch.no_grad():
        assert layer(_whole(*X).to(dtype)).dtype == dtype
    assert len(asked) >= 1


def test_what_is_decided_under_the_profiler_is_decided_again_without(measured):
    _, asked = measured
    x, w = _whole(*X), _whole(*W)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        functional.conv2d(x, w)
        assert not asked  # the profiler's work would have been measured too
    nn.reset_report()
    functional.conv2d(x, w)
    assert nn.report().pytorch == {("conv", rivals.FASTER): 1}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        functional.conv2d(x, w)
    assert nn.report().pytorch == {("conv", rivals.FASTER): 2}
    assert len(asked) == 1
