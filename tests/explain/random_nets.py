"""Nets by chance, with everything that makes receptive fields hard: strides, dilation, padding, pools and skips."""

import torch
from torch import nn
from torch.nn import functional as F


class Branch(nn.Module):
    """Two paths from one input to one result: added, or side by side."""

    def __init__(self, left, right, join):
        super().__init__()
        self.left, self.right, self.join = left, right, join

    def forward(self, x):
        a, b = self.left(x), self.right(x)
        return torch.cat([a, b], 1) if self.join == "concat" else a + b


def convolution(random, ic, oc, stride=1, same=False):
    kernel, dilation = random.choice([1, 2, 3, 5]), random.choice([1, 1, 2, 3])
    if same:
        kernel = random.choice([1, 3])
    padding = (kernel - 1) * dilation // 2 if same else random.randint(0, 2)
    groups = random.choice([1, 1, 2]) if ic % 2 == oc % 2 == 0 else 1
    return nn.Conv2d(ic, oc, kernel, stride, padding, dilation, groups, bias=False)


def block(random, ic):
    """A module and its number of output channels."""
    kind = random.choice(["conv", "conv", "pool", "residual", "dense", "fork"])
    oc = random.choice([2, 4])
    if kind == "conv":
        return convolution(random, ic, oc, random.choice([1, 2, 3])), oc
    if kind == "pool":
        kernel = random.choice([2, 3])
        return nn.AvgPool2d(kernel, random.choice([1, 2]), random.randint(0, kernel // 2)), ic
    body = nn.Sequential(convolution(random, ic, ic, same=True), convolution(random, ic, ic, same=True))
    if kind == "residual":
        return Branch(nn.Identity(), body, "add"), ic
    if kind == "dense":
        return Branch(nn.Identity(), body, "concat"), 2 * ic
    stride = random.choice([2, 3])
    left, right = nn.Conv2d(ic, oc, 3, stride, 1, bias=False), nn.Conv2d(ic, oc, 1, stride, bias=False)
    return Branch(left, right, "add"), oc


def random_net(random, size):
    """A net of one to five blocks whose weights are positive, so that no two paths cancel."""
    channels, blocks = random.choice([1, 2]), []
    ic, x = channels, torch.zeros(1, channels, size, size)
    for _ in range(random.randint(1, 5)):
        made, oc = block(random, ic)
        try:
            y = made(x)
        except RuntimeError:  # the map has become too small for it
            continue
        blocks.append(made)
        ic, x = oc, y
    net = nn.Sequential(*blocks)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.uniform_(0.5, 1)
    return net, channels


def brute_force(net, image, module, unit):
    """The pixels that get a gradient that is not zero, from PyTorch's own layers."""
    kept = {}
    handle = module.register_forward_hook(lambda _m, _x, y: kept.update(y=y))
    x = image.clone().requires_grad_()
    with torch.enable_grad():
        F.relu(net(x))
        (gradient,) = torch.autograd.grad(kept["y"][(0, *unit)], x)
    handle.remove()
    return (gradient[0] != 0).any(0).numpy()
