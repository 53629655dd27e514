"""A training step in two calls: what the layers compute, one by one, and their way wherever ours does not lead."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import hapgop.nn as ours
from hapgop import engine
from hapgop.errors import InputError
from hapgop.nn import TrainingProgram, nets

pytestmark = pytest.mark.filterwarnings("ignore::hapgop.shape.UnreadInputWarning")

SIZES = {
    "digits": (1, 8, 8),
    "lenet5": (1, 28, 28),
    "tinyvgg": (3, 64, 64),
    "cifar": (3, 32, 32),
    "airbench": (3, 32, 32),
    "resnet20": (3, 32, 32),
    "resnet18": (3, 40, 40),
    "resnet50": (3, 33, 46),
}
LAST = torch.channels_last


def seeded(net, *shape):
    """(result, gradients, buffers) of a step whose dropout is drawn from the same seed each time."""
    module = net.net if isinstance(net, TrainingProgram) else net
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(memory_format=LAST)
    torch.manual_seed(2)
    y = net(x)
    (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    return y.detach(), [p.grad for p in module.parameters()], [b.clone() for b in module.buffers()]


def assert_close(got, wanted, share=1e-5):
    """Within this share of the largest number of each tensor."""
    for a, b in zip(got, wanted, strict=True):
        assert (a is None) == (b is None)
        if b is not None:
            assert (a - b).abs().max() <= share * b.abs().max() + 1e-30


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, LAST], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("name", SIZES)
def test_a_step_is_that_of_the_layers(name, memory_format):
    net = nets.build(name, classes=7, input_shape=SIZES[name]).to(memory_format=memory_format)
    twin = copy.deepcopy(net)
    program = TrainingProgram(net)
    for _ in range(2):
        y, gradients, buffers = seeded(program, 3, *SIZES[name])
        assert program.reason is None
        y_there, gradients_there, buffers_there = seeded(twin, 3, *SIZES[name])
        assert_close([y], [y_there])
        assert_close(gradients, gradients_there, 1e-4)
        assert_close(buffers, buffers_there)


class Mixed(nn.Module):
    """PyTorch's own layers: a convolution with pool, a sum, one that is not fused, dropout, linear layers."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 18, 3, padding=1), nn.Conv2d(18, 18, 3, padding=1, bias=False)
        self.conv3 = nn.Conv2d(18, 4, 3, stride=2)
        self.fc1, self.fc2, self.dropout = nn.Linear(36, 20), nn.Linear(20, 5), nn.Dropout(0.5)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = self.conv3(F.avg_pool2d(F.relu(x + self.conv2(x)) + x, 1) * 2)
        return self.fc2(self.dropout(F.relu(self.fc1(F.max_pool2d(x, 2, 1, 1).flatten(1)))))


def test_whole_numbers_come_out_exactly():
    net = Mixed()
    generator = torch.Generator().manual_seed(4)
    for p in net.parameters():
        p.data = torch.randint(-2, 3, p.shape, generator=generator).float()
    twin = copy.deepcopy(net).double()
    x = torch.randint(-3, 4, (2, 3, 11, 11), generator=generator).float().requires_grad_()
    x_there = x.detach().double().requires_grad_()
    # Float64 would draw other numbers.
    torch.manual_seed(6)
    drawn = F.dropout(torch.ones(2, 20)).double()
    twin.dropout.forward = lambda values: values * drawn
    program = TrainingProgram(net)
    engine.set_precision("exact")
    try:
        torch.manual_seed(6)
        y = program(x)
        y.sum().backward()
    finally:
        engine.set_precision("fast")
    assert program.reason is None
    y_there = twin(x_there)
    y_there.sum().backward()
    assert torch.equal(y.double(), y_there)
    assert y.abs().max() > 100
    assert torch.equal(x.grad.double(), x_there.grad)
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a.grad.double(), b.grad)


