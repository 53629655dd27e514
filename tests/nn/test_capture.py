"""A module captured as a graph computes the same; what a graph has no word for is named."""

import operator

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import hapgop.nn as ours
from hapgop.errors import InputError
from hapgop.nn import capture, nets
from hapgop.program import fold, layers, run

pytestmark = pytest.mark.filterwarnings("ignore::hapgop.shape.UnreadInputWarning")


class Branches(nn.Module):
    """Ours and PyTorch's layers, functions, methods, a skip, a concatenation, a layer used twice."""

    def __init__(self):
        super().__init__()
        self.first = ours.Conv2d(3, 8, 3, 2, "same", activation="relu")
        self.twice = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.5)
        self.last = ours.Linear(16, 5)

    def forward(self, x):
        x = self.first(x)
        y = F.relu(self.norm(self.twice(x)), inplace=True)
        y = self.twice(y) + x
        y = torch.cat([y, F.max_pool2d(y, 3, 1, 1).sigmoid()], dim=1)
        y = ours.functional.avg_pool2d(y, 2)
        y = self.dropout(y).mean((2, 3))
        return self.last(y.view(y.size(0), -1))


def _alike(module, shape):
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    module.eval()
    graph = capture(module, shape)
    x = torch.randn(2, *shape)
    tensors = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    with torch.no_grad():
        wanted = module(x).numpy()
    np.testing.assert_allclose(run(graph, tensors, x.numpy()), wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    return graph


class Numbers(nn.Module):
    """Sums and products with a number on either side, as functions, methods and in place."""

    def forward(self, x):
        y = 1 + 2 * x
        y += 3
        y = torch.mul(y.add(0.5), -0.25)
        y *= 2
        return y.mul(0.5) + x


def test_numbers():
    graph = _alike(Numbers(), (3, 4, 5))
    assert [node.op for node in graph.nodes] == ["number"] * 7 + ["add"]


def test_a_net_of_everything():
    graph = _alike(Branches(), (3, 9, 12))
    assert [node.op for node in graph.nodes] == [
        "conv2d", "conv2d", "batch_norm2d", "relu", "conv2d", "add", "max_pool2d", "sigmoid", "concat", "avg_pool2d",
        "dropout", "mean", "flatten", "linear",
    ]  # fmt: skip
    first, twice = graph.nodes[:2]
    assert (first.name, first.attrs["activation"], first.attrs["padding"]) == ("first", "relu", "same")
    assert graph.nodes[4].params == twice.params == {"weight": "twice.weight", "bias": "twice.bias"}
    assert graph.nodes[4].name != "twice"


@pytest.mark.parametrize("name", ["digits", "lenet5", "tinyvgg", "cifar", "resnet20"])
def test_the_nets_by_name(name):
    shape = (3, 16, 16)
    graph = _alike(nets.build(name, classes=4, input_shape=shape), shape)
    assert layers(graph)[-1].output_shape == (4,)


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, x: x.view(x.size(0), -1),
        lambda net, x: x.reshape(x.shape[0], -1),
        lambda net, x: x.view(x.size()[0], -1),
        lambda net, x: x.view(-1, 12),
        lambda net, x: torch.flatten(x, start_dim=1),
        lambda net, x: F.dropout(x, 0.5, net.training).flatten(1),
    ],
)
def test_ways_to_flatten(forward):
    assert _alike(Forward(forward), (3, 2, 2)).nodes[-1].op == "flatten"


def test_capturing_leaves_the_module_as_it_was():
    module = nn.Sequential(ours.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout())
    module[1].eval()
    modes = [part.training for part in module.modules()]
    capture(module, (1, 5, 5))
    assert [part.training for part in module.modules()] == modes
    assert type(module[0]) is ours.Conv2d


class Forward(nn.Module):
    def __init__(self, forward, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


class ChannelsAtTheEnd(nn.Module):
    """The block of ConvNeXt as torchvision writes it: layers between two permutations, and a drop path."""

    def __init__(self):
        super().__init__()
        self.norm, self.up, self.act, self.down = nn.LayerNorm(3), nn.Linear(3, 5), nn.GELU("tanh"), nn.Linear(5, 3)
        self.gamma = nn.Parameter(torch.randn(3))
        self.drop = DropPath()

    def forward(self, x):
        y = self.down(self.act(self.up(self.norm(x.permute(0, 2, 3, 1))))) * self.gamma
        return F.adaptive_max_pool2d(x + self.drop(torch.permute(y, (0, 3, 1, 2))), (2, 3))


class DropPath(nn.Module):
    def forward(self, x):
        return x * torch.empty(len(x), 1, 1, 1).bernoulli_(0.5) if self.training else x


class Functions(nn.Module):
    """Parameters handed to functions."""

    def __init__(self):
        super().__init__()
        self.filters = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.register_buffer("mean", torch.randn(4))
        self.register_buffer("var", torch.rand(4) + 0.5)
        self.end = nn.Parameter(torch.randn(5, 4))

    def forward(self, x):
        x = F.conv2d(x, self.filters, None, 2, padding=1)
        x = F.leaky_relu(F.batch_norm(x, self.mean, self.var), 0.2)
        x = F.elu(x)
        return F.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), self.end)


def test_channels_at_the_end():
    graph = _alike(ChannelsAtTheEnd(), (3, 7, 8))
    assert [node.op for node in graph.nodes] == [
        "layer_norm", "pointwise", "gelu", "pointwise", "scale", "add", "adaptive_max_pool2d",
    ]  # fmt: skip
    tensors = {key: np.ones(tensor.shape, np.float32) for key, tensor in ChannelsAtTheEnd().state_dict().items()}
    assert "scale" not in [node.op for node in fold(graph, tensors)[0].nodes]


