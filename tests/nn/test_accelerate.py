"""accelerate and restore: models of others, unchanged, computed by ours."""

import copy
import io
import pickle

import models_of_others as others
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import hapgop.nn
from hapgop import engine
from hapgop.nn import accelerate, acceleration, capture, restore
from hapgop.nn.accelerating import choosing

MODELS = others.MODELS
pytestmark = pytest.mark.usefixtures("always_ours")


@pytest.fixture(params=MODELS)
def model(request):
    return others.lived_in(request.param)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("train", [True, False])
def test_as_near_to_the_truth_as_pytorch(model, train, channels_last):
    model, x = model
    exact = others.results(copy.deepcopy(model).double(), x.double(), train)
    # In the same memory order: PyTorch's own batch norm is up to ten times less exact with channels last.
    order = torch.channels_last if channels_last else torch.contiguous_format
    own = copy.deepcopy(model).to(memory_format=order)
    own = others.largest_error(others.results(own, x.contiguous(memory_format=order), train), exact)
    hapgop.nn.reset_report()
    ours = others.largest_error(others.results(accelerate(model, channels_last=channels_last), x, train), exact)
    assert ours <= 4 * own
    kinds = [layer.kind for layer in acceleration(model).layers if layer.reason is None]
    norms = kinds.count("BatchNorm2d")
    calls = hapgop.nn.report().engine
    assert sum(calls.values()) >= len(kinds) - norms
    # Ours is the batch norm in training, channels last.
    assert sum(n for (op, _), n in calls.items() if op == "batch_norm") == norms * (train and channels_last)


def test_the_state_is_the_same_and_the_parameters_the_same_objects(model):
    model, _ = model
    before, parameters = copy.deepcopy(model.state_dict()), list(model.parameters())
    kinds = [type(part) for part in model.modules()]
    strides = [p.stride() for p in parameters]
    text = repr(model)
    assert accelerate(model) is model
    accelerate(model)
    assert acceleration(model).taken >= 3
    assert all(issubclass(type(part), kind) for part, kind in zip(model.modules(), kinds, strict=True))
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    _same_state(model.state_dict(), before)
    assert restore(model) is model
    assert [type(part) for part in model.modules()] == kinds
    assert [p.stride() for p in model.parameters()] == strides
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert not any(key.startswith("_hapgop") for part in model.modules() for key in part.__dict__)
    assert repr(model) == text


def _same_state(state, wanted):
    assert list(state) == list(wanted)
    assert all(torch.equal(state[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "hooked"])
def test_copies_pickles_and_saved_states(name):
    make, shape = MODELS[name]
    model, x = accelerate(make()).eval(), torch.randn(1, *shape)
    wanted = model(x)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    other = accelerate(make()).eval()
    other.load_state_dict(model.state_dict())
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False), other]
    for one in copies:
        assert [type(part) for part in one.modules()] == [type(part) for part in model.modules()]
        assert torch.equal(one(x), wanted)
        restore(one)
        assert [type(part) for part in one.modules()] == [type(part) for part in make().modules()]
        assert all(p.is_contiguous() for p in one.parameters())


class Chain(nn.Sequential):
    """As torchvision's blocks: a Sequential with a constructor of its own."""

    def __init__(self, ic, oc):
        super().__init__(nn.Conv2d(ic, oc, 3), nn.ReLU(), nn.MaxPool2d(2))


def test_a_chain_is_computed_in_one():
    model = accelerate(
        nn.Sequential(Chain(3, 4), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.MaxPool2d(3, 2))
    )
    assert isinstance(model[0], Chain)
    assert isinstance(pickle.loads(pickle.dumps(model))[0], Chain)
    plain = restore(copy.deepcopy(model))
    assert type(plain[0]) is Chain
    x = torch.randn(2, 3, 20, 20)
    torch.testing.assert_close(model(x), plain(x))
    names = [[key[0] for key in choosing.choices_of(layer)] for layer in [*model[0], *model[1:]]]
    first, second = ["conv2d+relu+max_pool2d"], ["conv2d+relu"]
    assert names == [first, first, first, second, second, ["conv2d"], ["max_pool2d"]]


def test_a_batch_norm_and_its_relu_are_computed_in_one_in_training():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=None), nn.ReLU(), nn.BatchNorm2d(4))
    x = torch.randn(2, 3, 8, 8)
    plain = copy.deepcopy(model)
    accelerate(model)
    for train in (True, True, False):
        torch.testing.assert_close(model.train(train)(x), plain.train(train)(x))
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value)
    assert [key[0] for key in choosing.choices_of(model[1])] == ["batch_norm+relu"]
    assert [key[0] for key in choosing.choices_of(model[3])] == ["batch_norm"]