def test_what_is_not_learned_gets_no_gradient_and_images_get_theirs():
    net = nets.build("resnet20", classes=4, input_shape=(3, 16, 16))
    twin = copy.deepcopy(net)
    for one in (net, twin):
        for p in [*one.conv1.parameters(), *one.layer1.parameters(), one.layer2[0].bn1.bias]:
            p.requires_grad_(False)
    program = TrainingProgram(net)
    for wanted in (False, True):
        x = torch.randn(2, 3, 16, 16).to(memory_format=LAST).requires_grad_(wanted)
        x_there = x.detach().clone().requires_grad_(wanted)
        net.zero_grad(), twin.zero_grad()
        program(x).sum().backward()
        assert program.reason is None
        twin(x_there).sum().backward()
        assert_close([p.grad for p in net.parameters()], [p.grad for p in twin.parameters()], 1e-4)
        assert_close([x.grad], [x_there.grad], 1e-4)


def test_several_steps_at_once_keep_apart():
    net = nets.build("resnet20", classes=4, input_shape=(3, 16, 16))
    program = TrainingProgram(net)
    images = [torch.randn(2, 3, 16, 16).to(memory_format=LAST) for _ in range(3)]
    alone = []
    for x in images:
        net.zero_grad()
        program(x).sum().backward()
        alone.append([p.grad.clone() for p in net.parameters()])
    results = [program(x) for x in images]
    for y, wanted in reversed(list(zip(results, alone, strict=True))):
        net.zero_grad()
        y.sum().backward(retain_graph=True)
        y.sum().backward()
        assert all(torch.equal(p.grad, 2 * g) for p, g in zip(net.parameters(), wanted, strict=True))
        with pytest.raises(RuntimeError, match="second time"):
            y.sum().backward()

    def step(x):
        y = program(x)
        return torch.autograd.grad(y.sum(), list(net.parameters()))

    with ThreadPoolExecutor(3) as pool:
        for got, wanted in zip(pool.map(step, images * 4), alone * 4, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_gradients_of_gradients_are_those_of_the_layers():
    net = nn.Sequential(
        ours.Conv2d(2, 4, 3, padding=1, bias=False),
        ours.BatchNorm2d(4, activation="relu"),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(4 * 36, 3),
    )
    program = TrainingProgram(net)

    def penalty(call):
        x = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(7)).requires_grad_()
        net.zero_grad()
        torch.manual_seed(8)
        (g,) = torch.autograd.grad(call(x).square().sum(), x, create_graph=True)
        before = net[1].running_mean.clone()
        g.square().sum().backward()
        assert torch.equal(net[1].running_mean, before)
        return [p.grad for p in net.parameters()]

    got = penalty(program)
    assert program.reason is None
    assert_close(got, penalty(net), 1e-4)


def tiny():
    return nn.Sequential(ours.Conv2d(1, 3, 3), ours.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 36, 2))


