"""Weights packed once: the same results, new ones as soon as the weights are others, and bounded memory."""

import copy
import gc
import pickle
import threading
import weakref
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from hapgop import engine, nn
from hapgop.nn import functional, kernels, packed, routes
from hapgop.nn.probes import probe

pytestmark = pytest.mark.usefixtures("plain_sums")


@pytest.fixture(autouse=True)
def _nothing_kept():
    packed.forget()
    yield
    packed.forget()


@pytest.fixture
def packings(monkeypatch):
    """How often weights were packed."""
    done = []
    pack = engine.Prepared.pack

    def counted(self, *given, **more):
        done.append(self)
        return pack(self, *given, **more)

    monkeypatch.setattr(engine.Prepared, "pack", counted)
    return done


def _layer(ic=8, oc=16, kernel=3, **more):
    layer = nn.Conv2d(ic, oc, kernel, padding=kernel // 2, **more)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randint(-4, 5, parameter.shape))
    return layer.to(memory_format=torch.channels_last).eval()


def _image(channels=8, size=9, n=2):
    return torch.randint(-4, 5, (n, channels, size, size)).float().contiguous(memory_format=torch.channels_last)


def _right(layer, x):
    want = F.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(layer(x), want)


def test_once_for_many_calls(packings):
    layer, x = _layer(), _image()
    _right(layer, x)
    _right(layer, _image(n=1))
    _right(layer, _image(size=12))
    assert len(packings) == 1
    with torch.no_grad():
        functional.conv2d(x, layer.weight, layer.bias, 1, 1)
    assert len(packings) == 1


@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_not_again_for_the_profiler(packings, without):
    layer, x = _layer(), _image()
    with without():
        want = layer(x)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as record:
            assert torch.equal(layer(x), want)
    assert "hapgop::conv" in {event.key for event in record.key_averages()}
    assert len(packings) == 1


def test_not_while_training(packings):
    layer = _layer()
    layer(_image()).sum().backward()
    with torch.no_grad():
        functional.conv2d(_image(), layer.weight * 2)  # made for this call only
    assert not packings


@pytest.mark.parametrize("ic", [8, 64])  # compared whole, and in parts
@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.weight.add_(1),
        lambda layer: layer.weight.data.mul_(2),
        lambda layer: layer.weight.detach().numpy().__imul__(2),
        lambda layer: setattr(layer.weight, "data", layer.weight.data + 1),
        lambda layer: layer.load_state_dict({name: value + 1 for name, value in layer.state_dict().items()}),
        lambda layer: layer.weight.fill_(3),
        lambda layer: setattr(layer, "weight", torch.nn.Parameter(layer.weight + 1)),
        lambda layer: torch.nn.init.constant_(layer.weight, 2),
        lambda layer: layer.to(memory_format=torch.contiguous_format),
    ],
    ids=["in place", "data", "numpy", "other data", "loaded", "filled", "another", "init", "memory order"],
)
def test_other_weights_are_packed_anew(change, ic):
    layer, x = _layer(ic), _image(ic)
    _right(layer, x)
    with torch.no_grad():
        change(layer)
    _right(layer, x)


def test_one_number_of_small_weights_is_seen():
    layer, x = _layer(1, 8), _image(1)
    _right(layer, x)
    layer.weight.data[3, 0, 1, 1] += 1
    _right(layer, x)


def test_changes_in_inference_mode_are_seen():
    layer, x = _layer(), _image()
    with torch.inference_mode():
        before = layer(x)
        layer.weight.mul_(2)
        layer.bias.mul_(2)
        assert torch.equal(layer(x), before * 2)
        made_here = _layer()
        assert torch.equal(made_here(x), F.conv2d(x, made_here.weight, made_here.bias, padding=1))


def test_an_optimizers_step_is_seen():
    layer, x = _layer(), _image()
    optimizer = torch.optim.SGD(layer.parameters(), 1.0)
    for _ in range(3):
        _right(layer, x)
        optimizer.zero_grad()
        layer(x).sum().backward()
        for parameter in layer.parameters():
            parameter.grad.remainder_(5)
        optimizer.step()
    _right(layer, x)


