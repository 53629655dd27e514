"""An ONNX file where a run is wanted: its labels, its page, and what it has to be told."""

import json
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from hapgop.cli.commands import look
from hapgop.predict import Preprocessing


class Net(nn.Module):
    """Grey 4x6 pictures to three probabilities: the softmax is the net's own."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(32, 3)

    def forward(self, x):
        return torch.softmax(self.head(torch.flatten(torch.relu(self.conv(x)), 1)), 1)


@pytest.fixture
def net():
    torch.manual_seed(2)
    return Net().eval()


@pytest.fixture
def file(net, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.zeros(1, 1, 4, 6),), str(tmp_path / "net.onnx"), dynamo=False, opset_version=17)
    (tmp_path / "names.txt").write_text("left\nright\n\nneither\n")
    return tmp_path / "net.onnx"


def test_pictures_are_labelled_as_the_net_itself_labels_them(hapgop, net, file, pictures):
    done = hapgop(
        "predict", file, pictures / "left.png", "--mean", "0.5", "--std", "0.25", "--classes", "names.txt", "--json"
    )
    assert done.code == 0, done.err
    x = Preprocessing((4, 6), 1, (0.5,), (0.25,))(pictures / "left.png")
    wanted = net(torch.from_numpy(x)[None])[0].detach().numpy()
    told = json.loads(done.out)["predictions"][0]
    labels = ("left", "right", "neither")
    assert told["label"] == labels[int(np.argmax(wanted))]
    assert told["probabilities"] == pytest.approx(dict(zip(labels, wanted.tolist(), strict=True)), rel=1e-4)


def test_without_a_mean_it_is_said_what_is_done(hapgop, file, pictures):
    done = hapgop("predict", file, pictures / "left.png")
    assert done.code == 0
    assert "numbers from 0 to 1" in done.err


def test_a_page_is_served_of_it(hapgop, net, file, pictures, monkeypatch):
    subjects = []
    monkeypatch.setattr(look, "serve", lambda subject, place, ready: (subjects.append(subject), place.close()))
    done = hapgop("look", file, pictures / "left.png", "--mean", "0.5", "--std", "0.5")
    assert done.code == 0, done.err
    (subject,) = subjects
    assert [layer.op for layer in subject.net.layers.values()] == ["conv2d", "relu", "flatten", "linear"]
    wanted = net(torch.from_numpy(subject.sample(0).x)[None])[0].tolist()
    assert subject.answer(subject.sample(0)) == pytest.approx(wanted, rel=1e-4)


def test_one_file_is_written_of_it(hapgop, file, pictures):
    assert hapgop("look", file, pictures / "left.png", "--html", "look.html").code == 0
    assert (file.parent / "look.html").stat().st_size < 1_000_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mean", "half"], "--mean is 'half'"),
        (["--std", "0"], "every std above 0"),
        (["--mean", "0.5,0.5"], "1 channels need as many means"),
        (["--classes", "missing.txt"], "missing.txt: no text"),
        (["--classes", "two.txt"], "(3,) numbers for 2 classes"),
    ],
)
def test_what_makes_no_sense_is_refused(hapgop, file, pictures, arguments, words):
    (file.parent / "two.txt").write_text("a\nb\n")
    done = hapgop("predict", file, pictures / "left.png", *arguments)
    assert done.code == 2
    assert words in done.err


def test_a_run_knows_its_own_preprocessing(hapgop, run, pictures):
    done = hapgop("look", run, pictures / "left.png", "--mean", "0.5")
    assert done.code == 2
    assert "--mean" in done.err


def test_a_file_that_is_no_onnx_file(hapgop, tmp_path, pictures):
    (tmp_path / "bad.onnx").write_bytes(b"no protobuf at all")
    done = hapgop("look", tmp_path / "bad.onnx", pictures / "left.png")
    assert done.code == 2
    assert "bad.onnx" in done.err
