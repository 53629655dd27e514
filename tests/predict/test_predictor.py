import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from hapgop.errors import InputError
from hapgop.predict import Predictor
from hapgop.program import run as run_graph


def test_labels_confidence_and_probabilities(run, halves):
    left, right = Predictor(run)(halves)
    assert (left.label, right.label, left.path) == ("left", "right", None)
    # Halves differ by 12 pixels of ±2: logits of 24 and -24.
    assert left.probabilities.dtype == np.float32
    assert left.confidence == left.probabilities[0] == 1
    assert right.probabilities.tolist() == pytest.approx([np.exp(-48.0), 1])


def test_paths_images_and_single_pictures(run, halves, tmp_path):
    path = tmp_path / "left.png"
    Image.fromarray(halves[0]).save(path)
    predictor = Predictor(str(run))
    for picture in (path, str(path), Image.open(path), halves[0]):
        (one,) = predictor(picture)
        assert one.label == "left"
    assert [p.path for p in predictor([path, halves[1]])] == [path, None]
    assert predictor([]) == []
    with pytest.raises(InputError, match="not int"):
        predictor(3)


def test_more_than_a_batch_keeps_its_order(run, halves):
    labels = [prediction.label for prediction in Predictor(run)(halves[i % 2] for i in range(71))]
    assert labels == ["left", "right"] * 35 + ["left"]


def test_the_public_face(run, halves):
    predictor = Predictor(run)
    x = predictor.prepare(halves[0])
    assert (x.shape, x.dtype) == ((1, 4, 6), np.float32)
    assert predictor.classes == ("left", "right")
    assert predictor.config["net"]["name"] == "halves"
    # What is shown to the eye is the net as it was trained, nothing folded.
    assert [node.op for node in predictor.graph.nodes] == ["conv2d", "batch_norm2d", "flatten", "linear"]
    whole = run_graph(predictor.graph, predictor.tensors, x[None])
    assert predictor.logits(x[None]) == pytest.approx(whole, rel=1e-4)


def test_half_precision_weights_are_read_as_floats(run, halves):
    tensors = load_file(run / "model.safetensors")
    halved = {name: t.astype(np.float16) if t.dtype == np.float32 else t for name, t in tensors.items()}
    save_file(halved, run / "model.safetensors")
    assert [p.label for p in Predictor(run)(halves)] == ["left", "right"]


def edit(run, change):
    path = run / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def without(key):
    return lambda config: {k: v for k, v in config.items() if k != key}


def replaced(**parts):
    return lambda config: {**config, **parts}


SIZE_8 = {"input_size": [1, 8, 8], "mean": [0], "std": [1]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config: [], r"config.json: damaged, it must hold a JSON object"),
        (without("format"), r"config.json: format None; this hapgop reads format 1"),
        (replaced(format=2, hapgop="9.9"), r"format 2; .* written by hapgop 9.9"),
        (without("graph"), r"config.json: The graph must be a JSON object"),
        (without("classes"), r"config.json: 'classes' must be a list of names"),
        (replaced(classes=[]), r"'classes' must be"),
        (replaced(classes=["a", 3]), r"'classes' must be"),
        (replaced(classes=["a", "b", "c"]), r"gives 2 numbers for 3 classes"),
        (without("preprocessing"), r"config.json: Preprocessing must be"),
        (replaced(preprocessing=SIZE_8), r"reads images of 1×4×6, but the preprocessing makes 1×8×8"),
    ],
)
def test_a_config_that_is_wrong_is_named_with_its_problem(run, change, words):
    edit(run, change)
    with pytest.raises(InputError, match=words):
        Predictor(run)


def test_a_graph_whose_sizes_do_not_fit(run):
    def change(config):
        config["graph"]["nodes"][0]["attrs"]["kernel_size"] = 9
        return config

    edit(run, change)
    with pytest.raises(InputError, match=r"config.json: conv \(conv2d\) on 1×4×6: kernel"):
        Predictor(run)


def test_what_the_answer_does_not_need_may_come_last(run, halves):
    def change(config):
        dead = {"name": "dead", "op": "relu", "inputs": ["conv"], "attrs": {}, "params": {}}
        config["graph"]["nodes"].append(dead)
        return config

    edit(run, change)
    assert [one.label for one in Predictor(run)(halves)] == ["left", "right"]


@pytest.mark.parametrize("text", ["", "{", '{"format": 1', "not json", "\x00\x01"])
def test_a_config_that_is_no_json(run, text):
    (run / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config.json: damaged, it is no JSON"):
        Predictor(run)


def test_a_config_that_is_no_text(run):
    (run / "config.json").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InputError, match=r"config.json: damaged"):
        Predictor(run)


def test_folders_that_are_no_run(run, tmp_path):
    with pytest.raises(InputError, match=r"nowhere: a run folder is wanted .* does not exist"):
        Predictor(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"config.json: a run folder is wanted .* is a file"):
        Predictor(run / "config.json")
    with pytest.raises(InputError, match=r"no run folder, as it holds no config.json\.$"):
        Predictor(tmp_path)
    (run / "config.json").unlink()
    (run / "checkpoint.json").write_text("{}")
    with pytest.raises(InputError, match=r"no config.json. Its training has not come to an end"):
        Predictor(run)


def test_weights_that_are_missing(run):
    (run / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"run: holds no model.safetensors\.$"):
        Predictor(run)


def test_weights_cut_short_anywhere(run):
    path = run / "model.safetensors"
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"model.safetensors: damaged or cut short"):
            Predictor(run)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("head.bias"), r"does not fit config.json: the tensor 'head.bias' .* is missing"),
        (lambda t: t.update({"norm.var": np.ones(2, np.float32)}), r"'norm.var' .* is 2, but 1 is wanted"),
        (lambda t: t.update({"head.weight": np.ones((2, 5), np.float32)}), r"is 2×5, but 2×24 is wanted"),
    ],
)
def test_weights_of_another_net(run, change, words):
    tensors = load_file(run / "model.safetensors")
    change(tensors)
    save_file(tensors, run / "model.safetensors")
    with pytest.raises(InputError, match=words):
        Predictor(run)


def test_a_bad_picture_is_named(run, tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    with pytest.raises(InputError, match=r"notes.png: not a picture"):
        Predictor(run)([tmp_path / "notes.png"])


def test_torch_is_never_imported():
    source = "import sys, hapgop.predict, hapgop.program; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], cwd=Path(__file__).parent, check=False).returncode == 0
