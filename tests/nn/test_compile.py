"""torch.compile(model, backend="hapgop"): programs for prediction, our operators in training."""

import copy
import importlib
import shutil
import tomllib
from pathlib import Path

import models_of_others as others
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import hapgop.nn
from hapgop import engine
from hapgop.errors import InputError
from hapgop.nn import accelerate, nets
from hapgop.nn.accelerating import choosing
from hapgop.nn.compiling import backend
from hapgop.nn.compiling.calls import with_ours
from hapgop.nn.compiling.compiler import _Compiled
from hapgop.program import Program

pytestmark = pytest.mark.usefixtures("always_ours")
MODELS = others.MODELS
# What a graph has no word for: bilinear resizing, a hook's sum with a number.
OF_WORDS = [name for name in MODELS if name not in ("dilated", "hooked")]

_INDUCTOR = pytest.param(
    "inductor", True, marks=pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler for C++")
)


def _programs():
    return hapgop.nn.report().engine.get(("program", "program"), 0)


def _reasons():
    return [reason for op, reason in hapgop.nn.report().pytorch if op == "program"]


@pytest.mark.parametrize("name", MODELS)
def test_prediction_as_near_to_the_truth_as_pytorch(name):
    model, x = others.lived_in(name)
    model.eval()
    with torch.no_grad():
        exact = [copy.deepcopy(model).double()(x.double())]
        plain = model(x)
        own = others.largest_error([plain], exact)
        compiled = torch.compile(model, backend=backend)
        found = compiled(x)
        assert others.largest_error([found], exact) <= 4 * own + 2**-22
        assert found.stride() == plain.stride()
        assert torch.equal(compiled(x), found)
    assert bool(_programs()) == (name != "dilated")
    assert bool(_reasons()) == (name not in OF_WORDS)


@pytest.mark.parametrize("name", MODELS)
def test_training_as_near_to_the_truth_as_pytorch(name):
    model, x = others.lived_in(name)
    exact = others.results(copy.deepcopy(model).double(), x.double(), True)
    own = others.largest_error(others.results(copy.deepcopy(model), x, True), exact)
    compiled = torch.compile(model, backend=backend)
    assert others.largest_error(others.results(model, x, True, compiled), exact) <= 4 * own
    assert ("conv", "direct") in hapgop.nn.report().engine or any(op == "conv" for op, _ in hapgop.nn.report().engine)
    assert not _programs()


def test_a_norm_in_training_takes_the_sum_and_the_relu_along():
    model, x = others.lived_in("grouped")
    model.to(memory_format=torch.channels_last)
    x = x.contiguous(memory_format=torch.channels_last)
    plain = copy.deepcopy(model)
    calls = []

    def spied(module, inputs):
        calls.extend((node.target.__name__, *node.kwargs) for node in calls_of(module) if "norm" in str(node.target))
        return backend(module, inputs)

    def calls_of(module):
        return [node for node in with_ours(module).graph.nodes if node.op == "call_function"]

    found = others.results(model, x, True, torch.compile(model, backend=spied))
    for mine, theirs in zip(found, others.results(plain, x, True), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()) + 1e-6)
    block = [("batch_norm", "relu"), ("batch_norm", "relu"), ("batch_norm", "residual", "relu")]
    assert calls == [("batch_norm", "relu"), *block, *block]
    assert sum(n for (op, _), n in hapgop.nn.report().engine.items() if op == "batch_norm") == len(calls)


class Small(nn.Module):
    """Little to compile: of each of our operators one."""

    def __init__(self):
        super().__init__()
        self.conv, self.up = nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 2, 2, 2)

    def forward(self, x):
        y = F.relu(self.conv(x))
        return F.avg_pool2d(self.up(F.max_pool2d(y, 2)), 2)


@pytest.mark.parametrize(("nested", "train"), [("aot_eager", False), ("aot_eager", True), _INDUCTOR])
def test_around_other_backends(nested, train):
    model, x = Small(), torch.randn(2, 1, 10, 12)
    exact = others.results(copy.deepcopy(model).double(), x.double(), train)
    own = others.largest_error(others.results(copy.deepcopy(model), x, train), exact)
    compiled = torch.compile(model, backend=backend, options={"nested": nested})
    assert others.largest_error(others.results(model, x, train, compiled), exact) <= 4 * own
    assert {op for op, _ in hapgop.nn.report().engine} >= {"conv", "grad_x", "grad_w", "max_pool", "avg_pool"}


