import operator

import pytest
import torch
from torch import fx, nn

from hapgop.program import Graph, Node

OPS = {
    nn.Conv2d: ("conv2d", "out_channels kernel_size stride padding dilation groups padding_mode"),
    nn.ConvTranspose2d: ("conv_transpose2d", "out_channels kernel_size stride padding output_padding dilation groups"),
    nn.Linear: ("linear", "out_features"),
    nn.MaxPool2d: ("max_pool2d", "kernel_size stride padding dilation ceil_mode"),
    nn.AvgPool2d: ("avg_pool2d", "kernel_size stride padding ceil_mode count_include_pad"),
    nn.AdaptiveAvgPool2d: ("adaptive_avg_pool2d", "output_size"),
    nn.BatchNorm2d: ("batch_norm2d", "eps"),
    nn.ReLU: ("relu", ""),
    nn.ReLU6: ("relu6", ""),
    nn.LeakyReLU: ("leaky_relu", "negative_slope"),
    nn.ELU: ("elu", "alpha"),
    nn.SiLU: ("silu", ""),
    nn.Hardswish: ("hardswish", ""),
    nn.Hardsigmoid: ("hardsigmoid", ""),
    nn.Sigmoid: ("sigmoid", ""),
    nn.Tanh: ("tanh", ""),
    nn.Softmax: ("softmax", "dim"),
    nn.LogSoftmax: ("log_softmax", "dim"),
    nn.Flatten: ("flatten", "start_dim end_dim"),
    nn.Dropout: ("dropout", "p"),
    nn.Identity: ("identity", ""),
}
FUNCTIONS = {operator.add: "add", operator.mul: "mul", torch.cat: "concat"}
ROLES = ("weight", "bias", "running_mean", "running_var")


def _node(module, item):
    if item.op == "call_function":
        inputs = item.args[0] if item.target is torch.cat else item.args
        attrs = {"dim": item.args[1]} if item.target is torch.cat else {}
        return Node(item.name, FUNCTIONS[item.target], tuple(map(str, inputs)), attrs)
    if item.op == "call_method":
        assert item.target == "mean"
        return Node(item.name, "mean", (str(item.args[0]),), {"dim": item.args[1], **item.kwargs})
    part = module.get_submodule(item.target)
    op, names = OPS[type(part)]
    attrs = {name: getattr(part, name) for name in names.split()}
    state = part.state_dict()
    params = {role: f"{item.target}.{role}" for role in ROLES if role in state}
    return Node(item.name, op, tuple(map(str, item.args)), attrs, params)


@pytest.fixture
def traced():
    """A function from a module and its input shape to its graph and tensors, through torch.fx alone."""

    def trace(module, shape):
        items = list(fx.symbolic_trace(module).graph.nodes)
        nodes = tuple(_node(module, item) for item in items if item.op not in ("placeholder", "output"))
        output = str(items[-1].args[0])
        tensors = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
        return Graph(shape, nodes, output, items[0].name), tensors

    return trace


class Squeeze(nn.Module):
    """Squeeze-and-excitation: a gate from the whole image on every channel."""

    def __init__(self, c):
        super().__init__()
        self.pool, self.down, self.up = nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, 2, 1), nn.Conv2d(2, c, 1)
        self.silu, self.gate = nn.SiLU(), nn.Hardsigmoid()

    def forward(self, x):
        return x * self.gate(self.up(self.silu(self.down(self.pool(x)))))


class Residual(nn.Module):
    """Two paths with a stride, then one with a skip, then a concatenation: all the ways to meet."""

    def __init__(self):
        super().__init__()
        self.a, self.norm_a = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.b, self.norm_b = nn.Conv2d(8, 8, 3, padding=2, dilation=2), nn.BatchNorm2d(8)
        self.short = nn.Conv2d(3, 8, 1, 2)
        self.relu, self.squeeze = nn.ReLU(), Squeeze(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.drop, self.head = nn.Dropout(), nn.Linear(16, 5)

    def forward(self, x):
        y = self.norm_b(self.b(self.relu(self.norm_a(self.a(x)))))
        y = self.squeeze(self.relu(y + self.short(x)))
        y = torch.cat((y, self.depthwise(y)), 1)
        return self.head(self.drop(y.mean((2, 3))))


def _lenet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 10), nn.LogSoftmax(1),
    )  # fmt: skip


def _odd():
    return nn.Sequential(
        nn.Conv2d(2, 4, (3, 2), (2, 1), (1, 2), padding_mode="reflect"), nn.LeakyReLU(0.2),
        nn.Conv2d(4, 6, 3, padding="same", dilation=2, groups=2), nn.ELU(),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.Conv2d(6, 6, 3, padding=1, padding_mode="circular"), nn.Hardswish(),
        nn.BatchNorm2d(6, affine=False),
        nn.Conv2d(6, 6, 3, padding=2, padding_mode="replicate"), nn.Tanh(), nn.ReLU6(),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), nn.AdaptiveAvgPool2d((3, None)),
        nn.Sigmoid(), nn.Softmax(1), nn.Identity(), nn.Flatten(),
    )  # fmt: skip


def _decoder():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.ConvTranspose2d(8, 6, 3, 2, 1, output_padding=1, groups=2, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        nn.ConvTranspose2d(6, 4, (4, 2), (2, 3), (1, 0)), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(4, 2, 3, dilation=2), nn.Hardswish(), nn.ConvTranspose2d(2, 2, 1), nn.ReLU6(),
    )  # fmt: skip


NETS = {
    "lenet": (_lenet, (1, 28, 28)),
    "residual": (Residual, (3, 21, 18)),
    "odd": (_odd, (2, 23, 20)),
    "decoder": (_decoder, (3, 9, 7)),
}


@pytest.fixture(params=NETS)
def net(request):
    """A module in eval mode with lived-in batch norms, and its input shape."""
    make, shape = NETS[request.param]
    torch.manual_seed(3)
    module = make().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            if part.affine:
                nn.init.normal_(part.weight)
                nn.init.normal_(part.bias)
    return module, shape
