import json

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from safetensors.numpy import save_file

from hapgop.predict import Predictor, Preprocessing
from hapgop.program import Graph, Node


@pytest.fixture
def answered():
    """What the format's own reference computes of a model, for one input."""

    def answer(model, x):
        onnx.checker.check_model(model, full_check=True)
        return ReferenceEvaluator(model).run(None, {model.graph.input[0].name: x})[0]

    return answer


@pytest.fixture
def trained(tmp_path):
    """A function to a predictor from a run folder: a small net, with its preprocessing, perhaps with mirror images."""

    def make(channels=3, size=(9, 12), resize="stretch", mirror=False):
        c = channels
        rules = Preprocessing(size, c, (0.4, 0.5, 0.6)[:c], (0.2, 0.25, 0.3)[:c], resize)
        sizes = {"out_channels": 4, "kernel_size": 3, "activation": "relu"}
        nodes = (
            Node("conv", "conv2d", ("input",), sizes, {"weight": "conv.weight", "bias": "conv.bias"}),
            Node("pool", "max_pool2d", ("conv",), {"kernel_size": 2, "ceil_mode": True}),
            Node("flat", "flatten", ("pool",)),
            Node("head", "linear", ("flat",), {"out_features": 3}, {"weight": "head.weight"}),
        )
        features = 4 * -(-(size[0] - 2) // 2) * -(-(size[1] - 2) // 2)
        chance = np.random.default_rng(1)
        shapes = {"conv.weight": (4, c, 3, 3), "conv.bias": (4,), "head.weight": (3, features)}
        folder = tmp_path / f"run {channels} {resize} {mirror}"
        folder.mkdir()
        tensors = {name: chance.standard_normal(shape, np.float32) for name, shape in shapes.items()}
        save_file({**tensors, "head.weight": tensors["head.weight"] / 40}, folder / "model.safetensors")
        config = {
            "format": 1,
            "hapgop": "0.1.0",
            "net": {"name": "small", "args": {}},
            "graph": Graph((c, *size), nodes, "head").to_json(),
            "classes": ["수박", "bee", "cat"],
            "preprocessing": rules.to_json(),
            "prediction": {"mirror": mirror},
            "data": {"source": "/home/someone/photographs"},
        }
        (folder / "config.json").write_text(json.dumps(config))
        return Predictor(folder)

    return make


@pytest.fixture
def photographs():
    """Pictures of different sizes, smooth and rough, some smaller than any net wants."""
    chance = np.random.default_rng(2)
    made = []
    for height, width in ((30, 41), (9, 12), (5, 6), (61, 17)):
        rough = chance.integers(0, 256, (height, width, 3))
        smooth = np.linspace(0, 200, width)[:, None] + chance.integers(0, 50, 3)
        made += [rough.astype(np.uint8), np.broadcast_to(smooth, (height, width, 3)).astype(np.uint8)]
    return made
