import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from hapgop.predict import Preprocessing
from hapgop.program import Graph, Node


@pytest.fixture
def run(tmp_path):
    """A run folder: a net that tells a bright left half from a bright right half, on grey 4×6 pictures."""
    sizes = {"out_channels": 1, "kernel_size": 1}
    nodes = (
        Node("conv", "conv2d", ("input",), sizes, {"weight": "conv.weight"}),
        Node("norm", "batch_norm2d", ("conv",), {}, {"running_mean": "norm.mean", "running_var": "norm.var"}),
        Node("flat", "flatten", ("norm",)),
        Node("head", "linear", ("flat",), {"out_features": 2}, {"weight": "head.weight", "bias": "head.bias"}),
    )
    left = np.zeros((4, 6), np.float32)
    left[:, :3] = 1
    tensors = {
        "conv.weight": np.ones((1, 1, 1, 1), np.float32),
        "norm.mean": np.zeros(1, np.float32),
        "norm.var": np.ones(1, np.float32),
        "head.weight": np.stack([left.ravel(), 1 - left.ravel()]),
        "head.bias": np.zeros(2, np.float32),
        "norm.num_batches_tracked": np.array(7),
    }
    config = {
        "format": 1,
        "hapgop": "0.1.0",
        "net": {"name": "halves", "args": {}},
        "graph": Graph((1, 4, 6), nodes, "head").to_json(),
        "classes": ["left", "right"],
        "preprocessing": Preprocessing((4, 6), 1, (0.5,), (0.25,)).to_json(),
    }
    folder = tmp_path / "run"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def halves():
    """(picture bright on the left, picture bright on the right), uint8 (4, 6)."""
    left = np.zeros((4, 6), np.uint8)
    left[:, :3] = 255
    return left, left[:, ::-1].copy()
