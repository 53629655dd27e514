"""Maps against NumPy in float64: interpreted and emitted, whole vectors and what is left of them, any team."""

import math

import numpy as np
import pytest
from kernels import emitted
from problems import MACHINES, name

from hapgop.algorithms.maps import FUNCTIONS, MapProblem, recipe, seconds
from hapgop.errors import InputError
from hapgop.machine import AVX512, host
from hapgop.tile import check, interpret

UNIT = 2.0**-24
every_machine = pytest.mark.parametrize("machine", MACHINES, ids=name)


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(np.isnan(x), x, np.where(x >= 0, 1 / (1 + e), e / (1 + e)))


def gelu(x):
    erf = np.array([math.erf(v) for v in (x * 0.5**0.5).ravel()]).reshape(x.shape)
    return x / 2 * (1 + erf)


# Each function's definition, and how far from it a float32 result may be.
DEFINED = {
    None: (lambda x, a: x, lambda x, a: 0 * x),
    "relu": (lambda x, a: np.maximum(x, 0), lambda x, a: 0 * x),
    "relu6": (lambda x, a: np.clip(x, 0, 6), lambda x, a: 0 * x),
    "leaky_relu": (lambda x, a: np.where(x > 0, x, a * x), lambda x, a: 2 * UNIT * np.abs(x)),
    "elu": (lambda x, a: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0))), lambda x, a: 8 * UNIT * max(1, a) + 0 * x),
    "sigmoid": (lambda x, a: sigmoid(x), lambda x, a: 8 * UNIT + 0 * x),
    "silu": (lambda x, a: x * sigmoid(x), lambda x, a: 8 * UNIT * np.maximum(1, np.abs(x))),
    "hardsigmoid": (lambda x, a: np.clip(x + 3, 0, 6) / 6, lambda x, a: 4 * UNIT + 0 * x),
    "hardswish": (lambda x, a: x * np.clip(x + 3, 0, 6) / 6, lambda x, a: 4 * UNIT * np.maximum(1, np.abs(x))),
    "gelu": (lambda x, a: gelu(x), lambda x, a: 12 * UNIT * np.maximum(1, np.abs(x))),
    "gelu_tanh": (
        lambda x, a: x * sigmoid(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)),
        lambda x, a: 12 * UNIT * np.maximum(1, np.abs(x)),
    ),
    "tanh": (lambda x, a: np.tanh(x), lambda x, a: 8 * UNIT + 0 * x),
}


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def inputs(p, seed=3):
    """The tensors of a problem but the last, whole numbers, in the order of its addresses."""
    random = np.random.default_rng(seed)

    def whole(*shape):
        return random.integers(-6, 7, shape).astype(np.float32)

    tensors = [whole(p.images, p.pixels, p.channels)]
    if p.op in ("norm", "layer_norm"):
        tensors += [whole(p.channels), whole(p.channels)]
    elif p.op in ("add", "mul", "blend"):
        shapes = {"all": tensors[0].shape, "image": (p.images, 1, p.channels), "pixel": (p.images, p.pixels, 1)}
        tensors.append(whole(*shapes[p.over]))
    return tensors


def expected(p, tensors):
    x, *rest = (t.astype(np.float64) for t in tensors)
    if p.op == "first":
        return x.transpose(0, 2, 1)
    if p.op == "softmax":
        return softmax(x)
    if p.op in ("add", "mul"):
        x = x + rest[0] if p.op == "add" else x * rest[0]
    elif p.op == "blend":
        x = p.alpha * x + p.beta * rest[0]
    elif p.op == "layer_norm":
        off = x - x.mean(-1, keepdims=True)
        x = off / np.sqrt((off * off).mean(-1, keepdims=True) + p.eps) * rest[0] + rest[1]
    elif p.op == "norm":
        x = x * rest[0] + rest[1]
    return DEFINED[p.function][0](x, p.alpha)


def answers(p, tensors, machine, run=emitted, **how):
    made = recipe(p, machine)
    kernel = made.build()
    check(kernel, machine.registers)
    names = [b.name for b in kernel.buffers if b.role in ("in", "out")]
    y = np.full(p.images * p.pixels * (p.pitch or p.channels), np.nan, np.float32)
    arrays = dict(zip(names, [*[t.ravel() for t in tensors], y], strict=True))
    sizes = dict(zip([s.name for s in kernel.sizes], made.sizes, strict=True))
    return run(kernel, arrays, sizes, **how)[names[-1]]


def interpreted(kernel, arrays, sizes):
    arrays = {key: value.copy() for key, value in arrays.items()}
    interpret(kernel, arrays, sizes)
    return arrays


