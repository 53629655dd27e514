"""A classifier's loss and its derivative against NumPy in float64: interpreted and emitted, any team."""

import numpy as np
import pytest
from kernels import emitted
from problems import MACHINES, name

from hapgop.algorithms.cross_entropy import SUMS, CrossEntropy, recipe, seconds
from hapgop.algorithms.maps.functions import log_from_one
from hapgop.machine import host
from hapgop.tile import Builder, check, interpret

UNIT = 2.0**-24
every_machine = pytest.mark.parametrize("machine", MACHINES, ids=name)
# Less than a vector, a vector and some, whole vectors, so many that the row is a loop, more than one work item.
LOSSES = [CrossEntropy(*size) for size in ((1, 1), (3, 3), (5, 10), (4, 16), (3, 19), (2, 300), (300, 24))]


def given(loss, seed=1):
    """The inputs, by name."""
    random = np.random.default_rng(seed)
    n, c = loss.images, loss.classes
    return {
        "settings": np.array([0.25, 0.75, 0.25, 0.875, 0.125 / c], np.float32),
        "logits": (4 * random.standard_normal((n, c))).astype(np.float32),
        "y": random.integers(0, c, n).astype(np.float32),
        "second": random.integers(0, c, n).astype(np.float32),
        "names": np.arange(c, dtype=np.float32),
        "weights": random.uniform(0.5, 2, c).astype(np.float32),
    }


def expected(given):
    """(gradient, sums but the last)."""
    wide = {key: value.astype(np.float64) for key, value in given.items()}
    scale, own, other, keep, each = wide["settings"]
    z, names = wide["logits"], wide["names"]
    w = own * (names == wide["y"][:, None]) + other * (names == wide["second"][:, None])
    t = wide["weights"] * (keep * w + each)
    below = z - z.max(1, keepdims=True)
    logs = below - np.log(np.exp(below).sum(1, keepdims=True))
    gradient = scale * (np.exp(logs) * t.sum(1, keepdims=True) - t)
    right = (w * (below == 0)).sum(1) / (below == 0).sum(1)
    return gradient, np.stack([-(t * logs).sum(1), -(w * logs).sum(1), right], 1)


def answers(loss, given, machine, run=emitted, **how):
    made = recipe(loss, machine)
    kernel = made.build()
    check(kernel, machine.registers)
    arrays = {key: value.ravel().copy() for key, value in given.items()}
    arrays["gradient"] = np.full(loss.images * loss.classes, np.nan, np.float32)
    arrays["sums"] = np.full(loss.images * SUMS, np.nan, np.float32)
    found = run(kernel, arrays, {"images": loss.images}, **how)
    return found["gradient"].reshape(loss.images, -1), found["sums"].reshape(-1, SUMS)


def interpreted(kernel, arrays, sizes):
    interpret(kernel, arrays, sizes)
    return arrays


def words(loss):
    return f"{loss.images} of {loss.classes}"


def assert_close(got, given):
    (gradient, sums), (want, want_sums) = got, expected(given)
    # A row's targets sum up to at most 2, and its logs to 40 times that.
    assert np.abs(gradient - want).max() <= 16 * UNIT
    assert np.abs(sums[:, :2] - want_sums[:, :2]).max() <= 16 * UNIT * 80
    assert np.abs(sums[:, 2] - want_sums[:, 2]).max() <= UNIT
    assert (sums[:, 3] == 0).all()


@pytest.mark.parametrize("loss", LOSSES, ids=words)
@every_machine
def test_loss_and_derivative_are_what_they_are_defined_as(loss, machine):
    inputs = given(loss)
    assert_close(answers(loss, inputs, machine), inputs)
    assert seconds(loss, machine) > 0


@pytest.mark.parametrize("loss", LOSSES, ids=words)
def test_the_interpreter_says_the_same_and_any_team_the_same_bits(loss):
    inputs = given(loss)
    assert_close(answers(loss, inputs, host(), interpreted), inputs)
    for one, other in zip(answers(loss, inputs, host()), answers(loss, inputs, host(), threads=3), strict=True):
        assert np.array_equal(one, other)


def test_equal_logits_share_the_answer():
    loss = CrossEntropy(2, 10)
    inputs = given(loss) | {"logits": np.array([[7.0] * 10, [1, 1, *[0] * 8]], np.float32)}
    inputs |= {"y": np.array([3, 1], np.float32), "second": np.array([3, 0], np.float32)}
    assert answers(loss, inputs, host())[1][:, 2].tolist() == [np.float32(0.1), 0.5]


@every_machine
def test_the_logarithm(machine):
    near, far = np.linspace(1, 4, 40_001), 2 ** np.linspace(0, 31.99, 40_001)
    x = np.concatenate([near, far, 1 + UNIT * np.arange(2, 1000, 2), 2.0 ** np.arange(32)]).astype(np.float32)
    lanes = machine.lanes("float32")
    x = np.resize(x, -(-len(x) // lanes) * lanes)
    k = Builder("log", "float32", lanes)
    given, y = k.buffer("x", len(x), "in"), k.buffer("y", len(x), "out")
    with k.stage("all", ("i", len(x) // lanes)) as (i,):
        k.store(log_from_one(k, k.load(given, i * lanes)), y, i * lanes)
    got = emitted(k.kernel(), {"x": x, "y": np.zeros_like(x)}, {})["y"]
    want = np.log(x.astype(np.float64))
    assert (np.abs(got - want) <= 4 * UNIT * np.maximum(0.25, want)).all()
    assert got[x == 1].tolist() == [0.0] * int((x == 1).sum())
