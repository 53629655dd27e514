"""Our layers inside PyTorch's machinery: torch.compile, torch.func, torch.fx, subclasses."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.utils._python_dispatch

import hapgop.nn
from hapgop.nn import functional, nets, report


@pytest.mark.parametrize(
    ("name", "dynamic"),
    [("digits", False), ("lenet5", True), pytest.param("resnet20", True, marks=pytest.mark.slow)],
)
@pytest.mark.filterwarnings("ignore::hapgop.shape.UnreadInputWarning")
def test_a_net_compiles_without_graph_breaks(definition, name, dynamic):
    net = nets.build(name, classes=3, input_shape=(1, 16, 16)).double()
    net.eval()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for n in (2, 3):
        x = torch.randn(n, 1, 16, 16).double().requires_grad_()
        results = []
        for f in (net, compiled):
            y = f(x)
            results.append((y, torch.autograd.grad(y.square().sum(), [x, *net.parameters()])))
        assert torch.equal(results[0][0], results[1][0])
        for a, b in zip(results[0][1], results[1][1], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
            assert a.stride() == b.stride()


def test_all_layers_compile(definition):
    net = torch.nn.Sequential(
        hapgop.nn.Conv2d(2, 4, 3, 2, "same", activation="relu"),
        hapgop.nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        hapgop.nn.ConvTranspose2d(4, 4, 2, 2),
        hapgop.nn.MaxPool2d(3, 1, 1),
        hapgop.nn.AvgPool2d(2),
        hapgop.nn.AdaptiveAvgPool2d((2, 3)),
        torch.nn.Flatten(2),
        hapgop.nn.Conv1d(4, 3, 3),
        hapgop.nn.Linear(4, 2),
    )
    x = torch.randn(2, 2, 7, 8)
    y = torch.compile(net, backend="aot_eager", fullgraph=True)(x)
    assert torch.equal(y, net(x))
    # What goes to PyTorch while tracing is in the graph, not in the count.
    assert report().pytorch == {("adaptive_avg_pool2d", "parts of different sizes"): 1}


def test_gradients_of_functions(definition):
    x, w = torch.randn(2, 3, 5, 5).double(), torch.randn(4, 3, 3, 3).double()

    def loss(conv):
        return lambda w: conv(x, w).square().sum()

    ours = torch.func.grad(loss(functional.conv2d))(w)
    torch.testing.assert_close(ours, torch.func.grad(loss(torch.nn.functional.conv2d))(w), rtol=1e-12, atol=1e-12)


def test_gradients_of_each_image(definition):
    x, w = torch.randn(3, 1, 2, 5, 5).double(), torch.randn(4, 2, 3, 3).double()

    def loss(conv):
        return lambda w, x: conv(x, w).square().sum()

    ours, theirs = (
        torch.func.vmap(torch.func.grad(loss(conv)), (None, 0))(w, x)
        for conv in (functional.conv2d, torch.nn.functional.conv2d)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_subclass_hears_of_the_call(definition):
    heard = []

    class Listener(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            heard.append(func)
            return super().__torch_function__(func, types, args, kwargs or {})

    x = torch.randn(1, 1, 4, 4).as_subclass(Listener)
    y = functional.max_pool2d(x, 2)
    assert functional.max_pool2d in heard
    assert isinstance(y, Listener)


def test_symbolic_tracing_records_our_functions(definition):
    class Net(torch.nn.Module):
        def forward(self, x):
            return functional.avg_pool2d(functional.max_pool2d(x, 2), 2)

    traced = torch.fx.symbolic_trace(Net())
    assert [n.target for n in traced.graph.nodes][1:3] == [functional.max_pool2d, functional.avg_pool2d]
    x = torch.randn(1, 1, 8, 8)
    assert torch.equal(traced(x), Net()(x))


def test_inference_mode_and_saved_tensors(definition):
    x, w = torch.randn(1, 2, 4, 4), torch.nn.Parameter(torch.randn(2, 2, 3, 3))
    with torch.inference_mode():
        assert functional.conv2d(x, w).is_inference()
    y = functional.conv2d(x, w, activation="relu")
    with torch.no_grad():
        y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_forward_mode_derivatives_are_pytorchs(definition):
    x, w = torch.randn(1, 2, 5, 5).double(), torch.randn(3, 2, 3, 3).double()
    direction = torch.randn_like(w)
    ours, theirs = (
        torch.func.jvp(lambda w, conv=conv: conv(x, w), (w,), (direction,))
        for conv in (functional.conv2d, torch.nn.functional.conv2d)
    )
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)
    assert report().pytorch == {("conv2d", "forward-mode derivatives"): 1}


def test_the_profiler_sees_our_operators(definition):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        functional.conv2d(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 3, 3))
    assert "hapgop::conv" in {event.key for event in profile.key_averages()}


def test_modes_hear_of_forward_and_backward(definition):
    heard = []

    class Mode(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            heard.append(str(func))
            return func(*args, **(kwargs or {}))

    x, w = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 3, 3, requires_grad=True)
    with Mode():
        functional.conv2d(x, w, activation="relu").sum().backward()
    assert [name for name in heard if "hapgop" in name] == ["hapgop.conv.default", "hapgop.grad_w.default"]


@pytest.mark.skipif(not list((Path(torch.__file__).parent / "lib").glob("libgomp*")), reason="a PyTorch without it")
def test_one_openmp_in_the_process():
    """Two runtimes would be two teams of threads that wait for each other's cores."""
    code = (
        "import torch; from hapgop.nn import functional; from pathlib import Path;"
        "functional.conv2d(torch.zeros(4, 16, 32, 32), torch.zeros(16, 16, 3, 3));"
        "maps = Path('/proc/self/maps');"
        "print(maps.read_text() if maps.exists() else '')"
    )
    # In a process of its own: other libraries of the tests bring runtimes of theirs.
    maps = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    names = {line.split()[-1] for line in maps.splitlines() if ".so" in line}
    assert not names or len([n for n in names if re.search(r"lib(gomp|iomp|omp)\b", Path(n).name)]) == 1
