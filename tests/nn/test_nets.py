"""The nets by name: sizes, errors, and that they learn."""

import pytest
import torch

from hapgop.errors import InputError
from hapgop.nn import capture, nets

pytestmark = pytest.mark.filterwarnings("ignore::hapgop.shape.UnreadInputWarning")

SIZES = {
    "digits": (1, 8, 8),
    "lenet5": (1, 28, 28),
    "tinyvgg": (3, 64, 64),
    "cifar": (3, 32, 32),
    "airbench": (3, 32, 32),
    "resnet20": (3, 32, 32),
    "resnet56": (3, 32, 32),
}

# For photographs; test_nets_plain.py computes with them. Here they are looked at without memory for their weights.
LARGE = (
    "resnet18", "resnet34", "resnet50", "vgg11", "vgg11_bn", "vgg16", "vgg16_bn", "mobilenet_v2", "convnext_tiny",
)  # fmt: skip


def test_every_name_has_its_size_here():
    assert {*SIZES, *LARGE} == set(nets.NAMES)


@pytest.mark.parametrize("name", LARGE)
def test_large_nets_take_odd_sizes_and_are_captured(name):
    with torch.device("meta"):
        assert nets.build(name, classes=3, input_shape=(1, 33, 46))(torch.empty(2, 1, 33, 46)).shape == (2, 3)
        net = nets.build(name, classes=3, input_shape=(3, 32, 32))
        with pytest.raises(InputError, match="at least 32 x 32 pixels"):
            nets.build(name, classes=3, input_shape=(3, 31, 40))
    named = set(capture(net, (3, 32, 32)).tensor_names())
    assert named == {key for key in net.state_dict() if not key.endswith("num_batches_tracked")}


def test_a_residual_net_for_photographs_learns():
    net = nets.build("resnet18", classes=2, input_shape=(3, 32, 32))
    net(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("name", SIZES)
def test_forward_and_backward(definition, name):
    shape = SIZES[name]
    net = nets.build(name, classes=7, input_shape=shape)
    y = net(torch.randn(2, *shape))
    assert y.shape == (2, 7)
    y.sum().backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)


def test_airbench_learns_neither_its_whitening_nor_the_scales_of_its_norms():
    net = nets.build("airbench", classes=7, input_shape=(3, 32, 32))
    fixed = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
    norms = {f"stages.{stage}.norm{norm}.weight" for stage in range(3) for norm in (1, 2)}
    assert fixed == {"whiten.weight"} | norms
    assert all((net.get_parameter(name) == 1).all() for name in norms)


def test_airbench_keeps_the_filters_with_which_it_was_trained():
    net = nets.build("airbench", classes=7, input_shape=(3, 32, 32))
    net.initialise_from(torch.rand(20, 3, 32, 32))
    with torch.no_grad():
        net.whiten.bias.fill_(0.3)
        net.whiten.weight[5] *= 1 + 1e-6  # as the mean of many copies may be
    filters = net.whiten.weight.clone()
    net.initialise_from(torch.rand(20, 3, 32, 32) * 0.1)
    assert torch.equal(net.whiten.weight, filters)
    assert (net.whiten.bias == 0.3).all()


@pytest.mark.parametrize("name", SIZES)
def test_odd_sizes_up_from_the_smallest(definition, name):
    smallest = next(size for size in range(1, 40) if _builds(name, size))
    for shape in ((2, smallest, smallest + 1), (1, smallest + 3, smallest)):
        assert nets.build(name, classes=2, input_shape=shape).eval()(torch.randn(1, *shape)).shape == (1, 2)
    with pytest.raises(InputError, match=f"{name} wants images of at least {smallest} x {smallest} pixels, not"):
        nets.build(name, classes=2, input_shape=(1, smallest - 1, 50))


def _builds(name, size):
    try:
        nets.build(name, classes=2, input_shape=(1, size, size))
    except InputError:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "classes", "shape", "words"),
    [
        ("lenet", 10, (1, 28, 28), "did you mean 'lenet5'"),
        ("alexnet", 10, (1, 28, 28), "no net 'alexnet'.*digits, lenet5, tinyvgg, cifar, airbench, resnet20, resnet56"),
        ("lenet5", 0, (1, 28, 28), "classes is 0"),
        ("lenet5", 10, (28, 28), r"wanted 1 or more, and \(c, h, w\)"),
        ("tinyvgg", 10, (1, 8, 8), "what fits them: digits, cifar, resnet20, resnet56"),
    ],
)
def test_wrong_names_and_sizes(name, classes, shape, words):
    with pytest.raises(InputError, match=words):
        nets.build(name, classes=classes, input_shape=shape)


def test_a_name_is_known_before_the_images_are():
    for name in nets.NAMES:
        nets.check(name)
    with pytest.raises(InputError, match="did you mean 'resnet18'"):
        nets.check("resnet19")
    nets.check("lenet5", (28, 20))
    with pytest.raises(InputError, match=r"tinyvgg wants images of at least .*, not 28 x 4"):
        nets.check("tinyvgg", (28, 4))


def test_the_default_fits():
    for shape in ((1, 8, 8), (3, 10, 40), (1, 28, 28), (3, 32, 32), (3, 96, 64), (1, 200, 200)):
        nets.build(nets.default_for(shape), classes=2, input_shape=shape)


def test_weights_come_from_pytorchs_generator():
    first, second = (
        (torch.manual_seed(5), nets.build("resnet20", classes=2, input_shape=(1, 8, 8)))[1] for _ in range(2)
    )
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", SIZES)
def test_capture_names_every_parameter(name):
    net = nets.build(name, classes=7, input_shape=SIZES[name])
    graph = capture(net, SIZES[name])
    named = set(graph.tensor_names())
    assert named == {key for key in net.state_dict() if not key.endswith("num_batches_tracked")}
    assert type(graph).from_json(graph.to_json()) == graph