class Branching(nn.Module):
    """Does something else in training."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        y = self.conv(x)
        return (F.dropout(y, 0.5), y) if self.training else y


def twice(layer):
    return nn.Sequential(layer, nn.ReLU(), layer)


def conv(*more, **settings):
    return nn.Sequential(nn.Conv2d(1, 2, 3, **settings), *more)


OTHERS = {
    "sigmoid has no way back": lambda: conv(nn.Sigmoid()),
    "padding other than by zeros": lambda: conv(padding=1, padding_mode="reflect"),
    "dropout other than": lambda: conv(nn.Dropout2d()),
    "of everything": lambda: conv(nn.Dropout(1.0)),
    "without momentum": lambda: conv(nn.BatchNorm2d(2, momentum=None)),
    "without weight or bias": lambda: conv(nn.BatchNorm2d(2, affine=False)),
    "not in training": lambda: conv(nn.BatchNorm2d(2).eval()),
    "windows of different sizes": lambda: conv(nn.AdaptiveAvgPool2d(4)),
    "several layers share": lambda: twice(nn.Conv2d(1, 1, 3)),
    "the call of dropout": Branching,
    "computes nothing": nn.Identity,
    "so many weights": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 70_000)),
}


@pytest.mark.parametrize("reason", OTHERS)
def test_what_cannot_be_one_call_goes_layer_by_layer(reason):
    net, x = OTHERS[reason](), torch.randn(2, 1, 8, 8)
    program = TrainingProgram(net)
    for _ in range(2):
        torch.manual_seed(1)
        got = program(x)
        torch.manual_seed(1)
        wanted = copy.deepcopy(net)(x)
        assert all(torch.equal(a, b) for a, b in zip([*got], [*wanted], strict=True))
        assert reason in program.reason


class Doubled(nn.Sequential):
    """What is dropped in place is read again under its name from before."""

    def forward(self, x):
        y = self[0](x)
        return self[1](y) + y


def test_what_is_dropped_in_place_is_dropped_for_all_who_read_it():
    net = Doubled(nn.Conv2d(1, 1, 1), nn.Dropout(0.5, inplace=True))
    for p in net.parameters():
        nn.init.ones_(p)
    program = TrainingProgram(net)
    assert set(program(torch.ones(1, 1, 8, 8)).unique().tolist()) == {0.0, 8.0}  # (1 + 1) twice, for half of them
    assert program.reason is None


def test_one_tensor_under_two_names():
    net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3))
    net[1].weight = net[0].weight
    program = TrainingProgram(net)
    program(torch.randn(2, 1, 8, 8))
    assert "one tensor under two names" in program.reason


def test_other_calls_go_layer_by_layer():
    net, x = tiny(), torch.randn(2, 1, 8, 8)
    program = TrainingProgram(net)
    program(x)
    assert program.reason is None
    with torch.no_grad():
        program(x)
        assert "no gradients" in program.reason
    with torch.autocast("cpu", torch.bfloat16):
        program(x)
        assert "autocast" in program.reason
    handle = net[2].register_forward_hook(lambda *_: None)
    program(x)
    assert "hooks" in program.reason
    handle.remove()
    torch.testing.assert_close(program(x), net(x))
    assert program.reason is None
    net.eval()
    assert torch.equal(program(x), net(x))
    assert "not in training" in program.reason
    net.train().double()
    assert program(x.double()).dtype == torch.float64
    assert "float32" in program.reason
    net.float()
    program(x)
    assert program.reason is None


def test_a_net_that_changes_is_seen():
    net, x = tiny(), torch.randn(2, 1, 8, 8)
    program = TrainingProgram(net)

    def check():
        twin = copy.deepcopy(net)
        got, wanted = program(x), twin(x)
        assert program.reason is None
        torch.testing.assert_close(got, wanted)
        assert_close(list(net.buffers()), list(twin.buffers()))

    check()
    net[4] = nn.Linear(3 * 36, 5)
    check()
    net[4].weight = nn.Parameter(torch.randn(5, 3 * 36))
    check()
    net[4].weight.data = torch.randn(3 * 36, 5).t()
    program(x)
    assert "no dense float32" in program.reason
    net[4].weight.data = torch.randn(5, 3 * 36)
    check()
    net[1].momentum = 0.5
    check()
    net[2] = nn.Identity()
    check()
    net.load_state_dict({name: torch.randn(t.shape).abs().to(t.dtype) for name, t in net.state_dict().items()})
    check()


def test_the_report_counts_its_kernels():
    program = TrainingProgram(tiny())
    program(torch.randn(2, 1, 8, 8)).sum().backward()
    report = ours.report()
    assert {op for op, _ in report.engine} == {"conv", "batch_norm", "batch_norm_grad", "grad_w", "grad_x", "grad_b"}
    assert not report.pytorch


def test_measuring_leaves_the_net_as_it_is():
    net, x = tiny(), torch.randn(4, 1, 8, 8)
    program = TrainingProgram(net)
    before = copy.deepcopy(net.state_dict())
    times = program.measure(x)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
    assert all(p.grad is None for p in net.parameters())
    assert [(one.node, one.problem.op) for one in times[:2]] == [("0", "conv"), ("1", "batch_norm")]
    assert all(0 <= one.seconds < 1 for one in times)
    with pytest.raises(InputError, match="not in training"):
        TrainingProgram(net.eval()).measure(x)


def gone(program, *shape, seed=1):
    """(result, gradients, buffers) of a step forth and back, as `seeded` has it of one by autograd."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(memory_format=LAST)
    torch.manual_seed(2)
    y, back = program.forth(x)
    back(torch.randn(y.shape, generator=torch.Generator().manual_seed(3)))
    net = program.net
    return y, [p.grad for p in net.parameters()], [b.clone() for b in net.buffers()]


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "mixed"])
def test_forth_and_back_are_autograd_s_bits_in_the_same_memory_each_time(name):
    size = (3, 11, 11) if name == "mixed" else SIZES[name]
    net = Mixed() if name == "mixed" else nets.build(name, classes=7, input_shape=size)
    twin = copy.deepcopy(net)
    program, there = TrainingProgram(net), TrainingProgram(twin)
    places = []
    for _ in range(2):
        y, gradients, buffers = gone(program, 3, *size)
        assert program.reason is None
        assert not y.requires_grad
        twin.zero_grad()
        y_there, gradients_there, buffers_there = seeded(there, 3, *size)
        assert torch.equal(y, y_there)
        assert all(map(torch.equal, gradients, gradients_there))
        assert all(map(torch.equal, buffers, buffers_there))
        places.append([g.data_ptr() for g in gradients])
    assert places[0] == places[1]


