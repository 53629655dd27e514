"""Nets from ONNX files: as PyTorch exports them, and what is refused, with its operator and node."""

import re
import warnings

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from hapgop.errors import InputError
from hapgop.predict import Predictor, Preprocessing
from hapgop.predict.onnx_file import read_onnx
from hapgop.program import Program


class Gated(nn.Module):
    """Residual, squeeze-and-excite, concatenation, and the ends that exporters write in their own ways."""

    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 8, 3, 2, (1, 0), bias=False), nn.BatchNorm2d(8)
        self.b, self.depthwise = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.down, self.up = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)
        self.head, self.last = nn.Linear(16, 12), nn.Linear(12, 5)

    def forward(self, x):
        x = nn.functional.relu6(self.norm(self.a(x)))
        x = nn.functional.hardswish(x + self.depthwise(x))
        gate = nn.functional.hardsigmoid(self.up(nn.functional.silu(self.down(x.mean((2, 3), keepdim=True)))))
        x = torch.cat([x * gate, torch.sigmoid(self.b(x))], 1)
        x = nn.functional.avg_pool2d(nn.functional.max_pool2d(x, 3, 2, 1), 2)
        x = nn.functional.adaptive_avg_pool2d(x, 1)
        x = nn.functional.leaky_relu(self.head(x.view(x.size(0), -1)), 0.1)
        return nn.functional.softmax(self.last(nn.functional.elu(torch.tanh(x)) * 2.0 + 1.0), 1)


def exported(module, path, shape=(3, 12, 13), opset=17, **how):
    torch.manual_seed(4)
    module = module.eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.zeros(1, *shape),), str(path), dynamo=False, opset_version=opset, **how)
    return path


def plain_net():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(150, 4)
    )


def decoder():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.ConvTranspose2d(6, 4, 3, 2, 1, output_padding=1, groups=2), nn.ReLU(),
        nn.ConvTranspose2d(4, 2, (2, 3), dilation=2), nn.Flatten(), nn.Linear(2 * 12 * 16, 3),
    )  # fmt: skip


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize("batch", [None, {"input": {0: "n"}}], ids=["fixed batch", "free batch"])
@pytest.mark.parametrize("make", [plain_net, Gated, decoder])
def test_an_exported_net_gives_what_pytorch_gives(make, batch, opset, tmp_path):
    module = make()
    names = {"input_names": ["input"], "dynamic_axes": batch} if batch else {}
    path = exported(module, tmp_path / "net.onnx", opset=opset, **names)
    program = Program(*read_onnx(path)[:2])
    x = torch.randn(3, 3, 12, 13)
    with torch.no_grad():
        want = module(x).numpy()
    assert np.abs(program(x.numpy()) - want).max() < 1e-5
    assert not any(step.problem is None for step in program.plan(3).steps)


def test_a_predictor_labels_pictures_with_an_onnx_net(tmp_path):
    module = nn.Sequential(plain_net(), nn.Linear(4, 2))
    path = exported(module, tmp_path / "net.onnx")
    rules = Preprocessing((12, 13))
    pictures = np.random.default_rng(0).integers(0, 256, (2, 12, 13, 3)).astype(np.uint8)
    predictor = Predictor(path, preprocessing=rules, classes=["cat", "dog"])
    with torch.no_grad():
        want = module(torch.from_numpy(rules.batch(pictures).copy())).softmax(1).numpy()
    found = predictor(list(pictures))
    assert [one.label for one in found] == [("cat", "dog")[i] for i in want.argmax(1)]
    assert np.abs(np.stack([one.probabilities for one in found]) - want).max() < 1e-5
    assert Predictor(path, preprocessing=rules).classes == ("0", "1")


def test_a_softmax_before_the_end_is_not_taken_twice(tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Softmax(1), nn.Flatten())
    path = exported(module, tmp_path / "net.onnx")
    rules = Preprocessing((12, 13))
    pictures = np.random.default_rng(1).integers(0, 256, (2, 12, 13, 3)).astype(np.uint8)
    with torch.no_grad():
        want = module(torch.from_numpy(rules.batch(pictures).copy())).numpy()
    found = Predictor(path, preprocessing=rules)(list(pictures))
    assert np.abs(np.stack([one.probabilities for one in found]) - want).max() < 1e-5


def test_one_number_is_no_answer(tmp_path):
    path = exported(nn.Sequential(nn.Flatten(), nn.Linear(12, 1), nn.Sigmoid()), tmp_path / "net.onnx", (3, 2, 2))
    assert read_onnx(path).graph.nodes[-1].op == "sigmoid"
    with pytest.raises(InputError, match="gives one number; a classifier gives one for each of two labels or more"):
        Predictor(path, preprocessing=Preprocessing((2, 2)))


def test_labels_of_one_name_are_refused(tmp_path):
    path = exported(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), tmp_path / "net.onnx", (3, 2, 2))
    with pytest.raises(InputError, match=r"net\.onnx: classes has 'crane' more than once\. Each class needs a name of"):
        Predictor(path, preprocessing=Preprocessing((2, 2)), classes=["crane", "bee", "crane"])


def refused(tmp_path, change):
    path = exported(plain_net(), tmp_path / "net.onnx")
    model = onnx.load(str(path))
    change(model)
    onnx.save(model, str(path))
    with pytest.raises(InputError) as caught:
        read_onnx(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


@pytest.mark.parametrize(
    ("domain", "operator", "called"), [("", "Erf", "Erf"), ("com.microsoft", "Relu", r"com\.microsoft\.Relu")]
)
def test_what_is_not_known_is_named_with_its_node(domain, operator, called, tmp_path):
    def change(model):
        node = model.graph.node[1]
        node.domain, node.op_type, node.name = domain, operator, "here"

    words = rf"node 'here': the operator {called} is not known here; known are Add, AveragePool, "
    assert re.search(words, refused(tmp_path, change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: setattr(m.opset_import[0], "version", 11), "its opset is 11; 13 or newer"),
        (lambda m: m.graph.output.add(name="second"), "1 inputs and 2 outputs"),
        (lambda m: setattr(m.graph.node[-1].attribute[0], "f", 2.0), "(Gemm): alpha and beta have to be 1"),
        (lambda m: m.graph.node[0].attribute.add(name="auto_pad", type=3, s=b"SAME_UPPER"), "auto_pad SAME_UPPER"),
        (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", 0), "fixed (n, channels"),
    ],
)
def test_settings_that_a_graph_cannot_express_are_said(change, words, tmp_path):
    assert words in refused(tmp_path, change)


def test_broken_files_and_missing_ones(tmp_path, monkeypatch):
    path = tmp_path / "net.onnx"
    with pytest.raises(InputError, match="there is no such file"):
        read_onnx(path)
    path.write_bytes(b"\x08\x01no model")
    with pytest.raises(InputError, match=r"net\.onnx: "):
        read_onnx(path)
    exported(plain_net(), path)
    with pytest.raises(InputError, match="does not say how pictures are prepared"):
        Predictor(path)
    with pytest.raises(InputError, match="the preprocessing makes"):
        Predictor(path, preprocessing=Preprocessing((8, 8)))
    with pytest.raises(InputError, match="for 3 classes"):
        Predictor(path, preprocessing=Preprocessing((12, 13)), classes=["a", "b", "c"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'hapgop\[onnx\]'"):
        read_onnx(path)


def test_a_run_folder_takes_no_other_classes(run):
    with pytest.raises(InputError, match="has its own preprocessing and classes"):
        Predictor(run, classes=["a", "b"])
