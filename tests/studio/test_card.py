"""The model card: what a stranger reads of a run, and what a hub's machines do."""

import json
import re

import pytest

from hapgop.program import Graph, Node, layers
from hapgop.studio import write_card
from hapgop.studio.card import card
from hapgop.train import Calibration

from .conftest import HOSTILE

CONFIG = {
    "net": {"name": "tinyvgg"},
    "data": {"source": "/somewhere/birds", "kind": "folder", "train": 1800, "validation": 200, "test": 0},
    "preprocessing": {"input_size": [3, 48, 64]},
    "recipe": {"epochs": 12, "optimizer": "sgd", "flip": True, "shift": 2, "learning_rate": 0.05},
}
GRAPH = Graph((3, 48, 64), (
    Node("conv", "conv2d", ("input",), {"out_channels": 6, "kernel_size": 5}, {"weight": "w", "bias": "b"}),
    Node("flat", "flatten", ("conv",)),
    Node("head", "linear", ("flat",), {"out_features": 10}, {"weight": "v"}),
), "head")  # fmt: skip


@pytest.fixture
def text(evaluation):
    def make(config=CONFIG, calibration=None, **kind):
        return card(config, evaluation(**kind), layers(GRAPH), calibration)

    return make


def head(text):
    """The values between the two lines of dashes: YAML of which each value is JSON."""
    lines = text.split("---\n")[1].splitlines()
    named = dict(line.split(": ", 1) for line in lines)
    assert named.pop("library_name") == "hapgop"
    return {name: json.loads(value) for name, value in named.items()}


def test_a_hub_finds_the_task_and_the_accuracy(text, evaluation):
    values = head(text())
    assert values["pipeline_tag"] == "image-classification"
    (entry,) = values["model-index"]
    assert entry["name"] == "tinyvgg on birds"
    (result,) = entry["results"]
    assert result["dataset"] == {"name": "birds", "type": "imagefolder"}
    assert result["metrics"][0]["value"] == pytest.approx(evaluation().accuracy, abs=1e-6)


def test_it_says_how_good_the_net_is_and_what_it_has_seen(text, evaluation):
    found = text(calibration=Calibration(1.25, 0.08, 0.02, ()))
    assert f"of 300 test images are labelled right (95 % interval {100 * evaluation().interval[0]:.1f} %" in found
    assert "When it says how sure it is, it is off by 8.0 % on average" in found
    assert "1,800 images to train on, 200 images to validate." in found
    assert "48 x 64 pixels, in colour" in found
    assert "Recipe: epochs 12, optimizer sgd, learning rate 0.05, flip yes, shift 2;" in found
    assert "| conv | conv2d | 6 of 3×5×5 | 6 x 44 x 60 | 456 |" in found
    assert "/somewhere" not in found
    assert "images held back, which also chose" in text(split="validation")


def test_what_its_commands_need_is_installed_or_named(text):
    lines = text().split("```sh\n")[1].split("```")[0].splitlines()
    assert lines[0] == "pip install 'hapgop[predict]'"
    named = {line.split()[1]: re.findall(r"hapgop\[(\w+)\]", line) for line in lines[1:]}
    assert named == {"predict": [], "look": ["look"], "export": ["onnx"]}


def test_classes_are_told_the_lowest_first(text, evaluation):
    rows = [line for line in text().splitlines() if line.startswith("| class ")]
    right = [int(row.split("|")[2].split()[0]) / int(row.split("|")[2].split()[2]) for row in rows]
    assert len(rows) == 10
    assert right == sorted(right)
    many = text(classes=80, n=800)
    assert "And 30 classes above these." in many
    assert text(classes=3, n=2).count("| class ") == 2  # of one class there is no image


def test_names_are_text_whatever_is_in_them(text):
    found = text(classes=(HOSTILE, "a|b", "*c*\n# d"), config={"data": {"source": f"x/{HOSTILE}"}})
    body = found.split("---\n", 2)[2]
    assert "<script" not in body.replace("\\<script", "")
    assert "a\\|b" in body
    assert "\n# d" not in body
    head(found)


def test_a_config_that_says_little_has_a_card(text):
    assert "# net on pictures" in text(config={})


def test_what_somebody_wrote_is_left(tmp_path, evaluation):
    path = tmp_path / "README.md"
    given = {"config": CONFIG, "evaluation": evaluation(), "layers": layers(GRAPH)}
    assert write_card(path, **given)
    assert write_card(path, **given)
    path.write_text("# My notes")
    assert not write_card(path, **given)
    assert path.read_text() == "# My notes"
