"""The other side of a comparison of trainings: the same net, with no operator of ours."""

import pytest
import torch

from hapgop import nn
from hapgop.bench import in_pytorch
from hapgop.errors import InputError

SHAPES = {"digits": (1, 8, 8), "lenet5": (1, 28, 28), "tinyvgg": (3, 32, 32), "cifar": (3, 16, 16),
          "airbench": (3, 16, 16), "resnet20": (3, 16, 16)}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_it_computes_the_same_and_nothing_of_ours(name: str) -> None:
    torch.manual_seed(0)
    net = nn.nets.build(name, classes=4, input_shape=SHAPES[name]).eval()
    theirs = in_pytorch(net)
    assert theirs.state_dict().keys() == net.state_dict().keys()
    x = torch.randn(2, *SHAPES[name])
    wanted = net(x)
    nn.reset_report()
    found = theirs(x)
    found.sum().backward()
    assert not nn.report().engine
    assert not nn.report().pytorch
    scale = float(wanted.detach().abs().max())
    assert torch.allclose(found, wanted, rtol=0, atol=1e-4 * max(scale, 1))


def test_padding_by_side_and_unknown_layers() -> None:
    layer = nn.Conv2d(2, 3, 3, padding=(0, 1, 2, 1), activation="relu", pool=2)
    x = torch.randn(1, 2, 9, 9)
    assert torch.allclose(in_pytorch(layer)(x), layer(x), rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="'0' is a Conv3d"):
        in_pytorch(torch.nn.Sequential(nn.Conv3d(1, 1, 3)))
