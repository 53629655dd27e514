"""Who computed what, and why not we."""

import threading

import pytest
import torch

import hapgop.nn
from hapgop.nn import CallReport, functional, report, reset_report
from hapgop.nn.report import Answer, count

x, w = torch.randn(1, 3, 6, 6), torch.randn(4, 3, 3, 3)


def test_calls_in_the_engine_by_algorithm(definition):
    for _ in range(3):
        functional.conv2d(x, w)
    functional.max_pool2d(x, 2)
    assert report() == CallReport({("conv", "definition"): 3, ("max_pool", "definition"): 1}, {})
    assert str(report()).splitlines() == [
        "op        calls  computed by",
        "conv          3  definition",
        "max_pool      1  definition",
    ]
    reset_report()
    assert report() == CallReport()
    assert str(report()) == "no calls yet"


@pytest.mark.parametrize("dtype", [torch.float16, torch.complex64])
def test_other_dtypes_go_to_pytorch(definition, dtype):
    a, b = x.to(dtype), w.to(dtype)
    assert torch.equal(functional.conv2d(a, b), torch.nn.functional.conv2d(a, b))
    name = str(dtype).removeprefix("torch.")
    assert report().pytorch == {("conv2d", f"{name} tensors"): 1}
    assert "conv2d      1  PyTorch: " in str(report())
    assert not definition.asked


def test_what_the_operators_themselves_do_with_other_dtypes(definition):
    a, b = x.bfloat16().requires_grad_(), w.bfloat16()
    setting = ((1, 1), (0, 1, 0, 1), (1, 1), 1)
    y = hapgop.nn.ops.conv(a, b, None, *setting, "relu")
    padded = torch.nn.functional.pad(x.bfloat16(), (0, 1, 0, 1)).requires_grad_()
    wanted = torch.relu(torch.nn.functional.conv2d(padded, b))
    assert torch.equal(y, wanted)
    y.sum().backward()
    wanted.sum().backward()
    assert torch.equal(a.grad, padded.grad[:, :, :6, :6])
    reason = "NumPy has no bfloat16"
    assert report().pytorch == {("conv", reason): 1, ("grad_x", reason): 1}


def test_sparse_meta_and_three_dimensions_go_to_pytorch(definition):
    assert functional.conv2d(x.to("meta"), w.to("meta")).shape == (1, 4, 4, 4)
    assert functional.conv3d(x[None], w[:, None, :1]).shape == (1, 4, 3, 4, 4)
    with pytest.raises((RuntimeError, NotImplementedError)):
        functional.conv2d(x.to_sparse(), w)
    assert report().pytorch == {
        ("conv2d", "meta tensors"): 1,
        ("conv3d", "three dimensions"): 1,
        ("conv2d", "sparse_coo tensors"): 1,
    }


def test_an_empty_batch_goes_to_pytorch(definition):
    assert functional.conv2d(x[:0], w).shape == (0, 4, 4, 4)
    assert report().pytorch == {("conv", "an empty tensor"): 1}


REFUSED = {
    "conv": lambda x, w: functional.conv2d(x, w, padding=(1, 0, 2, 0), stride=2),
    "conv of channels last": lambda x, w: functional.conv2d(x.to(memory_format=torch.channels_last), w),
    "linear": lambda x, w: functional.linear(x, w[0, 0, :, :].repeat(1, 2)),
    "transposed": lambda x, w: functional.conv_transpose2d(x, w[:3], stride=2, output_padding=1),
    "max pool": lambda x, w: functional.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "dilated max pool": lambda x, w: functional.max_pool2d(x, (2, 3), 1, (1, 0), 2),
    "average pool": lambda x, w: functional.avg_pool2d(x, 2, ceil_mode=True, padding=1, count_include_pad=False),
}


@pytest.mark.filterwarnings("ignore::hapgop.shape.UnreadInputWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_the_engine_refuses_goes_to_pytorch_with_the_same_results(definition, name):
    """Forward, backward and the backward of that, exact on integers."""

    def results():
        a = torch.randint(-4, 5, (1, 3, 6, 6), generator=torch.manual_seed(1)).double().requires_grad_()
        b = torch.randint(-4, 5, (4, 3, 3, 3), generator=torch.manual_seed(2)).double().requires_grad_()
        y = REFUSED[name](a, b)
        g = (torch.arange(y.numel()).double().view(y.shape) % 5).requires_grad_()
        first = torch.autograd.grad(y, (a, b), g, create_graph=True, allow_unused=True)
        second = torch.autograd.grad(first[0].sum(), g)
        tensors = [t for t in (y, *first, *second) if t is not None]
        return [(t, t.stride()) for t in tensors]

    by_engine = results()
    assert not report().pytorch
    reset_report()
    definition.refuses = lambda problem: "not today"
    hapgop.nn.routes.forget()
    by_pytorch = results()
    assert not report().engine
    assert {reason for _, reason in report().pytorch} == {"not today"}
    for (a, strides_a), (b, strides_b) in zip(by_engine, by_pytorch, strict=True):
        assert torch.equal(a, b)
        assert strides_a == strides_b


def test_under_autocast_pytorch_computes_in_its_precision(definition):
    weight = w.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = functional.conv2d(x, weight)
        z = functional.linear(x.flatten(1), torch.ones(2, 108))
        t = functional.conv_transpose2d(x, w[:3])
        double = functional.conv2d(x.double(), w.double())
    assert (y.dtype, z.dtype, t.dtype, double.dtype) == (*[torch.bfloat16] * 3, torch.float64)
    assert torch.equal(y, torch.nn.functional.conv2d(x.bfloat16(), w.bfloat16()))
    y.sum().backward()
    assert weight.grad.dtype == torch.float32
    assert {op for op, _ in report().pytorch} == {"conv", "linear", "grad_x", "grad_w"}


def test_counting_from_many_threads_loses_nothing():
    answer = Answer("conv", "direct")
    threads = [threading.Thread(target=lambda: [count(answer) for _ in range(2000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert report().engine == {("conv", "direct"): 16000}


def test_a_refusal_is_one_line():
    functional.conv_transpose2d(torch.ones(1, 3, 4, 4), torch.ones(3, 2, 3, 3), stride=20)
    ((_, reason),) = report().pytorch
    assert "\n" not in reason
    assert len(reason) < 120
