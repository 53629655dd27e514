"""What the tests of accelerate and torch.compile share: models, results, and how far from exact they are."""

import torch
from hand_written import MODELS
from torch import nn


def lived_in(name):
    """The model of this name, with running statistics as after some training, and two images."""
    make, shape = MODELS[name]
    model = make()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.2, 0.2)
            part.running_var.uniform_(0.5, 1.5)
    return model, torch.randn(2, *shape)


def results(model, x, train, call=None):
    """The output, then the gradients of the input and of every parameter, then the buffers."""
    model.train(train)
    x = x.clone().requires_grad_()
    y = model(x) if call is None else call(x)
    model.zero_grad()
    y.square().sum().backward()
    gradients = [p.grad for p in model.parameters()]
    return [y.detach(), x.grad, *gradients, *(b.double() for b in model.buffers())]


def largest_error(found, exact):
    """Of each tensor against its own size; a gradient that is nothing but rounding counts as a thousandth of all."""
    least = 1e-3 * max(float(b.abs().max()) for b in exact)
    return max(float((a - b).abs().max()) / max(float(b.abs().max()), least) for a, b in zip(found, exact, strict=True))
