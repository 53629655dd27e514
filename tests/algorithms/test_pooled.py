"""The gradients of a convolution with ReLU and pool: exactly those of its parts, one after the other."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import assert_fences, emitted, fenced
from problems import MACHINES as NARROW
from problems import name, seeds

from hapgop import oracle
from hapgop.algorithms import ALL, Problem
from hapgop.algorithms.problem import POOLED_OPS
from hapgop.engine import Prepared
from hapgop.machine import AVX2, AVX512, NEON
from hapgop.planning import Plan
from hapgop.shape import ConvShape, PoolShape
from hapgop.tile import check, interpret

# Whole vectors and not, rows and columns that fill no window, more images than groups of them, filters of two blocks
# of taps, padding on one side and beyond the filter, several input channels.
SHAPES = [
    ConvShape(3, 1, 28, 28, 6, 5, 5, padding=2),
    ConvShape(2, 3, 9, 11, 5, 3, 3),
    ConvShape(37, 1, 5, 4, 3, 2, 2, padding=(1, 0, 0, 2)),
    ConvShape(1, 2, 12, 9, 7, 7, 6, padding=(7, 1, 6, 2)),
    ConvShape(2, 4, 8, 16, 1, 1, 1),
]
# What only sums by winners take: strides, more channels than a vector has lanes, rows of several vectors.
WIDE = [
    ConvShape(5, 6, 14, 14, 16, 5, 5),
    ConvShape(35, 3, 12, 11, 7, 3, 3, stride=2),
    ConvShape(2, 24, 12, 11, 7, 3, 3, stride=(1, 2), padding=(2, 0, 1, 3)),
    ConvShape(3, 40, 6, 5, 3, 2, 3, padding=4),
]
TENSORS = {
    "pooled_grad": ("g", "z", "winners", "dx", "db"),
    "pooled_grad_x": ("g", "z", "winners", "w", "dx"),
    "pooled_grad_w": ("x", "g", "z", "winners", "dw", "db"),
}
# An image has to find room in the second cache.
MACHINES = tuple(replace(machine, l2=1 << 20) for machine in NARROW)
machines = st.sampled_from(MACHINES)
every_machine = pytest.mark.parametrize("machine", MACHINES, ids=name)


def problem(op, shape, dtype="float32", w_layout="oihw"):
    seen = PoolShape(*shape.y_shape, 2, 2) if op == "pooled_grad" else shape
    return Problem(op, seen, dtype, activation="relu", w_layout=w_layout)


def able(p, machine):
    return [a for a in ALL if a.refuses(p, machine) is None]


WAYS = [(a, op) for op in POOLED_OPS for a in able(problem(op, SHAPES[0]), MACHINES[0])]
every_way = pytest.mark.parametrize(("algorithm", "op"), WAYS, ids=name)


def last(array):
    return array.transpose(0, 2, 3, 1)


def inputs(shape, seed, whole=True):
    """Of both operations, and the right answers to them: those of the parts, by the definition."""
    rng = np.random.default_rng(seed)
    x, y, w = (rng.integers(-4, 5, s).astype(np.float64) for s in (shape.x_shape, shape.y_shape, shape.w_shape))
    pool = PoolShape(*shape.y_shape, 2, 2)
    z, winners = oracle.max_pool(np.maximum(y, 0), pool)
    g = rng.integers(-4, 5, z.shape).astype(np.float64)
    if not whole:
        x, g = x + rng.standard_normal(x.shape), g + rng.standard_normal(g.shape)
    given = {"x": x, "g": g, "z": z, "winners": winners, "w": w}
    return given, {op: answers(op, shape, given) for op in POOLED_OPS}


def answers(op, shape, given, size=lambda values: values):
    """The outputs by the definition, of `size` of all factors."""
    g = np.where(given["z"] > 0, given["g"], 0)
    dy = size(oracle.max_pool_grad(g, given["winners"], PoolShape(*shape.y_shape, 2, 2)))
    if op == "pooled_grad_x":
        return {"dx": oracle.grad_x(dy, size(given["w"]), shape=shape)}
    dw = oracle.grad_w(size(given["x"]), dy, shape=shape)
    return {"dx": dy, "db": dy.sum((0, 2, 3))} if op == "pooled_grad" else {"dw": dw, "db": dy.sum((0, 2, 3))}


def flat(p, key, given, wanted):
    """A tensor as it lies in memory; an output as NaN."""
    if key in given:
        array = given[key] if key == "w" and p.w_layout == "oihw" else last(given[key])
        return array.astype(p.dtype).ravel()
    return np.full(wanted[key].size, np.nan, p.dtype)


def logical(p, key, values, wanted):
    shape = wanted[key].shape
    if key == "db" or (key == "dw" and p.w_layout == "oihw"):
        return values.reshape(shape)
    n, c, h, w = shape
    return values.reshape(n, h, w, c).transpose(0, 3, 1, 2)


def solved(algorithm, p, machine, given, wanted, threads=2):
    """The outputs; inputs and what lies around outputs stay as they were."""
    call = Prepared(Plan(p, machine, algorithm, algorithm.recipe(p, machine), 1.0, ()))
    arrays = {key: fenced(flat(p, key, given, wanted)) for key in TENSORS[p.op]}
    before = {key: inside.copy() for key, (inside, _) in arrays.items()}
    call(*(inside.ctypes.data for inside, _ in arrays.values()), threads=threads)
    for key, (inside, memory) in arrays.items():
        assert_fences(memory)
        if key in given:
            np.testing.assert_array_equal(inside, before[key])
    return {key: logical(p, key, arrays[key][0], wanted) for key in TENSORS[p.op] if key in wanted}


def assert_exact(algorithm, op, shape, machine, seed=1, **kind):
    given, wanted = inputs(shape, seed)
    for key, values in solved(algorithm, problem(op, shape, **kind), machine, given, wanted[op]).items():
        np.testing.assert_array_equal(values, wanted[op][key], err_msg=key)


@every_machine
@every_way
@pytest.mark.parametrize("shape", SHAPES + WIDE, ids=str)
@pytest.mark.parametrize("kind", [{}, {"dtype": "float64", "w_layout": "ohwi"}], ids=str)
def test_they_are_exact(algorithm, op, shape, kind, machine):
    if algorithm.refuses(problem(op, shape, **kind), machine) is None:
        assert_exact(algorithm, op, shape, machine, **kind)
    else:
        assert algorithm.name == "pooled grad_w"


@pytest.mark.parametrize(("algorithm", "op"), [way for way in WAYS if way[0].name == "pooled grad_w"], ids=name)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_vectors_of_sixteen_take_every_shape(algorithm, op, shape):
    assert algorithm.refuses(problem(op, shape), AVX512) is None


@st.composite
def layers(draw, channels=4, strides=(1,)):
    kh, kw = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    stride = draw(st.sampled_from(strides)), draw(st.sampled_from(strides))
    padding = tuple(draw(st.integers(0, 3)) for _ in range(4))
    ih, iw = (
        max(1, k + s - sum(p)) + draw(st.integers(0, 9))
        for k, s, p in zip((kh, kw), stride, (padding[:2], padding[2:]), strict=True)
    )
    return ConvShape(
        draw(st.sampled_from([1, 2, 34])), draw(st.integers(1, channels)), ih, iw, draw(st.integers(1, 15)), kh, kw,
        stride, padding,
    )  # fmt: skip


@settings(max_examples=40)
@given(layers(), seeds, machines, st.sampled_from(["oihw", "ohwi"]))
def test_first_layers_of_every_kind_are_exact(shape, seed, machine, w_layout):
    for algorithm in able(problem("pooled_grad_w", shape, w_layout=w_layout), machine):
        assert_exact(algorithm, "pooled_grad_w", shape, machine, seed, w_layout=w_layout)


@settings(max_examples=60)
@given(layers(channels=20, strides=(1, 2, 3)), seeds, machines, st.sampled_from(["oihw", "ohwi"]))
def test_layers_of_every_kind_are_exact(shape, seed, machine, w_layout):
    for op in ("pooled_grad_x", "pooled_grad_w"):
        for algorithm in able(problem(op, shape, w_layout=w_layout), machine):
            assert_exact(algorithm, op, shape, machine, seed, w_layout=w_layout)


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(1, 90), st.integers(2, 9), st.integers(2, 9), seeds, machines)
def test_maps_of_every_kind_are_exact(n, c, h, w, seed, machine):
    shape = ConvShape(n, 1, h, w, c, 1, 1)
    (algorithm,) = able(problem("pooled_grad", shape), machine)
    assert_exact(algorithm, "pooled_grad", shape, machine, seed)


@every_machine
@every_way
def test_sums_stay_within_their_bound(algorithm, op, machine):
    shape = ConvShape(40, 1, 28, 28, 3, 5, 5, padding=2)
    given, _ = inputs(shape, 2, whole=False)
    given = {key: values.astype(np.float32).astype(np.float64) for key, values in given.items()}
    wanted, sizes = answers(op, shape, given), answers(op, shape, given, np.abs)
    terms = shape.oc * shape.kh * shape.kw if op == "pooled_grad_x" else shape.n * shape.oh * shape.ow
    k = (16 + 2 * np.sqrt(terms)) * 2.0**-24
    for key, values in solved(algorithm, problem(op, shape), machine, given, wanted).items():
        exact = op == "pooled_grad" and key == "dx"
        assert (np.abs(values - wanted[key]) <= (0 if exact else k * sizes[key])).all(), key


@every_machine
@every_way
def test_the_bits_are_the_same_for_any_number_of_threads(algorithm, op, machine):
    shape = ConvShape(9, 1, 13, 12, 3, 3, 3, padding=1)
    given, wanted = inputs(shape, 3, whole=False)
    one = solved(algorithm, problem(op, shape), machine, given, wanted[op], threads=1)
    for threads in (2, 3, 8):
        for key, values in solved(algorithm, problem(op, shape), machine, given, wanted[op], threads).items():
            np.testing.assert_array_equal(values, one[key])


@every_machine
@every_way
def test_interpreted_and_emitted_agree(algorithm, op, machine):
    shape = ConvShape(5, 2, 6, 7, 3, 3, 2, padding=1)
    p, (given, wanted) = problem(op, shape), inputs(shape, 4, whole=False)
    recipe = algorithm.recipe(p, machine)
    kernel = recipe.build()
    sizes = dict(zip((s.name for s in kernel.sizes), recipe.sizes, strict=True))
    arrays = {key: flat(p, key, given, wanted[op]) for key in TENSORS[op]}
    arrays |= {f"{i}": table for i, table in enumerate(recipe.tables)}
    arrays = dict(zip((b.name for b in kernel.buffers), arrays.values(), strict=False))
    copies = {key: values.copy() for key, values in arrays.items()}
    interpret(kernel, copies, sizes)
    for key, values in emitted(kernel, arrays, sizes).items():
        np.testing.assert_array_equal(values, copies[key], err_msg=key)


@pytest.mark.parametrize("machine", [AVX512, AVX2, NEON], ids=name)
@every_way
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_are_proved_safe_within_the_registers(algorithm, op, dtype, machine):
    for shape in (*SHAPES, *WIDE, ConvShape(2, 1, 12, 12, 3, 11, 11, padding=5)):
        p = problem(op, shape, dtype)
        if algorithm.refuses(p, machine) is None:
            check(algorithm.recipe(p, machine).build(), machine.registers)


def test_what_follows_a_nan_has_a_gradient():
    """As in PyTorch: a window in which something is no number has it for its result, and that lets the gradient by."""
    shape = ConvShape(1, 1, 4, 4, 1, 1, 1)
    given, wanted = inputs(shape, 5)
    given["z"][0, 0, 1, 1], given["g"][:], given["w"][:], given["x"][:] = np.nan, 3.0, 1.0, 1.0
    for algorithm, op in WAYS:
        got = solved(algorithm, problem(op, shape), MACHINES[0], given, wanted[op])
        if "dx" in got:
            assert got["dx"][0, 0, 2:, 2:].sum() == 3
        if "db" in got:
            assert got["db"] == 3 * (1 + (given["z"] > 0).sum())


@every_way
def test_winners_that_are_none_touch_no_other_memory(algorithm, op):
    """Where winners are not those of a pool, results are anything, but only results are written."""
    shape = ConvShape(5, 2, 9, 8, 3, 3, 3, padding=1)
    given, wanted = inputs(shape, 6)
    given["winners"] = np.random.default_rng(6).choice([np.nan, np.inf, -7.0, 1e30, 2.5], given["winners"].shape)
    for machine in MACHINES:
        solved(algorithm, problem(op, shape), machine, given, wanted[op])


REFUSED = {
    "channels last": {"x_layout": "nchw", "y_layout": "nchw"},
    "ReLU": {"activation": None},
    "dilations": {"shape": replace(SHAPES[1], dilation=(2, 2))},
    "too large": {"shape": ConvShape(1, 4, 512, 512, 8, 3, 3)},
    "does not know bfloat16": {"dtype": "bfloat16"},
}


@pytest.mark.parametrize("words", REFUSED)
def test_refusals_have_words(words):
    p = replace(problem("pooled_grad_w", SHAPES[1]), **REFUSED[words])
    assert able(p, AVX512) == []
    for algorithm, op in WAYS:
        if op == p.op:
            assert words in (algorithm.refuses(p, AVX512) or "")


FIRST_LAYERS = {
    "strides": {"stride": (2, 2)},
    "no room": {"ic": 8},
    "fill no vector": {"oc": 16},
}


@pytest.mark.parametrize("words", FIRST_LAYERS)
def test_pixels_are_for_first_layers(words):
    p = problem("pooled_grad_w", replace(SHAPES[1], **FIRST_LAYERS[words]))
    refusals = {a.name: a.refuses(p, AVX512) for a in ALL}
    assert words in (refusals["pooled grad_w"] or "")
    assert refusals["winners grad_w"] is None


def test_only_windows_side_by_side():
    p = replace(problem("pooled_grad", SHAPES[0]), shape=PoolShape(1, 3, 8, 8, 3, 3, 2, 1))
    assert "2 x 2" in {a.name: a.refuses(p, AVX512) or "" for a in ALL}["pooled gradient"]
