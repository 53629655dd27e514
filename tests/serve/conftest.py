import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from hapgop import engine
from hapgop.predict import Predictor, Preprocessing
from hapgop.program import Graph, Node


@pytest.fixture(autouse=True)
def _one_thread():
    engine.set_threads(1)
    yield
    engine.set_threads(None)


@pytest.fixture
def predictor(tmp_path):
    """A net that tells a bright left half from a bright right one, and from a picture without either."""
    halves = np.zeros((3, 4, 6), np.float32)
    halves[0, :, :3] = halves[1, :, 3:] = 1
    nodes = (
        Node("flat", "flatten", ("input",)),
        Node("head", "linear", ("flat",), {"out_features": 3}, {"weight": "w"}),
    )
    config = {
        "format": 1,
        "graph": Graph((1, 4, 6), nodes, "head").to_json(),
        "classes": ["left", "right", "neither"],
        "preprocessing": Preprocessing((4, 6), 1, (0.5,), (0.5,)).to_json(),
    }
    (tmp_path / "run").mkdir()
    save_file({"w": halves.reshape(3, -1) / 4}, tmp_path / "run" / "model.safetensors")
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    return Predictor(tmp_path / "run")