def test_a_listener_is_told_what_the_layer_alone_makes():
    model = accelerate(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2)))
    x = torch.randn(1, 3, 8, 8)
    wanted = model(x)
    for at in range(3):
        heard = []
        handle = model[at].register_forward_hook(
            lambda layer, inputs, output, heard=heard: heard.append((inputs, output))
        )
        torch.testing.assert_close(model(x), wanted)
        (((given,), result),) = heard
        torch.testing.assert_close(result, restore(copy.deepcopy(model))[at](given))
        assert at or result.min() < 0
        handle.remove()
    everyone = []
    handle = nn.modules.module.register_module_forward_hook(lambda layer, *_: everyone.append(layer))
    model(x)
    handle.remove()
    assert everyone == [*model, model]


class Own(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) + 1


def test_what_is_left_alone_is_named():
    replaced = nn.Conv2d(3, 3, 3)
    replaced.forward = lambda x: x
    model = nn.ModuleDict(
        {
            "own": Own(3, 3, 3),
            "replaced": replaced,
            "spectral": parametrizations.spectral_norm(nn.Conv2d(3, 3, 3)),
            "deep": nn.Conv3d(1, 1, 1),
            "lazy": nn.LazyConv2d(3, 3),
            "ours": hapgop.nn.Conv2d(3, 3, 3),
            "taken": nn.Conv2d(3, 3, 3),
            "other": nn.ReLU(),
        }
    )
    kinds = {name: type(part) for name, part in model.items()}
    accelerate(model)
    assert [name for name, part in model.items() if type(part) is not kinds[name]] == ["taken"]
    reasons = {layer.path: layer.reason for layer in acceleration(model).layers}
    assert reasons["taken"] is None
    for name, words in {
        "own": "a class of its own",
        "replaced": "its forward was replaced",
        "spectral": "parametrized",
        "deep": "three dimensions",
        "lazy": "not known yet",
    }.items():
        assert words in reasons[name]
    assert not {"ours", "other"} & set(reasons)
    text = str(acceleration(model))
    assert "own       Own" in text
    assert "not called yet" in text
    assert str(acceleration(nn.ReLU())) == "no convolutions, pools or batch norms"
    assert "the model was not accelerated" in str(acceleration(nn.Conv2d(1, 1, 1)))


def test_the_weights_of_spectral_norm_and_of_hooks_are_the_ones_in_use():
    old = accelerate(nn.utils.spectral_norm(nn.Conv2d(3, 4, 3)))
    new = accelerate(parametrizations.weight_norm(nn.Conv2d(3, 4, 3)))
    for layer in (old, new):
        layer.eval()
        x = torch.randn(1, 3, 6, 6)
        torch.testing.assert_close(layer(x), torch.nn.functional.conv2d(x, layer.weight, layer.bias))


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_an_optimiser_made_before_goes_on(make):
    states = []
    for accelerated in (False, True):
        torch.manual_seed(1)
        model, shape = MODELS["shared"][0](), MODELS["shared"][1]
        optimizer = make(model.parameters(), lr=0.01)
        x = torch.randn(2, *shape)
        for step in range(4):
            if step == 2 and accelerated:
                accelerate(model)
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
        states.append(restore(model).state_dict())
    for key in states[0]:
        torch.testing.assert_close(states[1][key], states[0][key], rtol=1e-3, atol=1e-4)


def test_memory_that_others_count_on_is_not_laid_out_anew():
    flat = torch.randn(2 * 81)
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3))
    for at in (0, 1):
        model[at].weight = nn.Parameter(flat[81 * at : 81 * (at + 1)].view(3, 3, 3, 3))
    accelerate(model)
    assert [layer.weight.is_contiguous() for layer in model] == [True, True, False]
    flat.zero_()
    assert model[1].weight.abs().max() == 0


def test_other_devices_types_and_transforms():
    model = accelerate(MODELS["shared"][0]())
    x = torch.randn(3, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(x).dtype == torch.bfloat16
    torch.testing.assert_close(torch.vmap(lambda one: model(one[None])[0])(x), model(x))
    with torch.inference_mode():
        torch.testing.assert_close(model(x), model(x))
    assert accelerate(copy.deepcopy(model)).double()(x.double()).dtype == torch.float64
    assert accelerate(copy.deepcopy(model)).bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    assert model.to("meta")(x.to("meta")).shape == (3, 5)
    assert accelerate(nn.Conv2d(3, 2, 3))(x[0]).shape == (2, 6, 6)
    assert accelerate(nn.Conv2d(3, 2, 3))(x[:0]).shape == (0, 2, 6, 6)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_other_paddings(mode):
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=(1, 2), padding_mode=mode), nn.ReLU())
    x = torch.randn(2, 3, 7, 8)
    wanted = model(x)
    torch.testing.assert_close(accelerate(model)(x), wanted)