# 1100 numbers are more than one work item of the widest vectors; 19 channels are a vector and some.
PROBLEMS = [
    *(MapProblem("apply", 1, 44, 25, f, 0.5) for f in FUNCTIONS),
    MapProblem("add", 2, 30, 19, "relu"), MapProblem("mul", 1, 1, 5), MapProblem("mul", 1, 7, 19, over="pixel"),
    MapProblem("blend", 2, 30, 19, alpha=0.75, beta=-0.5), MapProblem("blend", 1, 1, 3, "relu", 1.0, beta=0.25),
    MapProblem("mul", 3, 70, 19, over="image"), MapProblem("add", 2, 3, 200, "relu6", over="image"),
    MapProblem("norm", 2, 50, 35, "hardswish"), MapProblem("norm", 1, 3, 8), MapProblem("copy", 2, 40, 19, pitch=24),
    MapProblem("copy", 1, 2, 300, pitch=301), MapProblem("first", 2, 20, 19), MapProblem("first", 1, 49, 3),
    MapProblem("layer_norm", 2, 30, 19, eps=1e-5), MapProblem("layer_norm", 1, 5, 32, "relu", eps=0.5),
    MapProblem("layer_norm", 3, 2, 300, "gelu", eps=1e-6),
    MapProblem("softmax", 1, 1, 10), MapProblem("softmax", 3, 30, 16), MapProblem("softmax", 2, 1, 300),
]  # fmt: skip


def words(p):
    return f"{p.op} {p.function or ''} {p.over} {p.channels}"


@pytest.mark.parametrize("p", PROBLEMS, ids=words)
@every_machine
def test_a_map_is_what_it_is_defined_as(p, machine):
    tensors = inputs(p)
    want = expected(p, tensors)
    got = answers(p, tensors, machine)
    if p.op == "copy":
        rows = got.reshape(-1, p.pitch)
        assert np.isnan(rows[:, p.channels :]).all()
        got = rows[:, : p.channels]
    got = got.reshape(want.shape)
    if p.op == "softmax":
        assert (np.abs(got - want) <= 16 * UNIT * want + UNIT * UNIT).all()
        assert np.abs(got.sum(-1) - 1).max() < 32 * UNIT
    elif p.op == "layer_norm":
        assert (np.abs(got - want) <= 32 * UNIT * 20).all()  # |x| / sqrt(variance) < 3, weights and biases to 6
    elif p.function in (None, "relu", "relu6"):
        assert np.array_equal(got, want)
    else:
        x = tensors[0].astype(np.float64) if p.op == "apply" else want * 0 + 200
        assert (np.abs(got - want) <= DEFINED[p.function][1](x, p.alpha)).all()


@pytest.mark.parametrize("p", PROBLEMS, ids=words)
def test_any_team_gives_the_same_bits_as_one_thread(p):
    tensors = inputs(p)
    one = answers(p, tensors, host())
    assert np.array_equal(one, answers(p, tensors, host(), threads=3), equal_nan=True)


@pytest.mark.parametrize("p", PROBLEMS[len(FUNCTIONS) :], ids=words)
def test_the_interpreter_says_the_same(p):
    tensors = inputs(p)
    got, want = answers(p, tensors, host(), interpreted), answers(p, tensors, host())
    assert np.allclose(got, want, rtol=8 * UNIT, atol=0, equal_nan=True)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_size_of_number_and_what_is_none(function):
    """All exponents, both signs, many mantissas; zero, infinity and NaN."""
    bits = np.arange(0, 2**31, 37_003, dtype=np.uint32)
    sizes = bits.view(np.float32)
    sizes = sizes[np.isfinite(sizes) & ((sizes == 0) | (sizes > 2.0**-126))]
    near = np.linspace(-100, 100, 40_001, dtype=np.float32)
    x = np.concatenate([sizes, -sizes, near])
    x = x[np.abs(x) < 2.0**120]  # hardswish multiplies by 6 before it divides
    p = MapProblem("apply", 1, 1, x.size, function, 0.75)
    got = answers(p, [x], host()).astype(np.float64)
    with np.errstate(over="ignore"):
        want = DEFINED[function][0](x.astype(np.float64), p.alpha)
        allowed = DEFINED[function][1](x.astype(np.float64), p.alpha)
    flushed = 2.0**-126  # what is smaller is zero to our kernels
    assert (np.abs(got - want) <= allowed + flushed).all()
    special = np.array([np.nan, np.inf, -np.inf], np.float32)
    got = answers(MapProblem("apply", 1, 1, 3, function, 0.75), [special], host())
    assert np.isnan(got[0])
    limits = {"silu": 0.0, "hardswish": np.nan}  # as in PyTorch: minus infinity times the gate's 0
    want = DEFINED[function][0](np.array([3e38, -3e38]), 0.75)
    assert got[1] == (np.inf if want[0] > 1e30 else want[0])
    assert np.array_equal(got[2], limits.get(function, -np.inf if want[1] < -1e30 else want[1]), equal_nan=True)


def test_softmax_of_far_apart_and_of_no_numbers():
    x = np.array([[0, -1000, -np.inf, 5], [1e30, 0, 1, 2], [np.nan, 0, 0, 0]], np.float32)
    got = answers(MapProblem("softmax", 1, 3, 4), [x], host()).reshape(3, 4)
    assert got[0, 1] == got[0, 2] == 0
    assert np.array_equal(got[1], [1, 0, 0, 0])
    assert np.isnan(got[2]).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [({"op": "sub"}, "op is 'sub'"), ({"function": "sin"}, "function is 'sin'"), ({"over": "row"}, "over is 'row'")],
)
def test_what_is_unknown_is_said(given, said):
    with pytest.raises(InputError, match=said):
        MapProblem(**{"op": "apply", "images": 1, "pixels": 1, "channels": 1, **given})


def test_more_work_is_predicted_to_take_longer():
    few, many = (seconds(MapProblem("apply", 1, n, 64, "silu"), AVX512) for n in (100, 10_000))
    assert many > 10 * few