def test_our_operators_inside_another_backend():
    net = nets.build("lenet5", classes=3, input_shape=(1, 20, 20))
    x = torch.randn(2, 1, 20, 20)
    exact = others.results(copy.deepcopy(net).double(), x.double(), True)
    own = others.largest_error(others.results(copy.deepcopy(net), x, True), exact)
    found = others.results(net, x, True, torch.compile(net, backend="aot_eager"))
    assert others.largest_error(found, exact) <= 2 * own


def test_the_second_call_compiles_nothing(monkeypatch):
    model, x = others.lived_in("grouped")
    compiled = torch.compile(model.eval(), backend=backend)
    with torch.no_grad():
        wanted = compiled(x)
        torch._dynamo.utils.counters.clear()

        def never(*_, **__):
            raise AssertionError("planned again")

        monkeypatch.setattr(Program, "__init__", never)
        monkeypatch.setattr("hapgop.program.program.schedule", never)
        assert torch.equal(compiled(x), wanted)
    assert not torch._dynamo.utils.counters["stats"]


def test_changing_shapes_keep_little(monkeypatch):
    made = []
    monkeypatch.setattr(
        _Compiled, "__init__", lambda self, *args, kept=_Compiled.__init__: (made.append(self), kept(self, *args))[1]
    )
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    compiled = torch.compile(net, backend=backend)
    with torch.no_grad():
        for batch, rows in [(1 + i % 30, 8) for i in range(60)] + [(2, 8 + i) for i in range(30)]:
            x = torch.randn(batch, 2, rows, 9)
            torch.testing.assert_close(compiled(x), net(x))
    assert len(made) <= 4
    for one in made:
        assert len(one._programs) <= 4
        assert len(one._choices) <= 64
        assert all(len(program._ready) <= 8 for program in one._programs.values())


@pytest.mark.parametrize("how", ["counted", "data", "loaded", "numpy", "replaced"])
def test_weights_that_change_are_the_ones_in_use(how):
    net = nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU()).eval()
    compiled = torch.compile(net, backend=backend)
    x = torch.randn(1, 3, 9, 9)
    with torch.no_grad():
        compiled(x)
        weight = net[0].weight
        if how == "counted":
            weight.mul_(2)
        elif how == "data":
            weight.data.mul_(2)
        elif how == "loaded":
            net.load_state_dict({key: value + 1 for key, value in net.state_dict().items()})
        elif how == "numpy":
            weight.detach().numpy()[...] *= 2
        else:
            net[0].weight = nn.Parameter(weight * 2)
        for _ in range(3):
            torch.testing.assert_close(compiled(x), net(x))


class Shapes(nn.Module):
    """Sizes taken from the image, a branch on a value, two results."""

    def __init__(self):
        super().__init__()
        self.conv, self.end = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 36, 2)

    def forward(self, x):
        y = F.relu(self.conv(x))
        if y.sum() > 1e9:
            return y
        return self.end(y.view(y.size(0), -1))


def test_graph_breaks_and_views():
    net = Shapes().eval()
    compiled = torch.compile(net, backend=backend)
    with torch.no_grad():
        for batch in (1, 2, 3, 4):
            x = torch.randn(batch, 3, 6, 6)
            torch.testing.assert_close(compiled(x), net(x))
    assert _programs()


class Overwrites(nn.Module):
    """In place on what others read too, and on the image itself."""

    def __init__(self, image):
        super().__init__()
        self.conv, self.image = nn.Conv2d(3, 3, 3, padding=1), image

    def forward(self, x):
        if self.image:
            x.relu_()
        y = self.conv(x)
        z = F.relu(y, inplace=True)
        y += x
        return z * y


@pytest.mark.parametrize("image", [True, False])
def test_memory_that_is_overwritten(image):
    net = Overwrites(image).eval()
    compiled = torch.compile(net, backend=backend)
    x = torch.randn(2, 3, 6, 6)
    mine, theirs = x.clone(), x.clone()
    with torch.no_grad():
        torch.testing.assert_close(compiled(mine), net(theirs))
    assert torch.equal(mine, theirs)
    assert _reasons() == (["the image is overwritten"] if image else [])