def test_batches_of_several_sizes_share_an_arena_and_gradients_do_not_add_up():
    net = Mixed().requires_grad_()
    net.conv2.weight.requires_grad_(False)
    program, twin = TrainingProgram(net), copy.deepcopy(net)
    for images in (4, 2, 6, 4):
        y, gradients, _ = gone(program, images, 3, 11, 11)
        assert program.reason is None
        twin.zero_grad()
        y_there, gradients_there, _ = seeded(TrainingProgram(twin), images, 3, 11, 11)
        assert torch.equal(y, y_there)
        assert all(a is b is None or torch.equal(a, b) for a, b in zip(gradients, gradients_there, strict=True))
    assert net.conv2.weight.grad is None


def test_a_way_back_is_gone_once_and_several_may_be_open():
    program = TrainingProgram(tiny())
    x = torch.randn(2, 1, 8, 8)
    y, back = program.forth(x)
    _, other = program.forth(2 * x)
    back(torch.ones_like(y))
    first = [p.grad.clone() for p in program.net.parameters()]
    with pytest.raises(RuntimeError, match="has been gone"):
        back(torch.ones_like(y))
    other(torch.ones_like(y))
    program.forth(x)[1](torch.ones_like(y))
    for p, wanted in zip(program.net.parameters(), first, strict=True):
        assert torch.equal(p.grad, wanted)


def test_where_a_gradient_s_hook_waits_it_is_heard():
    net = tiny()
    program, heard = TrainingProgram(net), []
    first = next(net.parameters())
    for register in (first.register_hook, first.register_post_accumulate_grad_hook):
        handle = register(lambda *_: heard.append(1))
        y, back = program.forth(torch.randn(2, 1, 8, 8))
        back(torch.ones_like(y))
        handle.remove()
    assert heard == [1, 1]


def test_forth_and_back_of_a_net_that_goes_layer_by_layer():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(48, 2))
    program = TrainingProgram(net)
    x = torch.randn(2, 2, 6, 6)
    for _ in range(2):
        y, back = program.forth(x)
        back(torch.ones_like(y))
    assert program.reason is not None
    wanted = torch.autograd.grad(net(x).sum(), list(net.parameters()))
    assert_close([p.grad for p in net.parameters()], wanted)
