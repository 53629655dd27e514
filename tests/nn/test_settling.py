"""Large tensors on huge pages: the same numbers in other places, and nothing but those that are large."""

import copy

import torch
from torch import nn

from hapgop.nn import nets, settle
from hapgop.nn.optim import SGD
from hapgop.nn.outputs import lasting

HUGE = 2 << 20


def test_a_settled_net_is_the_same_net():
    net = nn.Sequential(nn.Conv2d(256, 256, 3), nn.Flatten(), nn.Linear(256, 2100), nn.Linear(2100, 3))
    twin, parameters = copy.deepcopy(net), list(net.parameters())
    assert settle(net) is net
    assert all(a is b for a, b in zip(parameters, net.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert [p.data_ptr() % HUGE == 0 for p in net.parameters() if p.numel() * 4 >= HUGE] == [True, True]
    x = torch.randn(2, 256, 3, 3)
    torch.testing.assert_close(net(x), twin(x))
    places = [p.data_ptr() for p in net.parameters()]
    assert [p.data_ptr() for p in settle(net).parameters()] == places


def test_what_cannot_or_need_not_move_stays():
    large = torch.randn(1 << 10, 1 << 10)
    for tensor in (large[:, ::2], torch.randn(5), large.to(torch.complex64), large.to_sparse(), large.to("meta")):
        assert lasting(tensor) is tensor
    moved = lasting(large)
    assert moved is not large
    assert torch.equal(moved, large)
    assert lasting(moved) is moved


def test_half_precision_and_shared_parameters_are_settled_too():
    net = nets.build("digits", classes=3, input_shape=(1, 8, 8)).to(torch.float16)
    settle(net)
    tied = nn.Sequential(nn.Linear(800, 800), nn.Linear(800, 800))
    tied[1].weight = tied[0].weight
    settle(tied)
    assert tied[1].weight is tied[0].weight


def test_momentum_moves_too_and_counts_as_before():
    sides = []
    for kind in (SGD, torch.optim.SGD):
        p = nn.Parameter(torch.randn(700, 900, generator=torch.Generator().manual_seed(1)))
        descent = kind([p], lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)
        for step in range(4):
            p.grad = torch.randn(700, 900, generator=torch.Generator().manual_seed(2 + step))
            if step == 3:
                # A state that was loaded is other memory again.
                descent.load_state_dict(copy.deepcopy(descent.state_dict()))
            descent.step()
        sides.append((p, descent.state[p]["momentum_buffer"]))
    (p, m), (p_there, m_there) = sides
    assert m.data_ptr() % HUGE == 0
    torch.testing.assert_close(p, p_there, rtol=2**-20, atol=2**-20)
    torch.testing.assert_close(m, m_there, rtol=2**-20, atol=2**-20)


def test_layers_of_three_dimensions_stay():
    net = nn.Sequential(nn.Conv3d(3, 8, 3), nn.Conv1d(3, 8, 3))
    assert settle(net)[0].weight.is_contiguous()