def test_copies_are_layers_of_their_own():
    layer, x = _layer(), _image()
    _right(layer, x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        with torch.no_grad():
            other.weight.add_(1)
        _right(other, x)
    _right(layer, x)


def test_weights_that_are_gone_are_dropped():
    x = _image()
    for _ in range(50):
        _right(_layer(), x)
    gc.collect()
    last = _layer()
    _right(last, x)
    assert len(packed._kept) == 1


@pytest.fixture
def swapping():
    """Parameters are swapped where they are converted, which PyTorch refuses for those with weak references."""
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield
    torch.__future__.set_swap_module_params_on_conversion(False)


@pytest.mark.usefixtures("swapping")
@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.double().float(),
        lambda layer: layer.half().float(),
        lambda layer: layer.to(memory_format=torch.contiguous_format),
        lambda layer: layer.load_state_dict({name: value + 1 for name, value in layer.state_dict().items()}),
        lambda layer: layer.load_state_dict(
            {name: value + 1 for name, value in layer.state_dict().items()}, assign=True
        ),
        lambda layer: torch.utils.swap_tensors(layer.weight, torch.nn.Parameter(layer.weight.detach() * 2)),
    ],
    ids=["double", "half", "memory order", "loaded", "assigned", "swapped"],
)
def test_packed_weights_may_be_swapped(change, packings):
    layer, x = _layer(), _image()
    _right(layer, x)
    change(layer)
    _right(layer, x)
    assert len(packings) == 2
    gc.collect()
    _right(_layer(), x)
    assert len(packed._kept) == 2


def test_weights_that_are_gone_give_their_memory_back():
    layer, x = _layer(), _image()
    _right(layer, x)
    memory = weakref.ref(layer.weight.untyped_storage())
    assert memory() is not None
    del layer
    gc.collect()
    assert memory() is None


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(packed, "_kept", engine.Kept(40_000))
    layers, x = [_layer() for _ in range(20)], _image()
    for layer in layers + layers[:3]:
        _right(layer, x)
    assert packed._kept.size <= 40_000
    assert len(packed._kept) < 10


def test_a_thousand_shapes_are_bounded(monkeypatch):
    """Routes, and what repeated calls remember, are bounded in bytes; nothing has to be compiled to see it."""
    monkeypatch.setattr(engine, "prepare", lambda problem: _Ready())
    monkeypatch.setattr(kernels, "packed", lambda run, w: (0, w))
    monkeypatch.setattr(routes, "_decided", engine.Kept(2_000_000))
    monkeypatch.setattr(routes, "remembered", engine.Kept(2_000_000))
    layer = _layer()
    with torch.no_grad():
        for width in range(1000):
            layer(torch.zeros(1, 8, 3, 3 + width))
    assert routes._decided.size <= 2_000_000
    assert 10 < len(routes._decided) < 100


class _Ready:
    """A prepared problem that does nothing and holds 50 kilobytes."""

    bytes = 50_000

    def __init__(self):
        self.plan = SimpleNamespace(algorithm=SimpleNamespace(name="none"), recipe=SimpleNamespace(pack=None))

    def __call__(self, *addresses, threads=None):
        pass


def test_several_threads_share_weights():
    layer, x = _layer(), _image()
    want = layer(x).detach()
    wrong = []

    def predict():
        with torch.no_grad():
            wrong.extend(1 for _ in range(20) if not torch.equal(layer(x), want))

    threads = [threading.Thread(target=predict) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_of_every_dtype(dtype):
    layer, x = _layer().to(dtype), _image().to(dtype)
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(
                layer(x), F.conv2d(x.double(), layer.weight.double(), layer.bias.double(), padding=1).to(dtype)
            )
            layer.weight.data.mul_(2)


def test_with_a_pool():
    layer, x = _layer(pool=2, activation="relu"), _image(size=10)
    with torch.no_grad():
        want = F.max_pool2d(F.relu(F.conv2d(x, layer.weight, layer.bias, padding=1)), 2)
        for _ in range(2):
            assert torch.equal(layer(x), want)


@pytest.mark.parametrize("shape", [(64, 64, 3, 3), (256, 64, 3, 3), (96, 16, 1, 1), (3, 500, 5, 5)])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_a_filter_that_is_cleared_behind_pytorchs_back_is_seen(shape, order):
    weights = torch.ones(shape).to(memory_format=order)
    seen = probe(weights, 256)
    for at in range(shape[0]):
        before = seen.tobytes()
        weights.data[at].zero_()
        assert seen.tobytes() != before, at
