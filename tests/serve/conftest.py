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
def trained(tmp_path):
    """A function to a net that tells a bright left half from a bright right one, and from a picture without either."""

    def make(channels=1, classes=("left", "right", "neither")):
        halves = np.zeros((3, channels, 4, 6), np.float32)
        halves[0, ..., :3] = halves[1, ..., 3:] = 1
        nodes = (
            Node("flat", "flatten", ("input",)),
            Node("head", "linear", ("flat",), {"out_features": 3}, {"weight": "w"}),
        )
        half = (0.5,) * channels
        config = {
            "format": 1,
            "graph": Graph((channels, 4, 6), nodes, "head").to_json(),
            "classes": list(classes),
            "preprocessing": Preprocessing((4, 6), channels, half, half).to_json(),
        }
        (tmp_path / "run").mkdir()
        save_file({"w": halves.reshape(3, -1) / 4}, tmp_path / "run" / "model.safetensors")
        (tmp_path / "run" / "config.json").write_text(json.dumps(config))
        return Predictor(tmp_path / "run")

    return make


@pytest.fixture
def predictor(trained):
    return trained()
