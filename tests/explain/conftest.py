import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hapgop.predict import Predictor, Preprocessing
from hapgop.program import Graph, Node


@pytest.fixture
def net():
    """A small net of whole numbers: every order of summation gives the same bits."""
    torch.manual_seed(0)
    made = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1),
        torch.nn.ReLU(inplace=True),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(4, 2, 3, stride=2),
        torch.nn.Flatten(),
        torch.nn.Linear(12, 3),
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randint(-4, 5, parameter.shape))
    return made


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(-4, 5, (1, 10, 14)).astype(np.float32)


@pytest.fixture
def predictor(net, tmp_path):
    """The same net as a saved run that takes pixels as they are."""
    weights = {"weight": "{}.weight", "bias": "{}.bias"}

    def node(name, op, given, **attrs):
        params = {role: key.format(name) for role, key in weights.items()} if op in ("conv2d", "linear") else {}
        return Node(name, op, (given,), attrs, params)

    nodes = (
        node("0", "conv2d", "input", out_channels=4, kernel_size=3, padding=1),
        node("1", "relu", "0"),
        node("2", "max_pool2d", "1", kernel_size=2),
        node("3", "conv2d", "2", out_channels=2, kernel_size=3, stride=2),
        node("4", "flatten", "3"),
        node("5", "linear", "4", out_features=3),
    )
    config = {
        "format": 1,
        "hapgop": "0.1.0",
        "net": {"name": "small", "args": {}},
        "graph": Graph((1, 10, 14), nodes, "5").to_json(),
        "classes": ["a", "b", "c"],
        "preprocessing": Preprocessing((10, 14), 1, (0.0,), (1 / 255,)).to_json(),
    }
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    return Predictor(tmp_path)
