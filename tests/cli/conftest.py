import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from hapgop import engine
from hapgop.cli import main
from hapgop.predict import Preprocessing
from hapgop.program import Graph, Node


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path, monkeypatch):
    # Whatever a command writes by default lands in a folder of its own.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    # Tests share their machine with others: more threads than free cores would wait for each other.
    engine.set_threads(1)
    yield
    engine.set_threads(None)
    engine.set_precision("fast")


@pytest.fixture
def hapgop(capsys):
    """A command line in this process: its exit code, what it wrote, and what it said on standard error."""

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        written = capsys.readouterr()
        return SimpleNamespace(code=caught.value.code or 0, out=written.out, err=written.err)

    return run


@pytest.fixture
def run(tmp_path):
    """A run folder whose net tells a bright left half from a bright right half, on grey 4×6 pictures."""
    sizes = {"out_channels": 1, "kernel_size": 3, "stride": 3}
    nodes = (
        Node("conv", "conv2d", ("input",), sizes, {"weight": "conv.weight"}),
        Node("flat", "flatten", ("conv",)),
        Node("head", "linear", ("flat",), {"out_features": 2}, {"weight": "head.weight"}),
    )
    tensors = {
        "conv.weight": np.full((1, 1, 3, 3), 0.1, np.float32),
        "head.weight": np.eye(2, dtype=np.float32),
    }
    config = {
        "format": 1,
        "hapgop": "0.1.0",
        "net": {"name": "halves", "args": {}},
        "graph": Graph((1, 4, 6), nodes, "head").to_json(),
        "classes": ["left", "right"],
        "preprocessing": Preprocessing((4, 6), 1, (0.5,), (0.5,)).to_json(),
    }
    folder = tmp_path / "trained"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def pictures(tmp_path):
    """A folder: left.png, right.png, deep/large.png (right, of another size) and notes.png, which is text."""
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    left = np.zeros((4, 6), np.uint8)
    left[:, :3] = 255
    Image.fromarray(left).save(folder / "left.png")
    Image.fromarray(left[:, ::-1].copy()).save(folder / "right.png")
    Image.fromarray(left[:, ::-1].repeat(9, axis=0).repeat(9, axis=1)).save(folder / "deep" / "large.png")
    (folder / "notes.png").write_text("Dear diary")
    return folder
