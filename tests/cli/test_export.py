"""`hapgop export`: what it writes and says, and that what was written is used like a run."""

import json

import numpy as np
import pytest
from PIL import Image

from hapgop.cli.commands import export
from hapgop.export import Parity


def test_a_net_goes_out_and_is_asked(hapgop, run, pictures):
    done = hapgop("export", run, "net.onnx", pictures / "left.png", pictures / "right.png")
    assert done.code == 0, done.err
    assert "pictures: uint8 (n, height, width, 3), in RGB" in done.out
    assert "probabilities: float32 (n, 2)" in done.out
    assert " gives 2 of 2 pictures (given) the label that the net itself gives them" in done.out
    assert "hapgop predict net.onnx" in done.out
    told = json.loads(hapgop("predict", "net.onnx", pictures / "left.png", "--json").out)
    assert told["predictions"][0]["label"] == "left"


def test_what_it_tells_a_program(hapgop, run):
    done = hapgop("export", run, "net.onnx", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["path"] == "net.onnx"
    assert told["classes"] == ["left", "right"]
    # Its data are not known any more: pictures are made up.
    assert told["parity"]["same"] == told["parity"]["pictures"] > 0


def test_a_file_that_answers_otherwise_ends_in_1(hapgop, run, monkeypatch):
    monkeypatch.setattr(export, "compared", lambda *_: Parity("a runtime", 5, 4, 0.25))
    done = hapgop("export", run, "net.onnx")
    assert done.code == 1
    assert "gives 4 of 5 pictures" in done.out
    assert "differ by 0.2 at most" in done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["net.pt"], "a file whose name ends in .onnx is wanted"),
        (["nowhere/net.onnx"], "there is no folder nowhere"),
        (["there.onnx"], "there is a file already"),
        (["net.onnx", "none.png"], "none.png: there is no such file"),
        (
            ["net.onnx", "--mean", "0.5"],
            "a run knows its own preprocessing and labels, without --mean",
        ),
    ],
)
def test_what_cannot_be_used_is_said(hapgop, run, tmp_path, arguments, words):
    (tmp_path / "there.onnx").write_text("precious")
    done = hapgop("export", run, *arguments)
    assert done.code == 2
    assert words in done.err
    assert (tmp_path / "there.onnx").read_text() == "precious"


def test_its_layers_are_shown(hapgop, run):
    assert hapgop("export", run, "net.onnx").code == 0
    assert hapgop("shapes", "net.onnx").out == hapgop("shapes", run).out
    assert "1×7×9" in hapgop("shapes", "net.onnx", "--input", "1x7x9").out
    assert "there is no such file" in hapgop("shapes", "none.onnx").err


def test_its_own_file_is_told_nothing(hapgop, run, pictures):
    assert hapgop("export", run, "net.onnx").code == 0
    done = hapgop("predict", "net.onnx", pictures / "left.png", "--std", "0.5")
    assert done.code == 2
    assert "was exported by hapgop and knows its preprocessing and labels, without --std" in done.err


def test_the_test_pictures_of_a_run_are_asked_about(hapgop, tmp_path):
    chance = np.random.default_rng(0)
    for label, shade in (("dark", 60), ("light", 190)):
        folder = tmp_path / "data" / label
        folder.mkdir(parents=True)
        for number in range(12):
            pixels = chance.normal(shade, 20, (10, 12, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    trained = hapgop("train", "data", "--run", "r", "--net", "digits", "--size", "8", "--epochs", "1")
    assert trained.code == 0, trained.err
    done = hapgop("export", "r", "net.onnx")
    assert done.code == 0, done.err
    assert "pictures (that it was judged by) the label" in done.out
    # The file knows the data by their hash, wherever they lie, and is judged by what the net has not seen.
    (tmp_path / "data").rename(tmp_path / "moved")
    judged = hapgop("evaluate", "net.onnx", "moved")
    assert judged.code == 0, judged.err
    assert "Test accuracy" in judged.out
