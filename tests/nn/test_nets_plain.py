"""Each net against a second writing of it in plain PyTorch: the same keys in the same order, the same numbers."""

import plain_nets
import pytest
import torch

from hapgop.nn import capture, nets
from hapgop.nn.nets.vgg import VGG
from hapgop.program import fold, run


def _lived_in(net):
    """Statistics and scales as after some training, so that each of them matters and none explodes."""
    for part in net.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.uniform_(-0.2, 0.2)
            part.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(part.weight, 0.5, 1)
            torch.nn.init.uniform_(part.bias, -0.2, 0.2)
        elif (gamma := getattr(part, "gamma", None)) is not None:
            torch.nn.init.uniform_(gamma, 0.5, 1)
    return net.eval()


def _errors(result, own, exact):
    scale = exact.abs().max()
    return (result - exact).abs().max() / scale, (own - exact).abs().max() / scale


@pytest.mark.parametrize("name", plain_nets.NETS)
def test_as_written_in_plain_pytorch(name, monkeypatch):
    # What is wide in VGG is only wide; a hundred million weights would only take time.
    monkeypatch.setattr(VGG, "hidden", 32)
    shape, plain = plain_nets.NETS[name]
    net = _lived_in(nets.build(name, classes=7, input_shape=shape))
    state = net.state_dict()
    x = torch.randn(2, *shape)
    reader = plain_nets.Reader(state, torch.float64)
    with torch.no_grad():
        exact = plain(reader, x.double())
        own = plain(plain_nets.Reader(state, torch.float32), x)
        ours = net(x)
    assert reader.read == list(state)
    tensors = {key: tensor.numpy() for key, tensor in state.items()}
    graph = capture(net, shape)
    in_program = torch.from_numpy(run(*fold(graph, tensors), x.numpy()))
    for result in (ours, in_program):
        error, of_pytorch = _errors(result, own, exact)
        # Sixteen units in the last place: PyTorch's own error is now and then nothing at all.
        assert error <= 4 * of_pytorch + 16 * 2**-24
