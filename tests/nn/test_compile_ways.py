"""torch.compile(model, backend="hapgop") gives PyTorch's very numbers, as a program or where none can be."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import hapgop.nn
from hapgop.nn.compiling import backend

pytestmark = pytest.mark.usefixtures("plain_sums", "always_ours")


class Net(nn.Module):
    """A convolution and what is done with it, in whole numbers: small enough to be exact in bfloat16 too."""

    def __init__(self, then):
        super().__init__()
        self.conv, self.square = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.scale = nn.Parameter(torch.empty(1, 8, 1, 1))
        self.long = nn.Parameter(torch.empty(8, 1, 1, dtype=torch.float64))
        self._then = then
        for parameter in self.parameters():
            parameter.data.random_(-1, 2)

    def forward(self, x):
        return self._then(self, x, self.conv(x))


def _images():
    return torch.randint(-1, 2, (2, 3, 6, 6)).float()


def _ways():
    """How many programs there were, and why not more."""
    report = hapgop.nn.report()
    return report.engine.get(("program", "program"), 0), [reason for op, reason in report.pytorch if op == "program"]


def cleared(net, x, y):
    y[:, :, 0] = 0
    return y


def half_precise(net, x, y):
    with torch.autocast("cpu", torch.bfloat16):
        return net.square(y)


def learning(net, x, y):
    with torch.enable_grad():
        return net.square(y)


def in_other_modes(net, x, y):
    with torch.inference_mode():
        y = net.square(y)
    with torch.enable_grad():
        return y + 1


def multiplied(net, x, y):
    y.mul_(net.scale)
    return y


def multiplied_under_two_names(net, x, y):
    before = y
    y *= net.scale
    return before + y


def kept_dropped(net, x, y):
    kept = F.dropout(y, 0.5, net.training)
    return F.relu(y, inplace=True) + kept


def kept_flat(net, x, y):
    kept = F.dropout(y, 0.5, net.training).flatten(1)
    return F.relu(y, inplace=True).flatten(1) + kept


def written_through_views(net, x, y):
    F.relu(F.dropout(F.dropout(y, 0.5, net.training), 0.5, net.training), inplace=True)
    return y + 1


def read_before(net, x, y):
    more = F.dropout(y, 0.5, net.training) + 1
    return F.relu(y, inplace=True) + more


def image_dropped(net, x, y):
    return y + net.conv(F.relu(F.dropout(x, 0.5, net.training), inplace=True))


def image_turned(net, x, y):
    return y + net.conv(F.relu(x.permute(0, 2, 3, 1), inplace=True).permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        (multiplied, None),
        (multiplied_under_two_names, None),
        (read_before, None),
        (in_other_modes, None),
        (cleared, "the call of setitem"),
        (half_precise, "the call of _enter_autocast"),
        (lambda net, x, y: y * net.long, "makes torch.float64"),
        (learning, "the result wants a gradient"),
        (kept_dropped, "overwrites memory that others read under another name, 'kept'"),
        (kept_flat, "overwrites memory that others read under another name"),
        (written_through_views, "overwrites memory that others read under another name"),
        (image_dropped, "the image is overwritten"),
        (image_turned, "the image is overwritten"),
    ],
)
def test_the_same_numbers_as_a_program_or_not(then, reason):
    net, x = Net(then).eval(), _images()
    compiled, twin = torch.compile(net, backend=backend), x.clone()
    with torch.no_grad():
        found, wanted = compiled(x), net(twin)
    assert torch.equal(found, wanted)
    assert (found.dtype, found.requires_grad) == (wanted.dtype, wanted.requires_grad)
    assert torch.equal(x, twin)
    programs, reasons = _ways()
    assert programs == (reason is None)
    assert len(reasons) == (reason is not None)
    assert all(reason in words for words in reasons)


def test_autocast_around_the_call_is_heeded():
    net, x = Net(lambda net, x, y: y).eval(), _images()
    compiled = torch.compile(net, backend=backend)
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            found, wanted = compiled(x), net(x)
        assert found.dtype == wanted.dtype == torch.bfloat16
        assert torch.equal(found, wanted)
        assert torch.equal(compiled(x), net(x))
    programs, (reason,) = _ways()
    assert programs == 1
    assert "makes torch.bfloat16; a program computes in torch.float32" in reason
