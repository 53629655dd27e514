"""Batch norm and the gradient through a ReLU: exact where the numbers allow it, else within bounds; every layout."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from kernels import assert_fences, emitted, fenced
from problems import MACHINES, name

from hapgop import oracle
from hapgop.algorithms import ALL, Problem
from hapgop.algorithms.problem import MAP_OPS
from hapgop.engine import Prepared
from hapgop.machine import AVX2, AVX512, NEON
from hapgop.planning import Plan
from hapgop.shape import PoolShape
from hapgop.tile import check, interpret

# One block and several, whole vectors and not, fewer channels than lanes, one pixel an image, pixels left over.
SHAPES = [(2, 16, 4, 4), (4, 64, 16, 8), (2, 3, 8, 4), (8, 70, 1, 1), (1, 128, 16, 32), (3, 40, 9, 11), (3, 1, 70, 61)]
# Of these every mean is exact: as many pixels as a power of two.
EVEN = [shape for shape in SHAPES if (shape[0] * shape[2] * shape[3]).bit_count() == 1]
every_machine = pytest.mark.parametrize("machine", MACHINES, ids=name)
KINDS = [(None, False), ("relu", False), ("relu", True)]
TENSORS = {
    "batch_norm": ("x", "weight", "bias", "r", "y", "stats"),
    "batch_norm_grad": ("g", "x", "weight", "bias", "stats", "y", "dx", "dr", "dparams"),
    "relu_grad": ("g", "y", "dx", "db"),
}
OUT = {"batch_norm": ("y", "stats"), "batch_norm_grad": ("dx", "dr", "dparams"), "relu_grad": ("dx", "db")}
ROWS = {"weight": 1, "bias": 1, "stats": 3, "dparams": 2, "db": 1}


def problem(op, shape, activation="relu", residual=False, dtype="float32", eps=1e-5):
    return Problem(op, PoolShape(*shape, 1, 1), dtype, activation=activation, residual=residual, eps=eps)


def algorithm(p, machine):
    (able,) = [a for a in ALL if a.refuses(p, machine) is None]
    return able


def flat(p, key, inputs):
    """A tensor as it lies in memory, channels last; an output as NaN."""
    n, c, h, w = p.shape.x_shape
    if key in OUT[p.op]:
        return np.full(ROWS[key] * c if key in ROWS else n * c * h * w, np.nan, p.dtype)
    values = np.asarray(inputs[key])
    return (values if key in ROWS else values.transpose(0, 2, 3, 1)).astype(p.dtype).ravel()


def logical(p, key, values):
    n, c, h, w = p.shape.x_shape
    return values.reshape(-1, c) if key in ROWS else values.reshape(n, h, w, c).transpose(0, 3, 1, 2)


def unused(p, key, inputs):
    if key == "dr":
        return not (p.residual and p.activation)
    return key not in inputs and key not in OUT[p.op]


def solved(p, machine, inputs, threads=2):
    """The outputs; inputs and what lies around outputs stay as they were."""
    a = algorithm(p, machine)
    call = Prepared(Plan(p, machine, a, a.recipe(p, machine), 1.0, ()))
    keys = TENSORS[p.op]
    arrays = {key: fenced(flat(p, key, inputs)) for key in keys if not unused(p, key, inputs)}
    before = {key: inside.copy() for key, (inside, _) in arrays.items()}
    call(*(arrays[key][0].ctypes.data if key in arrays else 0 for key in keys), threads=threads)
    for key, (inside, memory) in arrays.items():
        assert_fences(memory)
        if key not in OUT[p.op]:
            np.testing.assert_array_equal(inside, before[key])
    return {key: logical(p, key, arrays[key][0]) for key in OUT[p.op] if key in arrays}


def whole(shape, seed, most=4):
    return np.random.default_rng(seed).integers(-most, most + 1, shape).astype(np.float64)


def backward_inputs(shape, residual):
    """Whole numbers, and statistics that are none of x but make everything exact."""
    c = shape[1]
    rng = np.random.default_rng(7)
    inverse = 2.0 ** rng.integers(-2, 2, c)
    inputs = {"g": whole(shape, 1), "x": whole(shape, 2), "weight": whole((1, c), 3), "bias": whole((1, c), 4)}
    stats = np.stack((whole(c, 5, 2), inverse**-2, inverse))
    return inputs | {"stats": stats} | ({"y": np.maximum(whole(shape, 6), 0)} if residual else {})


@every_machine
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_through_a_relu_is_exact(shape, machine):
    g, y = whole(shape, 1), whole(shape, 2)
    got = solved(problem("relu_grad", shape), machine, {"g": g, "y": y})
    wanted = np.where(y > 0, g, 0)
    np.testing.assert_array_equal(got["dx"], wanted)
    np.testing.assert_array_equal(got["db"][0], wanted.sum((0, 2, 3)))


@every_machine
@pytest.mark.parametrize(("activation", "residual"), KINDS)
@pytest.mark.parametrize("shape", EVEN)
def test_the_gradients_of_batch_norm_are_exact(shape, activation, residual, machine):
    p = problem("batch_norm_grad", shape, activation, residual)
    inputs = backward_inputs(shape, residual)
    got = solved(p, machine, inputs)
    mean, _, inverse = inputs["stats"]
    z = (inputs["x"] - mean[:, None, None]) * (inverse * inputs["weight"][0])[:, None, None]
    seen = inputs["y"] if residual else z + inputs["bias"][0][:, None, None]
    g = np.where(seen > 0, inputs["g"], 0) if activation else inputs["g"]
    dx, dparams = oracle.batch_norm_grad(g, inputs["x"], inputs["weight"][0], inputs["stats"])
    np.testing.assert_array_equal(got["dparams"], dparams)
    np.testing.assert_allclose(got["dx"], dx, rtol=2**-21, atol=2**-19)
    if residual:
        np.testing.assert_array_equal(got["dr"], g)


@every_machine
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("activation", "residual"), KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_stays_within_its_bound(shape, activation, residual, dtype, machine):
    """Of maps that are far from zero, where sums of squares would leave nothing of the variance."""
    rng = np.random.default_rng(3)
    c, pixels = shape[1], shape[0] * shape[2] * shape[3]
    x = (rng.standard_normal(shape) + 1000 * rng.standard_normal((1, c, 1, 1))).astype(dtype)
    weight, bias, r = (rng.standard_normal(s).astype(dtype) for s in ((1, c), (1, c), shape))
    p = problem("batch_norm", shape, activation, residual, dtype)
    got = solved(p, machine, {"x": x, "weight": weight, "bias": bias, **({"r": r} if residual else {})})
    y, (mean, var, inverse) = oracle.batch_norm(x, weight[0], bias[0], p.eps)
    k = (16 + 2 * sqrt(pixels)) * np.finfo(dtype).eps / 2
    of_mean = k * np.abs(x.astype(np.float64)).mean((0, 2, 3))
    of_var = k * var + 2 * of_mean * np.sqrt(var) + of_mean**2
    of_inverse = inverse * (of_var / (var + p.eps) + k)
    assert (np.abs(got["stats"][0] - mean) <= of_mean).all()
    assert (np.abs(got["stats"][1] - var) <= of_var).all()
    assert (np.abs(got["stats"][2] - inverse) <= of_inverse).all()
    off, scale = np.abs(x - mean[:, None, None]), np.abs(weight[0])[:, None, None]
    wide = [v[:, None, None] for v in (of_mean, of_inverse, inverse)]
    bound = scale * (off * wide[1] + (wide[0] + k * off) * (wide[1] + wide[2]) + k * off * wide[2])
    bound = bound + k * (np.abs(bias[0])[:, None, None] + np.abs(y))
    y = y + r if residual else y
    bound = bound + k * np.abs(r) if residual else bound
    assert (np.abs(got["y"] - (np.maximum(y, 0) if activation else y)) <= bound).all()


def test_the_statistics_of_plus_and_minus_two_are_exact():
    shape = (2, 32, 16, 32)
    x = np.where(np.arange(np.prod(shape)).reshape(shape) % 2 == 0, 2.0, -2.0)
    weight, bias = whole((1, 32), 1), whole((1, 32), 2)
    got = solved(problem("batch_norm", shape, None, eps=0.0), MACHINES[0], {"x": x, "weight": weight, "bias": bias})
    y, stats = oracle.batch_norm(x, weight[0], bias[0], 0.0)
    np.testing.assert_array_equal(got["stats"], stats)
    np.testing.assert_array_equal(got["y"], y)


def inputs_of(op, shape, residual):
    rng = np.random.default_rng(5)
    if op == "relu_grad":
        return {"g": rng.standard_normal(shape), "y": rng.standard_normal(shape)}
    if op == "batch_norm_grad":
        return backward_inputs(shape, residual) | {"g": rng.standard_normal(shape), "x": rng.standard_normal(shape)}
    maps = {"x": rng.standard_normal(shape)} | ({"r": rng.standard_normal(shape)} if residual else {})
    return maps | {"weight": rng.standard_normal((1, shape[1])), "bias": rng.standard_normal((1, shape[1]))}


@every_machine
@pytest.mark.parametrize("op", MAP_OPS)
@pytest.mark.parametrize("residual", [False, True])
def test_the_bits_are_the_same_for_any_number_of_threads(op, residual, machine):
    shape = (3, 40, 29, 31)
    p = problem(op, shape, residual=residual and op != "relu_grad")
    inputs = inputs_of(op, shape, p.residual)
    one = solved(p, machine, inputs, threads=1)
    for threads in (2, 3, 8):
        for key, values in solved(p, machine, inputs, threads=threads).items():
            np.testing.assert_array_equal(values, one[key])


@every_machine
@pytest.mark.parametrize("op", MAP_OPS)
@pytest.mark.parametrize(("activation", "residual"), KINDS)
def test_interpreted_and_emitted_agree(op, activation, residual, machine):
    shape = (1, 19, 3, 5)
    if op == "relu_grad" and (residual or activation is None):
        return
    p = problem(op, shape, activation, residual)
    inputs = inputs_of(op, shape, residual)
    a = algorithm(p, machine)
    recipe = a.recipe(p, machine)
    kernel = recipe.build()
    sizes = dict(zip((s.name for s in kernel.sizes), recipe.sizes, strict=True))
    arrays = {}
    for buffer, key in zip(kernel.buffers, TENSORS[op], strict=False):
        given = flat(p, key, inputs) if key in inputs or key in OUT[op] else np.zeros(np.prod(shape), p.dtype)
        arrays[buffer.name] = given
    copies = {key: values.copy() for key, values in arrays.items()}
    interpret(kernel, copies, sizes)
    for key, values in emitted(kernel, arrays, sizes).items():
        np.testing.assert_array_equal(values, copies[key], err_msg=key)


@pytest.mark.parametrize("machine", [AVX512, AVX2, NEON], ids=name)
@pytest.mark.parametrize("op", MAP_OPS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_are_proved_safe_within_the_registers(op, dtype, machine):
    for shape in ((2, 300, 4, 4), (2, 6, 4, 4)):
        for activation, residual in KINDS[1:2] if op == "relu_grad" else KINDS:
            p = problem(op, shape, activation, residual, dtype)
            check(algorithm(p, machine).recipe(p, machine).build(), machine.registers)


@every_machine
@pytest.mark.parametrize(("activation", "residual"), KINDS)
def test_a_gradient_that_is_nearly_the_same_in_all_pixels_keeps_its_difference(activation, residual, machine):
    """As it is behind a global pool: of dx is left what a few roundings of the mean leave, whatever is added up."""
    shape = (2, 19, 40, 60)
    inputs = backward_inputs(shape, residual)
    inputs["g"] = (1 + np.random.default_rng(8).random(shape) / 4096).astype(np.float32).astype(np.float64)
    x = inputs["x"]
    inputs["stats"] = np.stack((x.mean((0, 2, 3)), x.var((0, 2, 3)), x.var((0, 2, 3)) ** -0.5)).astype(np.float32)
    inputs["bias"] = inputs["bias"] * 0 + 100
    if residual:
        inputs["y"] = np.ones(shape)
    got = solved(problem("batch_norm_grad", shape, activation, residual), machine, inputs)
    wanted, _ = oracle.batch_norm_grad(inputs["g"], inputs["x"], inputs["weight"][0], inputs["stats"])
    total = inputs["g"].sum((0, 2, 3))
    assert (np.abs(got["dparams"][1] - total) <= 4 * 2.0**-24 * total).all()
    _, _, inverse = inputs["stats"]
    scale = np.abs(inverse * inputs["weight"][0])
    assert (np.abs((got["dx"] - wanted).mean((0, 2, 3))) <= 4 * 2.0**-24 * scale).all()


@every_machine
def test_infinite_gradients_have_infinite_sums(machine):
    shape = (2, 19, 8, 8)
    inputs = backward_inputs(shape, False)
    inputs["g"][1, 3, 2, 5], inputs["g"][0, 4, 0, 0], inputs["g"][1, 4, 0, 0] = np.inf, np.inf, -np.inf
    got = solved(problem("batch_norm_grad", shape, None), machine, inputs)["dparams"][1]
    assert got[3] == np.inf
    assert np.isnan(got[4])
    assert np.isfinite(np.delete(got, [3, 4])).all()


def test_nan_stays_in_its_channel_and_passes_the_relu():
    shape = (2, 20, 5, 5)
    x = np.random.default_rng(1).standard_normal(shape)
    x[1, 7, 2, 3] = np.nan
    ones, zeros = np.ones((1, 20)), np.zeros((1, 20))
    y = solved(problem("batch_norm", shape), MACHINES[0], {"x": x, "weight": ones, "bias": zeros})["y"]
    assert np.isnan(y[:, 7]).all()
    assert np.isfinite(np.delete(y, 7, 1)).all()
    # As in PyTorch, what follows a NaN has a gradient.
    dx = solved(problem("relu_grad", shape), MACHINES[0], {"g": np.full(shape, 3.0), "y": y})["dx"]
    assert (dx[:, 7] == 3).all()


def test_channels_first_are_refused_in_words():
    p = replace(problem("batch_norm", (2, 3, 4, 4)), x_layout="nchw", y_layout="nchw")
    assert "wants the channels last" in {a.refuses(p, AVX512) for a in ALL}


@pytest.mark.parametrize("op", ["batch_norm", "batch_norm_grad"])
def test_large_maps_go_past_the_caches_in_whole_lines(op):
    def past(machine, channels, image=512):
        p = problem(op, (64, channels, image, image))
        return "streaming=True" in repr(algorithm(p, machine).recipe(p, machine).build())

    assert [past(machine, 16) for machine in (AVX512, AVX2, NEON)] == [True] * 3
    assert not past(AVX512, 16, image=8), "they are still in the cache when they are read"
    # 96 bytes a pixel: two vectors at a time, AVX2's would begin in the middle of a line.
    assert [past(machine, 24) for machine in (AVX512, AVX2)] == [True, False]
