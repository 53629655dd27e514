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
TENSORS = {
    "pooled_grad": ("g", "z", "winners", "dx", "db"),
    "pooled_grad_w": ("x", "g", "z", "winners", "dw", "db"),
}
# An image has to find room in the second cache.
MACHINES = tuple(replace(machine, l2=1 << 20) for machine in NARROW)
machines = st.sampled_from(MACHINES)
every_machine = pytest.mark.parametrize("machine", MACHINES, ids=name)
every_op = pytest.mark.parametrize("op", POOLED_OPS)


def problem(op, shape, dtype="float32", w_layout="oihw"):
    seen = shape if op == "pooled_grad_w" else PoolShape(*shape.y_shape, 2, 2)
    return Problem(op, seen, dtype, activation="relu", w_layout=w_layout)


def algorithm(p, machine):
    able = [a for a in ALL if a.refuses(p, machine) is None]
    return able[0] if able else None


def last(array):
    return array.transpose(0, 2, 3, 1)


def inputs(shape, seed, whole=True):
    """Of both operations, and the right answers to them: those of the parts, by the definition."""
    rng = np.random.default_rng(seed)
    x, y = (rng.integers(-4, 5, s).astype(np.float64) for s in (shape.x_shape, shape.y_shape))
    pool = PoolShape(*shape.y_shape, 2, 2)
    z, winners = oracle.max_pool(np.maximum(y, 0), pool)
    g = rng.integers(-4, 5, z.shape).astype(np.float64)
    if not whole:
        x, g = x + rng.standard_normal(x.shape), g + rng.standard_normal(g.shape)
    dx = oracle.max_pool_grad(np.where(z > 0, g, 0), winners, pool)
    wanted = {"dx": dx, "dw": oracle.grad_w(x, dx, shape=shape), "db": dx.sum((0, 2, 3))}
    return {"x": x, "g": g, "z": z, "winners": winners}, wanted


def flat(p, key, given, wanted):
    """A tensor as it lies in memory; an output as NaN."""
    if key in given:
        return last(given[key]).astype(p.dtype).ravel()
    return np.full(wanted[key].size, np.nan, p.dtype)


def logical(p, key, values, wanted):
    shape = wanted[key].shape
    if key == "db" or (key == "dw" and p.w_layout == "oihw"):
        return values.reshape(shape)
    n, c, h, w = shape
    return values.reshape(n, h, w, c).transpose(0, 3, 1, 2)


def solved(p, machine, given, wanted, threads=2):
    """The outputs; inputs and what lies around outputs stay as they were."""
    a = algorithm(p, machine)
    call = Prepared(Plan(p, machine, a, a.recipe(p, machine), 1.0, ()))
    arrays = {key: fenced(flat(p, key, given, wanted)) for key in TENSORS[p.op]}
    before = {key: inside.copy() for key, (inside, _) in arrays.items()}
    call(*(inside.ctypes.data for inside, _ in arrays.values()), threads=threads)
    for key, (inside, memory) in arrays.items():
        assert_fences(memory)
        if key in given:
            np.testing.assert_array_equal(inside, before[key])
    return {key: logical(p, key, arrays[key][0], wanted) for key in TENSORS[p.op] if key not in given}


def assert_exact(op, shape, machine, seed=1, **kind):
    given, wanted = inputs(shape, seed)
    for key, values in solved(problem(op, shape, **kind), machine, given, wanted).items():
        np.testing.assert_array_equal(values, wanted[key], err_msg=key)


@every_machine
@every_op
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", [{}, {"dtype": "float64", "w_layout": "ohwi"}], ids=str)
def test_they_are_exact(op, shape, kind, machine):
    if algorithm(problem(op, shape, **kind), machine) is not None:
        assert_exact(op, shape, machine, **kind)
    else:
        assert op == "pooled_grad_w"


@every_op
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_vectors_of_sixteen_take_every_shape(op, shape):
    assert algorithm(problem(op, shape), AVX512) is not None


@st.composite
def first_layers(draw):
    kh, kw = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    padding = tuple(draw(st.integers(0, 3)) for _ in range(4))
    ih, iw = (max(1, k + 1 - sum(p)) + draw(st.integers(0, 9)) for k, p in ((kh, padding[:2]), (kw, padding[2:])))
    return ConvShape(
        draw(st.sampled_from([1, 2, 34])), draw(st.integers(1, 4)), ih, iw, draw(st.integers(1, 15)), kh, kw,
        padding=padding,
    )  # fmt: skip


@settings(max_examples=40)
@given(first_layers(), seeds, machines, st.sampled_from(["oihw", "ohwi"]))
def test_first_layers_of_every_kind_are_exact(shape, seed, machine, w_layout):
    if algorithm(problem("pooled_grad_w", shape, w_layout=w_layout), machine) is not None:
        assert_exact("pooled_grad_w", shape, machine, seed, w_layout=w_layout)


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(1, 90), st.integers(2, 9), st.integers(2, 9), seeds, machines)
def test_maps_of_every_kind_are_exact(n, c, h, w, seed, machine):
    assert_exact("pooled_grad", ConvShape(n, 1, h, w, c, 1, 1), machine, seed)


