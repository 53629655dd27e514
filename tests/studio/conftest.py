import numpy as np
import pytest

from hapgop.explain import FeatureMap, Filters
from hapgop.program import Graph, Node, layers
from hapgop.train import Evaluation

from .browser import Visit, chromium, digits, served

HOSTILE = "<script>alert(\"$x & 'y'\")</script>"


@pytest.fixture
def evaluation():
    """A function from a number of classes (or their names) to answers, some of them wrong."""

    def make(classes=10, n=300, channels=3, wrong=0.2, names=None, side=12, split="test"):
        random = np.random.default_rng(classes if isinstance(classes, int) else 0)
        titles = tuple(f"class {number}" for number in range(classes)) if isinstance(classes, int) else classes
        k = len(titles)
        labels = np.arange(n) % k
        probabilities = random.dirichlet(np.full(k, 0.3), n).astype(np.float32)
        called = np.where(random.random(n) < wrong, (labels + 1) % k, labels)
        rows, best = np.arange(n), probabilities.argmax(axis=1)
        probabilities[rows, best], probabilities[rows, called] = (
            probabilities[rows, called],
            probabilities[rows, best].copy(),
        )
        pixels = random.integers(0, 256, (n, side, side, channels)).astype(np.uint8)
        names = names or tuple(f"folder/{number}.png" for number in range(n))
        return Evaluation(titles, labels.astype(np.int64), probabilities, names, pixels.__getitem__, split)

    return make


@pytest.fixture
def content(evaluation):
    """A function to everything that a report shows; keywords replace parts of it."""

    def make(classes=10, channels=3, **changes):
        random = np.random.default_rng(0)
        k = classes if isinstance(classes, int) else len(classes)
        nodes = (
            Node("features.0", "conv2d", ("input",), {"out_channels": 20, "kernel_size": 3}, {"weight": "w"}),
            Node("features.1", "relu", ("features.0",)),
            Node("flat", "flatten", ("features.1",)),
            Node("head", "linear", ("flat",), {"out_features": k}, {"weight": "v", "bias": "b"}),
        )
        maps = [
            FeatureMap("features.0", "Conv2d", random.normal(size=(20, 10, 10)).astype(np.float32)),
            FeatureMap("features.1", "ReLU", random.random((20, 10, 10)).astype(np.float32)),
            FeatureMap("flat", "Flatten", random.random((2000, 1, 1)).astype(np.float32)),
            FeatureMap("head", "Linear", random.normal(size=(k, 1, 1)).astype(np.float32)),
        ]
        metrics = [
            {"epoch": epoch, "train_loss": 2 / epoch, "train_accuracy": 1 - 0.5 / epoch, "val_loss": 2.5 / epoch,
             "val_accuracy": 1 - 0.6 / epoch, "learning_rate": 0.1 * 0.5**epoch, "seconds": 1.5,
             "images_per_second": 1234.5}
            for epoch in (1, 2, 3)
        ]  # fmt: skip
        config = {
            "format": 1, "hapgop": "0.1.0", "net": {"name": "lenet5", "args": {}},
            "recipe": {"epochs": 3, "seed": 17, "flip": False, "note": None}, "data": {"source": "digits"},
            "preprocessing": {"size": [12, 12], "mean": [0.5]}, "versions": {"torch": "2.13.0"},
            "command": "hapgop train digits --seed 17",
        }  # fmt: skip
        return {
            "title": "LeNet-5 on digits",
            "config": config,
            "metrics": metrics,
            "evaluation": evaluation(classes, channels=channels),
            "filters": Filters("features.0", random.normal(size=(20, channels, 3, 3)).astype(np.float32)),
            "feature_maps": maps,
            "image": random.integers(0, 256, (12, 12, channels)).astype(np.uint8),
            "layers": layers(Graph((channels, 12, 12), nodes, "head")),
        } | changes

    return make


@pytest.fixture
def hostile():
    """What a class, a file or a title may be called by someone unkind, or by chance."""
    return HOSTILE


@pytest.fixture(scope="module")
def subject():
    return digits()


@pytest.fixture(scope="module")
def base(subject):
    with served(subject) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture
def visit(browser, base):
    one = Visit(browser, base, locale="en-US")
    yield one
    one.close()