def test_settings_given_as_lists():
    model = nn.Sequential(nn.Conv2d(3, 4, [3, 3], [2, 1], [1, 0]), nn.MaxPool2d([2, 2], [1, 2]), nn.AvgPool2d([1, 2]))
    x = torch.randn(2, 3, 12, 14)
    wanted = model(x)
    torch.testing.assert_close(accelerate(model)(x), wanted)


def test_an_accelerated_model_is_captured():
    model, shape = MODELS["squeeze_and_excite"][0](), MODELS["squeeze_and_excite"][1]
    wanted = capture(model, shape)
    assert [node.op for node in capture(accelerate(model), shape).nodes] == [node.op for node in wanted.nodes]


class TestChoosing:
    """The faster one stays, for each kind of input."""

    @pytest.fixture(autouse=True)
    def _measured(self, always_ours, monkeypatch):
        torch.use_deterministic_algorithms(False)
        self.tried = []

        def seconds(compute, tensors, setting):
            of_ours = "hapgop" in compute.__module__
            self.tried.append(of_ours)
            # Images of ten rows suit us, others do not.
            return 1.0 if of_ours == (tensors[0].shape[2] == 10) else 2.0

        monkeypatch.setattr(choosing, "_seconds", seconds)

    def test_by_kind_of_input_and_once(self):
        model = accelerate(nn.Conv2d(3, 4, 3))
        for rows in (10, 12, 10, 12, 10):
            model(torch.randn(1, 3, rows, 10))
        assert len(self.tried) == 8  # each side once to warm up and once for the clock, for two kinds of input
        assert [(choice.ours, choice.gain) for choice in choosing.choices_of(model).values()] == [
            (True, 2),
            (False, 0.5),
        ]
        assert "ours, 2.0 times as fast; PyTorch: measured no faster" in str(acceleration(model))
        assert hapgop.nn.report().pytorch == {("conv2d", "measured no faster here"): 2}
        with torch.no_grad():
            model(torch.randn(1, 3, 10, 10))
        assert len(self.tried) == 12  # without a backward it is another call

    @pytest.mark.parametrize(
        ("set_to", "other", "usual"), [(engine.set_precision, "exact", "fast"), (engine.set_tuning, "kept", "off")]
    )
    def test_anew_after_a_change_of_precision_or_tuning(self, set_to, other, usual):
        model, x = accelerate(nn.Conv2d(3, 4, 3)), torch.randn(1, 3, 10, 10)
        try:
            for setting in (usual, usual, other):
                set_to(setting)
                model(x)
        finally:
            set_to(usual)
        assert len(self.tried) == 8  # four for each setting

    def test_a_second_layer_of_the_same_kind_is_not_tried(self):
        model = accelerate(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)))
        with torch.no_grad():
            model(torch.randn(1, 3, 10, 10).contiguous(memory_format=torch.channels_last))
        assert len(self.tried) == 4
        assert all(len(choosing.choices_of(layer)) == 1 for layer in model)

    def test_what_is_kept_is_bounded(self, monkeypatch):
        monkeypatch.setattr(choosing, "_MOST", 8)
        model = accelerate(nn.MaxPool2d(2))
        for size in range(4, 40):
            model(torch.randn(1, 1, size, 4))
        assert len(choosing._choices) <= 8
        assert len(choosing.choices_of(model)) <= 8


def test_trying_leaves_no_trace():
    torch.use_deterministic_algorithms(False)
    model = accelerate(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)))
    seen = []
    model[0].weight.register_hook(lambda gradient: seen.append(gradient))
    x = torch.randn(1, 3, 6, 6)
    wanted = 0.1 * restore(copy.deepcopy(model))[:2](x).mean((0, 2, 3))
    y = model(x)
    assert not seen
    assert model[0].weight.grad is None
    y.square().sum().backward()
    assert len(seen) == 1
    assert model[2].num_batches_tracked == 1
    torch.testing.assert_close(model[2].running_mean, wanted)
    (choice,) = choosing.choices_of(model[0]).values()
    assert choice.gain > 0
