"""Whole files: what they hold, that other runtimes and hapgop itself read them, and what is refused."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from PIL import Image

from hapgop.errors import InputError
from hapgop.export import compared, to_onnx
from hapgop.predict import Predictor, Preprocessing

KINDS = [(3, "stretch", False), (1, "crop", False), (3, "crop", True), (1, "stretch", True)]


@pytest.fixture(params=["onnxruntime", "the reference"])
def runtime(request, monkeypatch):
    """Once by ONNX Runtime, where that is installed, and once without it."""
    if request.param == "onnxruntime":
        pytest.importorskip("onnxruntime")
    else:
        found = importlib.util.find_spec
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else found(name))
    return request.param


def of_its_size(pictures):
    return [picture for picture in pictures if picture.shape == (9, 12, 3)]


@pytest.mark.parametrize(("channels", "resize", "mirror"), KINDS)
def test_a_file_answers_as_the_net_does(channels, resize, mirror, trained, photographs, runtime, tmp_path):
    predictor = trained(channels, resize=resize, mirror=mirror)
    to_onnx(predictor, tmp_path / "net.onnx")
    found = compared(tmp_path / "net.onnx", predictor, photographs)
    assert found.pictures == found.same == (len(photographs) if runtime == "onnxruntime" else 4)
    # Pixels that Pillow rounds up and the file down tell in the probabilities; without resizing there are none.
    assert compared(tmp_path / "net.onnx", predictor, of_its_size(photographs)).difference < 1e-5
    assert ("Runtime" if runtime == "onnxruntime" else "reference") in found.runtime


def test_openvino_reads_it_too(trained, photographs, tmp_path):
    core = pytest.importorskip("openvino").Core()
    predictor = trained(mirror=True)
    to_onnx(predictor, tmp_path / "net.onnx")
    net = core.compile_model(core.read_model(tmp_path / "net.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for picture in photographs:
        theirs, ours = next(iter(net(picture[None]).values()))[0], predictor([picture])[0].probabilities
        assert theirs.argmax() == ours.argmax()
        assert picture.shape != (9, 12, 3) or np.abs(theirs - ours).max() < 1e-5


def test_a_batch_is_answered_as_its_pictures_are(trained, answered, tmp_path):
    predictor = trained(mirror=True)
    to_onnx(predictor, tmp_path / "net.onnx")
    pixels = np.random.default_rng(9).integers(0, 256, (3, 9, 12, 3), np.uint8)
    found = answered(onnx.load(tmp_path / "net.onnx"), pixels)
    wanted = [one.probabilities for one in predictor(list(pixels))]
    assert np.abs(found - wanted).max() < 1e-5
    assert np.abs(found.sum(1) - 1).max() < 1e-5


@pytest.mark.parametrize("mirror", [False, True])
def test_hapgop_knows_its_own_file(mirror, trained, photographs, tmp_path):
    predictor = trained(resize="crop", mirror=mirror)
    to_onnx(predictor, tmp_path / "net.onnx")
    again = Predictor(tmp_path / "net.onnx")
    assert (again.graph, again.classes, again.preprocessing) == (
        predictor.graph, predictor.classes, predictor.preprocessing,
    )  # fmt: skip
    for one, other in zip(predictor(photographs), again(photographs), strict=True):
        assert one.label == other.label
        assert one.probabilities.tobytes() == other.probabilities.tobytes()


def test_what_a_file_tells_of_itself(trained, tmp_path):
    written = to_onnx(trained(), tmp_path / "net.onnx")
    assert written.size == (tmp_path / "net.onnx").stat().st_size
    assert written.takes == "pictures: uint8 (n, height, width, 3)"
    assert written.gives == "probabilities: float32 (n, 3)"
    model = onnx.load(written.path)
    assert (model.producer_name, model.opset_import[0].version) == ("hapgop", written.opset)
    told = {one.key: one.value for one in model.metadata_props}
    assert json.loads(told["classes"]) == ["수박", "bee", "cat"]
    assert "someone" not in str(model)


def test_labels_that_are_no_unicode_are_written(trained, tmp_path):
    """Names of folders, in another encoding than the system's."""
    predictor = trained()
    predictor.classes = ("caf\udce9", "bee", "cat")
    to_onnx(predictor, tmp_path / "net.onnx")
    assert Predictor(tmp_path / "net.onnx").classes == predictor.classes
    told = {one.key: one.value for one in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert json.loads(told["classes"]) == ["caf\udce9", "bee", "cat"]


def test_a_file_that_was_changed_is_found_out(trained, photographs, tmp_path):
    predictor = trained()
    to_onnx(predictor, tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    head = next(one for one in model.graph.initializer if one.name == "head.weight")
    head.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(head), "head.weight"))
    onnx.save(model, tmp_path / "net.onnx")
    found = compared(tmp_path / "net.onnx", predictor, photographs)
    assert found.same < found.pictures
    assert found.difference > 0.1


