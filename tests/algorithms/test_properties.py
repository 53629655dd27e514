"""What must hold between the operations whatever the definition says: the trilinear form, groups, dilation, shifts."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from problems import conv_shapes, problems, random_inputs, seeds, solve

from hapgop.algorithms import Problem
from hapgop.engine import linear, prepare
from hapgop.shape import ConvShape

pytestmark = pytest.mark.usefixtures("plain_sums")

few = settings(max_examples=10)
dtypes = st.sampled_from(["float32", "float64"])


def run(problem, **arrays):
    """The only output of a problem, by the engine's own choice."""
    (result,) = solve(prepare(problem), problem, arrays).values()
    return result


def inner(a, b):
    """<a, b>, exactly: whole numbers in int64."""
    return int((a.astype(np.int64) * b.astype(np.int64)).sum())


@few
@given(problems("conv"), seeds)
def test_the_three_derivatives_are_one_form(problem, seed):
    """<g, x * w> = <grad_x(g, w), x> = <grad_w(x, g), w>, exactly on whole numbers."""
    problem = replace(problem, bias=False, activation=None, residual=False, pooled=False)
    inputs = random_inputs(problem, seed)
    x, w = inputs["x"], inputs["w"]
    g = np.random.default_rng(seed + 1).integers(-4, 5, problem.shape.y_shape).astype(problem.dtype)
    form = inner(g, run(problem, x=x, w=w))
    assert inner(run(replace(problem, op="grad_x"), g=g, w=w), x) == form
    assert inner(run(replace(problem, op="grad_w", packed=False), x=x, g=g), w) == form


@few
@given(problems("conv"), seeds)
def test_linear_in_both_arguments(problem, seed):
    problem = replace(problem, bias=False, activation=None, residual=False, pooled=False)
    one, two = random_inputs(problem, seed), random_inputs(problem, seed + 1)
    mixed = {name: one[name] * 2 - two[name] for name in one}
    for name, other in (("x", "w"), ("w", "x")):
        fixed = {other: one[other]}
        left = run(problem, **fixed, **{name: mixed[name]})
        right = 2 * run(problem, **fixed, **{name: one[name]}) - run(problem, **fixed, **{name: two[name]})
        np.testing.assert_array_equal(left, right)


@few
@given(conv_shapes(), dtypes, seeds, st.booleans())
def test_groups_are_convolutions_side_by_side(shape, dtype, seed, nhwc):
    assume(shape.groups > 1)
    layout = "nhwc" if nhwc else "nchw"
    problem = Problem("conv", shape, dtype, layout, layout)
    inputs = random_inputs(problem, seed)
    ic, oc = shape.ic // shape.groups, shape.oc // shape.groups
    alone = replace(problem, shape=replace(shape, ic=ic, oc=oc, groups=1))
    parts = [
        run(alone, x=inputs["x"][:, g * ic : (g + 1) * ic], w=inputs["w"][g * oc : (g + 1) * oc])
        for g in range(shape.groups)
    ]
    np.testing.assert_array_equal(run(problem, **inputs), np.concatenate(parts, axis=1))


@few
@given(conv_shapes(), dtypes, seeds)
def test_dilation_is_a_filter_stuffed_with_zeros(shape, dtype, seed):
    dh, dw = shape.dilation
    assume(dh * dw > 1 and shape.kh * shape.kw > 1)
    problem = Problem("conv", shape, dtype)
    inputs = random_inputs(problem, seed)
    dense = replace(shape, kh=(shape.kh - 1) * dh + 1, kw=(shape.kw - 1) * dw + 1, dilation=(1, 1))
    stuffed = np.zeros(dense.w_shape, dtype)
    stuffed[:, :, ::dh, ::dw] = inputs["w"]
    other = replace(problem, shape=dense)
    np.testing.assert_array_equal(run(problem, **inputs), run(other, x=inputs["x"], w=stuffed))


@few
@given(conv_shapes(), dtypes, seeds, st.integers(1, 2), st.integers(1, 2))
def test_shifted_input_is_shifted_output(shape, dtype, seed, down, right):
    """Rows and columns of zeros before the image, taken off the padding or added to it, change nothing."""
    top, bottom, left, after = shape.padding
    sh, sw = shape.stride
    problem = Problem("conv", shape, dtype)
    inputs = random_inputs(problem, seed)
    y = run(problem, **inputs)
    moved = np.pad(inputs["x"], ((0, 0), (0, 0), (down * sh, 0), (right * sw, 0)))
    longer = replace(shape, ih=shape.ih + down * sh, iw=shape.iw + right * sw)
    shifted = run(replace(problem, shape=longer), x=moved, w=inputs["w"])
    np.testing.assert_array_equal(shifted[:, :, down:, right:], y)
    padded = np.pad(inputs["x"], ((0, 0), (0, 0), (top, bottom), (left, after)))
    without = replace(shape, ih=padded.shape[2], iw=padded.shape[3], padding=(0, 0, 0, 0))
    np.testing.assert_array_equal(run(replace(problem, shape=without), x=padded, w=inputs["w"]), y)


@few
@given(st.lists(st.integers(1, 5), max_size=3), st.integers(1, 40), st.integers(1, 40), dtypes, seeds, st.booleans())
def test_linear_is_a_product_of_matrices(leading, features, out, dtype, seed, bias):
    rng = np.random.default_rng(seed)
    x, w, b = (rng.integers(-4, 5, s).astype(dtype) for s in ((*leading, features), (out, features), (out,)))
    y = linear(x, w, b if bias else None, activation="relu")
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, np.maximum(x @ w.T + (b if bias else 0), 0))


@few
@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), dtypes, seeds)
def test_a_1x1_filter_is_a_product_of_matrices(n, ic, oc, width, dtype, seed):
    shape = ConvShape(n, ic, 3, width, oc, 1, 1)
    problem = Problem("conv", shape, dtype)
    inputs = random_inputs(problem, seed)
    wanted = np.einsum("nchw,oc->nohw", inputs["x"], inputs["w"][:, :, 0, 0])
    np.testing.assert_array_equal(run(problem, **inputs), wanted)


@few
@given(conv_shapes(), dtypes, seeds)
def test_images_do_not_see_one_another(shape, dtype, seed):
    """A batch is its images, one by one; its weight gradient is the sum of theirs."""
    problem = Problem("conv", shape, dtype)
    inputs = random_inputs(problem, seed)
    g = np.random.default_rng(seed).integers(-4, 5, shape.y_shape).astype(dtype)
    y, dw = run(problem, **inputs), run(replace(problem, op="grad_w", packed=False), x=inputs["x"], g=g)
    one = replace(problem, shape=shape.with_batch(1))
    total = 0
    for i in range(min(shape.n, 3)):
        image = inputs["x"][i : i + 1]
        np.testing.assert_array_equal(run(one, x=image, w=inputs["w"]), y[i : i + 1])
    for i in range(shape.n):
        total = total + run(replace(one, op="grad_w", packed=False), x=inputs["x"][i : i + 1], g=g[i : i + 1])
    np.testing.assert_array_equal(dw, total)