@every_machine
@every_op
def test_sums_stay_within_their_bound(op, machine):
    shape = ConvShape(40, 1, 28, 28, 3, 5, 5, padding=2)
    given, wanted = inputs(shape, 2, whole=False)
    given = {key: values.astype(np.float32).astype(np.float64) for key, values in given.items()}
    dx = oracle.max_pool_grad(
        np.where(given["z"] > 0, given["g"], 0), given["winners"], PoolShape(*shape.y_shape, 2, 2)
    )
    sizes = {"dw": oracle.grad_w(np.abs(given["x"]), np.abs(dx), shape=shape), "db": np.abs(dx).sum((0, 2, 3))}
    wanted = {"dx": dx, "dw": oracle.grad_w(given["x"], dx, shape=shape), "db": dx.sum((0, 2, 3))}
    k = (16 + 2 * np.sqrt(shape.n * shape.oh * shape.ow)) * 2.0**-24
    for key, values in solved(problem(op, shape), machine, given, wanted).items():
        assert (np.abs(values - wanted[key]) <= k * sizes.get(key, 0.0)).all(), key


@every_machine
@every_op
def test_the_bits_are_the_same_for_any_number_of_threads(op, machine):
    shape = ConvShape(9, 1, 13, 12, 3, 3, 3, padding=1)
    given, wanted = inputs(shape, 3, whole=False)
    one = solved(problem(op, shape), machine, given, wanted, threads=1)
    for threads in (2, 3, 8):
        for key, values in solved(problem(op, shape), machine, given, wanted, threads).items():
            np.testing.assert_array_equal(values, one[key])


@every_machine
@every_op
def test_interpreted_and_emitted_agree(op, machine):
    shape = ConvShape(2, 2, 6, 7, 3, 3, 2, padding=1)
    p, (given, wanted) = problem(op, shape), inputs(shape, 4, whole=False)
    recipe = algorithm(p, machine).recipe(p, machine)
    kernel = recipe.build()
    sizes = dict(zip((s.name for s in kernel.sizes), recipe.sizes, strict=True))
    arrays = {key: flat(p, key, given, wanted) for key in TENSORS[op]}
    arrays |= {f"{i}": table for i, table in enumerate(recipe.tables)}
    arrays = dict(zip((b.name for b in kernel.buffers), arrays.values(), strict=False))
    copies = {key: values.copy() for key, values in arrays.items()}
    interpret(kernel, copies, sizes)
    for key, values in emitted(kernel, arrays, sizes).items():
        np.testing.assert_array_equal(values, copies[key], err_msg=key)


@pytest.mark.parametrize("machine", [AVX512, AVX2, NEON], ids=name)
@every_op
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_are_proved_safe_within_the_registers(op, dtype, machine):
    for shape in (*SHAPES, ConvShape(2, 1, 12, 12, 3, 11, 11, padding=5)):
        p = problem(op, shape, dtype)
        if algorithm(p, machine) is not None:
            check(algorithm(p, machine).recipe(p, machine).build(), machine.registers)


def test_what_follows_a_nan_has_a_gradient():
    """As in PyTorch: a window in which something is no number has it for its result, and that lets the gradient by."""
    shape = ConvShape(1, 1, 4, 4, 1, 1, 1)
    given, wanted = inputs(shape, 5)
    given["z"][0, 0, 1, 1], given["g"][:] = np.nan, 3.0
    got = solved(problem("pooled_grad", shape), MACHINES[0], given, wanted)["dx"]
    assert got[0, 0, 2:, 2:].sum() == 3


REFUSED = {
    "channels last": {"x_layout": "nchw", "y_layout": "nchw"},
    "ReLU": {"activation": None},
    "strides": {"shape": replace(SHAPES[1], stride=(2, 2))},
    "no room": {"shape": replace(SHAPES[1], ic=8)},
    "fill no vector": {"shape": replace(SHAPES[1], oc=16)},
    "too large": {"shape": ConvShape(1, 4, 512, 512, 8, 3, 3)},
    "does not know bfloat16": {"dtype": "bfloat16"},
}


@pytest.mark.parametrize("words", REFUSED)
def test_refusals_have_words(words):
    p = replace(problem("pooled_grad_w", SHAPES[1]), **REFUSED[words])
    assert any(words in (a.refuses(p, AVX512) or "") for a in ALL)
    assert algorithm(p, AVX512) is None


def test_only_windows_side_by_side():
    p = replace(problem("pooled_grad", SHAPES[0]), shape=PoolShape(1, 3, 8, 8, 3, 3, 2, 1))
    assert "2 x 2" in {a.name: a.refuses(p, AVX512) or "" for a in ALL}["pooled gradient"]