def test_pictures_from_files_and_pillow(trained, photographs, tmp_path):
    predictor = trained(1)
    to_onnx(predictor, tmp_path / "net.onnx")
    picture = Image.fromarray(photographs[0])
    picture.save(tmp_path / "one.png")
    found = compared(tmp_path / "net.onnx", predictor, [tmp_path / "one.png", picture, picture.convert("LA")])
    assert found.same == 3
    with pytest.raises(InputError, match="no picture was given"):
        compared(tmp_path / "net.onnx", predictor, [])


def test_a_file_that_is_there_is_kept(trained, tmp_path):
    predictor = trained()
    path = tmp_path / "net.onnx"
    path.write_text("precious")
    with pytest.raises(InputError, match="there is a file already"):
        to_onnx(predictor, path)
    assert path.read_text() == "precious"
    to_onnx(predictor, path, overwrite=True)
    assert Predictor(path).classes == predictor.classes
    with pytest.raises(InputError, match="cannot be written"):
        to_onnx(predictor, tmp_path / "nowhere" / "net.onnx")


def test_without_the_package_it_is_said(trained, tmp_path, monkeypatch):
    predictor = trained()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"ONNX files are written with .* pip install 'hapgop\[onnx\]'"):
        to_onnx(predictor, tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("{", "are no JSON"),
        ("[]", "must be a JSON object"),
        ('{"format": 2}', "Graph|graph"),
    ],
)
def test_damaged_metadata_are_said(told, words, trained, tmp_path):
    path = tmp_path / "net.onnx"
    to_onnx(trained(), path)
    model = onnx.load(path)
    next(one for one in model.metadata_props if one.key == "hapgop").value = told
    onnx.save(model, path)
    with pytest.raises(InputError, match=rf"net\.onnx: .*({words})"):
        Predictor(path)


def test_its_own_file_takes_no_other_preprocessing(trained, tmp_path):
    path = tmp_path / "net.onnx"
    to_onnx(trained(), path)
    with pytest.raises(InputError, match="has its own preprocessing and classes"):
        Predictor(path, preprocessing=Preprocessing((9, 12)))
    model = onnx.load(path)
    config = json.loads(next(one for one in model.metadata_props if one.key == "hapgop").value)
    next(one for one in model.metadata_props if one.key == "hapgop").value = json.dumps({**config, "format": 2})
    onnx.save(model, path)
    with pytest.raises(InputError, match="format 2; this hapgop reads format 1"):
        Predictor(path)


@pytest.mark.parametrize("name", ["pictures", "probabilities"])
def test_an_inner_value_called_as_what_goes_in_or_out_is_named(name, trained, tmp_path, monkeypatch):
    predictor = trained()
    first, *rest = predictor.graph.nodes
    rest = [replace(node, inputs=tuple(name if i == first.name else i for i in node.inputs)) for node in rest]
    monkeypatch.setattr(predictor, "graph", replace(predictor.graph, nodes=(replace(first, name=name), *rest)))
    with pytest.raises(InputError, match=f"a value of its own called '{name}'"):
        to_onnx(predictor, tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


def test_a_net_of_others_gets_its_preprocessing_into_the_file(trained, photographs, tmp_path):
    predictor = trained()
    to_onnx(predictor, tmp_path / "ours.onnx")
    model = onnx.load(tmp_path / "ours.onnx")
    del model.metadata_props[:]
    # Without what hapgop tells, and without the pictures' part: as another program would have written the net.
    start = next(k for k, node in enumerate(model.graph.node) if node.output[0] == "input")
    del model.graph.node[: start + 1]
    model.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["n", 3, 9, 12]))
    onnx.save(model, tmp_path / "theirs.onnx")
    theirs = Predictor(tmp_path / "theirs.onnx", preprocessing=predictor.preprocessing, classes=predictor.classes)
    to_onnx(theirs, tmp_path / "again.onnx")
    found = compared(tmp_path / "again.onnx", predictor, photographs)
    assert found.same == found.pictures
