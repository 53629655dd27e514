"""What torch.jit.trace, torch.export and torch.onnx write down of our layers: PyTorch's own operators.

The results are ours, and whoever loads it needs no hapgop.
"""

import io
import warnings

import onnx
import pytest
import torch
from torch import nn as torch_nn

import hapgop.nn as nn


def ours():
    return torch_nn.Sequential(
        nn.Conv2d(3, 8, 3, padding="same", activation="relu"),
        nn.BatchNorm2d(8, activation="relu"),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect", activation="relu", pool=2),
        nn.Conv2d(8, 8, 4, padding="same", groups=4),
        nn.MaxPool2d(3, 2, 1),
        nn.ConvTranspose2d(8, 4, 3, 2),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.AdaptiveAvgPool2d(1),
        torch_nn.Flatten(),
        nn.Linear(4, 2, activation="relu"),
    )


def accelerated():
    net = torch_nn.Sequential(
        torch_nn.Conv2d(3, 8, 3, padding=1),
        torch_nn.BatchNorm2d(8),
        torch_nn.ReLU(),
        torch_nn.Conv2d(8, 8, 3),
        torch_nn.ReLU(),
        torch_nn.MaxPool2d(2),
    )
    nn.accelerate(net)
    return net


pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

NETS = pytest.mark.parametrize("made", [ours, accelerated], ids=lambda made: made.__name__)


def images(n=2):
    return torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def same(mine, net, n=2):
    x = images(n)
    with torch.no_grad():
        torch.testing.assert_close(mine(x), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("gradients", [False, True], ids=["plain", "gradients"])
@NETS
def test_a_trace_has_pytorchs_operators_alone(made, gradients, training):
    net = made().train(training)
    with torch.set_grad_enabled(gradients), warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)  # of what would not hold for other images
        warnings.filterwarnings("ignore", module="torch")  # its batch norm's own, in training
        traced = torch.jit.trace(net, images(), check_trace=not training)
    kinds = {node.kind() for node in traced.inlined_graph.nodes()}
    assert "aten::_convolution" in kinds
    assert {kind.split("::")[0] for kind in kinds} <= {"aten", "prim"}
    if not training:  # else each call moves the statistics
        same(traced, net)
        same(traced, net, 5)


@NETS
def test_an_exported_program_has_pytorchs_operators_alone(made):
    net = made().eval()
    program = torch.export.export(net, (images(),), dynamic_shapes=({0: torch.export.Dim("n")},))
    targets = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert torch.ops.aten.conv2d.default in targets
    assert not [target for target in targets if "hapgop" in str(target)]
    same(program.module(), net, 5)


@NETS
def test_an_onnx_file_has_the_standards_operators_alone(made):
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(made().eval(), (images(),), file, dynamo=False)
    nodes = onnx.load_from_string(file.getvalue()).graph.node
    assert {node.domain for node in nodes} == {""}
    assert "Conv" in {node.op_type for node in nodes}


def test_ours_compute_again_afterwards():
    net, x = ours().eval(), images()
    with torch.no_grad():
        torch.jit.trace(net, x)
        nn.reset_report()
        net(x)
    report = nn.report()
    assert report.engine
    assert not [reason for _, reason in report.pytorch if "written down" in reason]