def test_what_is_no_net_goes_the_ordinary_way():
    class Two(nn.Module):
        def forward(self, x, y):
            return F.max_pool2d(x, 2), y + 1

    net = torch.compile(Two(), backend=backend)
    x = torch.randn(1, 2, 4, 4)
    torch.testing.assert_close(net(x, x), Two()(x, x))
    doubled = torch.compile(nn.Conv2d(3, 4, 3).double(), backend=backend)
    with torch.no_grad():
        assert doubled(torch.randn(1, 3, 5, 5, dtype=torch.float64)).dtype == torch.float64
        flat = torch.compile(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), backend=backend)
        assert flat(torch.randn(0, 3, 4, 4)).shape == (0, 2)
        assert torch.compile(nn.Conv1d(3, 4, 3), backend=backend)(torch.randn(1, 3, 9)).shape == (1, 4, 7)
    assert len(_reasons()) >= 3


def test_an_accelerated_model_is_compiled():
    model, x = others.lived_in("squeeze_and_excite")
    model.eval()
    with torch.no_grad():
        wanted = model(x)
        found = torch.compile(accelerate(model), backend=backend)(x)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_our_nets_become_programs():
    net = nets.build("lenet5", classes=3, input_shape=(1, 20, 20)).eval()
    x = torch.randn(2, 1, 20, 20)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(net, backend=backend)(x), net(x))
    assert _programs()


def test_the_faster_one_stays(monkeypatch):
    torch.use_deterministic_algorithms(False)
    monkeypatch.setattr(
        "hapgop.nn.compiling.compiler.measured", lambda ours, theirs, inputs: choosing.Choice(False, 0.5)
    )
    model, x = others.lived_in("shared")
    with torch.no_grad():
        wanted = model.eval()(x)
        torch.testing.assert_close(torch.compile(model, backend=backend)(x), wanted, rtol=1e-4, atol=1e-4)
    assert not _programs()
    assert _reasons() == ["measured no faster here"]


def test_a_frozen_model_is_measured_for_every_batch():
    torch.use_deterministic_algorithms(False)
    net = nn.Conv2d(3, 4, 3).eval().requires_grad_(False)
    compiled = torch.compile(net, backend=backend)
    for batch in (4, 2, 3):
        x = torch.randn(batch, 3, 8, 8)
        torch.testing.assert_close(compiled(x), net(x), rtol=1e-4, atol=1e-4)


def test_a_norm_that_is_called_twice_moves_its_statistics_in_order():
    class Twins(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.5)

        def forward(self, a, b):
            return self.norm(self.conv(a)) + self.norm(self.conv(b))

    net = Twins()
    twin = copy.deepcopy(net)
    a, b = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8) * 3 + 1
    y = torch.compile(net, backend="hapgop")(a, b)
    torch.testing.assert_close(y, twin(a, b), rtol=1e-4, atol=1e-4)
    for one, other in zip(net.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_change_of_precision_is_measured_anew(monkeypatch):
    torch.use_deterministic_algorithms(False)
    tried = []

    def measured(*_):
        tried.append(engine.get_precision())
        return choosing.Choice(True, 2.0)

    monkeypatch.setattr("hapgop.nn.compiling.compiler.measured", measured)
    compiled, x = torch.compile(nn.Conv2d(3, 4, 3), backend=backend), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        try:
            for precision in ("fast", "fast", "exact"):
                engine.set_precision(precision)
                compiled(x)
        finally:
            engine.set_precision("fast")
    assert tried == ["fast", "exact"]


def test_the_entry_point_names_the_backend():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    module, name = project["entry-points"]["torch_dynamo_backends"]["hapgop"].split(":")
    assert getattr(importlib.import_module(module), name) is backend


def test_an_unknown_option_is_named():
    with pytest.raises(InputError, match="given nest; it knows the option 'nested' alone"):
        backend(None, [], options={"nest": "x"})
    with pytest.raises(InputError, match="mode='max-autotune'"):
        backend(None, [], mode="max-autotune")


class Aliased(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.a, self.b, self.norm = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)

    def forward(self, x):
        h = self.a(x)
        kept = h.view_as(h) if self.kind == "view" else h
        h += self.norm(self.b(x))
        return h + kept


@pytest.mark.parametrize("kind", ["name", "view"])
def test_a_sum_into_what_has_other_names_stays_in_place(kind):
    net = Aliased(kind)
    twin, x = copy.deepcopy(net), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(torch.compile(net, backend=backend)(x), twin(x), rtol=1e-4, atol=1e-4)


def test_relu6_becomes_a_program():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU6()).eval()
    x = 9 * torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(net, backend=backend)(x), net(x), rtol=1e-4, atol=1e-4)
    assert not _reasons()
