"""What tracing cannot tell, or tells wrongly, is refused in words and leaves the module as it was."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hapgop.errors import InputError
from hapgop.nn import capture


class Written(nn.Module):
    """A net whose forward is a function of (self, x)."""

    def __init__(self, forward):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


def _rows(self, x):
    return self.head(self.conv(x).mean((2, 3)))


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: _rows(self, x)[0],
        lambda self, x: (y := _rows(self, x)) + y[0],
        lambda self, x: _rows(self, x)[:, 0],
    ],
)
def test_a_part_of_a_batch_is_no_image(forward):
    with pytest.raises(InputError, match="parts of a batch"):
        capture(Written(forward), (3, 8, 8))


def test_hooks_of_a_layer_are_named():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    net[1].register_forward_hook(lambda module, given, result: 2 * result)
    with pytest.raises(InputError, match="layer '1' has hooks"):
        capture(net, (3, 8, 8))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda net: setattr(net, "forward", lambda x, plain=net.forward: 2 * plain(x)), "forward of this Sequential"),
        (lambda net: net.register_forward_hook(lambda module, given, result: 2 * result), "this Sequential has hooks"),
        (lambda net: net.register_forward_pre_hook(lambda module, given: 2 * given[0]), "this Sequential has hooks"),
    ],
)
def test_what_was_done_to_the_net_itself_is_refused_and_seen_inside_of_another(change, words):
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    change(net)
    with pytest.raises(InputError, match=rf"{words}.*nn\.Sequential\(net\)"):
        capture(net, (3, 8, 8))
    assert sorted(node.op for node in capture(nn.Sequential(net), (3, 8, 8)).nodes) == ["conv2d", "number"]


def test_a_tensor_without_a_size_is_named():
    with pytest.raises(InputError, match=r"'0\.weight' has no size yet"):
        capture(nn.Sequential(nn.LazyConv2d(4, 3)), (3, 8, 8))


def test_a_forward_that_draws_is_refused():
    def forward(self, x):
        return _rows(self, x if torch.rand(1).item() < 0.5 else x + 1)

    with pytest.raises(InputError, match="draws random numbers"):
        capture(Written(forward), (3, 8, 8))


def test_attributes_are_as_they_were():
    def forward(self, x):
        self.last = _rows(self, x)
        self.calls = getattr(self, "calls", 0) + 1
        return self.last

    net = Written(forward)
    before = dict(vars(net))
    assert capture(net, (3, 8, 8)).output == "head"
    assert vars(net) == before
    with pytest.raises(InputError, match="sets 'calls'"):
        capture(net, (3, 8, 8), training=True)
    assert vars(net) == before


def _in_place(self, x):
    self.steps += 1
    return _rows(self, x)


def _anew(self, x):
    self.steps = self._buffers["steps"] + 1
    return _rows(self, x)


def _aside(self, x):
    self._buffers["steps"].add_(1)
    return _rows(self, x)


@pytest.mark.parametrize("forward", [_in_place, _anew, _aside])
def test_buffers_are_as_they_were(forward):
    net = Written(forward)
    net.register_buffer("steps", torch.tensor(3))
    before = net.steps
    assert capture(net, (3, 8, 8)).output == "head"
    assert net.steps is before
    with pytest.raises(InputError, match="'steps'"):
        capture(net, (3, 8, 8), training=True)
    assert net.steps is before
    assert before == 3


def test_a_forward_of_its_own_is_looked_into():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    net[1].forward = lambda x: F.relu(x) * 2
    assert [node.op for node in capture(net, (3, 8, 8)).nodes] == ["conv2d", "relu", "number"]


def test_relu6_has_two_names():
    graph = capture(Written(lambda self, x: F.hardtanh(self.conv(x), 0.0, 6.0)), (3, 8, 8))
    assert [node.op for node in graph.nodes] == ["conv2d", "relu6"]
    with pytest.raises(InputError, match="0 to 6"):
        capture(Written(lambda self, x: F.hardtanh(self.conv(x))), (3, 8, 8))


def test_several_threads_capture_at_once():
    nets = [Written(_rows) for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        graphs = list(pool.map(lambda net: capture(net, (3, 8, 8)), nets))
    assert all(graph == graphs[0] for graph in graphs)