def test_functions_of_parameters():
    graph = _alike(Functions(), (3, 7, 8))
    assert graph.tensor_names() == ("filters", "mean", "var", "end")
    assert graph.nodes[0].attrs["kernel_size"] == (3, 3)


def test_a_layer_that_computes_otherwise_is_looked_into():
    class Doubled(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) + super().forward(x)

    assert [node.op for node in _alike(nn.Sequential(Doubled(3, 2, 3)), (3, 5, 5)).nodes] == ["conv2d", "conv2d", "add"]


class InPlace(nn.Module):
    """A result that is overwritten, and read again."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.conv(x)
        z = self.relu(y)
        y += x
        F.relu6(y, inplace=True)
        return y + z


def test_what_is_overwritten_is_read_as_it_is_then():
    assert [node.op for node in _alike(InPlace(), (3, 6, 6)).nodes] == ["conv2d", "relu", "add", "relu6", "add"]


class ScaledInPlace(nn.Module):
    """Channels at the end, multiplied in place by a tensor of the net's own, and read under both names."""

    def __init__(self, how):
        super().__init__()
        self.conv, self.gamma, self.how = nn.Conv2d(3, 3, 1), nn.Parameter(torch.randn(3)), how

    def forward(self, x):
        y = self.conv(x)
        z = self.how(y.permute(0, 2, 3, 1), self.gamma)
        return y + z.permute(0, 3, 1, 2)


@pytest.mark.parametrize("how", [operator.imul, lambda y, gamma: y.mul_(gamma)])
def test_products_in_place(how):
    assert [node.op for node in _alike(ScaledInPlace(how), (3, 4, 5)).nodes] == ["conv2d", "scale", "add"]


class Standardised(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight.tanh(), self.bias)


class KeptByIdentity(nn.Module):
    def __init__(self):
        super().__init__()
        self.kept, self.relu = nn.Identity(), nn.ReLU(inplace=True)

    def forward(self, x):
        kept = self.kept(x)
        return self.relu(x) + kept


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return x + y


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Sequential(nn.Flatten(2), ours.Conv1d(3, 4, 3)), "'1' is a Conv1d"),
        (nn.Sequential(nn.Flatten(2), ours.ConvTranspose1d(3, 4, 3)), "'1' is a ConvTranspose1d"),
        (nn.Sequential(nn.GroupNorm(1, 3)), "'0' is a GroupNorm"),
        (nn.Sequential(Standardised(3, 4, 3)), "own tensor '0.weight' outside a layer"),
        (Forward(lambda net, x: (lambda y: (y.relu_(), y + x)[1])(F.dropout(x, 0.5, False))), "overwrites memory"),
        (KeptByIdentity(), "memory that others read under another name, 'kept'"),
        (nn.Sequential(nn.LayerNorm(8, elementwise_affine=False)), "'0' norms over columns"),
        (nn.Sequential(nn.LayerNorm((8, 8))), "'0' norms over more than the channels"),
        (Forward(lambda net, x: x.permute(0, 1, 3, 2)), "'permute' permutes"),
        (Forward(lambda net, x: x.permute(0, 2, 3, 1)), "a graph returns one tensor"),
        (Forward(lambda net, x: F.max_pool2d(x.permute(0, 2, 3, 1), 2)), "reads channels at the end"),
        (nn.Sequential(ours.MaxPool2d(2, return_indices=True)), "'0' returns indices"),
        (nn.Sequential(ours.AvgPool2d(2, divisor_override=3)), "'0' has a divisor_override"),
        (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), "'0' keeps no running statistics"),
        (Forward(lambda net, x: torch.fft.fft(x)), "fft_fft"),
        (Forward(lambda net, x: x.cumsum(1)), "cumsum"),
        (Forward(lambda net, x: x * net.scale, scale=nn.Parameter(torch.ones(1))), "'scale'"),
        (
            Forward(lambda net, x: net.scale.mul_(x), scale=nn.Parameter(torch.ones(1))),
            "its own tensor 'scale'; .* not in place",
        ),
        (Forward(lambda net, x: x if x.sum() > 0 else -x), "Forward cannot be captured"),
        (Forward(lambda net, x: (x, x)), "a graph returns one tensor"),
        (TwoInputs(), "TwoInputs takes more than one input"),
        (nn.Sequential(ours.Conv2d(4, 4, 3)), "conv2d '0'.*is 4×4×3×3, but 4×3×3×3 is wanted"),
        (nn.Sequential(nn.Flatten(), ours.Linear(10, 2)), "linear '1'.*is 2×10, but 2×192 is wanted"),
        (Forward(lambda net, x: x.view(x.size(1), -1)), r"call of view \(view\)"),
        (Forward(lambda net, x: x.view(-1, 64)), "'view' makes rows of 64 numbers, but one image has 192"),
        (Forward(lambda net, x: F.dropout(x)), "drops in eval mode too"),
        (Forward(lambda net, x: F.max_pool2d(x, 2, return_indices=True)[0]), "max_pool2d_with_indices"),
        (Forward(lambda net, x: x + True), "reads True, which is no result"),
        (Forward(lambda net, x: x + float("inf")), "finite number"),
        (Forward(lambda net, x: x * x.size(0)), "which is no result"),
    ],
)
def test_what_a_graph_has_no_word_for(module, words):
    with pytest.raises(InputError, match=words):
        capture(module, (3, 8, 8))
