"""NaN and infinity go where PyTorch sends them, and taps that fall into the padding are not there at all."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st
from problems import (
    ANSWERS,
    MACHINES,
    answers,
    assert_equal,
    conv_shapes,
    machines,
    name,
    pool_shapes,
    problems,
    random_inputs,
    seeds,
    solved,
)

from hapgop import oracle
from hapgop.algorithms import Problem
from hapgop.shape import ConvShape, PoolShape, ShapeError

SPECIAL = (np.nan, np.inf, -np.inf)


def answering(op):
    return pytest.mark.parametrize("algorithm", [a for a, o in ANSWERS if o == op], ids=name)


def sprinkled(array, seed, share=0.1):
    """The array with some elements replaced by NaN or infinity."""
    rng = np.random.default_rng(seed)
    where = rng.random(array.shape) < share
    return np.where(where, rng.choice(SPECIAL, array.shape), array).astype(array.dtype)


def torch_conv(problem, x, w, bias=None, residual=0):
    s = problem.shape
    top, bottom, left, right = s.padding
    tensors = [None if a is None else torch.from_numpy(np.ascontiguousarray(a, np.float64)) for a in (x, w, bias)]
    tensors[0] = torch.nn.functional.pad(tensors[0], (left, right, top, bottom))
    y = torch.nn.functional.conv2d(*tensors, s.stride, 0, s.dilation, s.groups)
    y = _ACTIVATIONS[problem.activation](y + residual)
    if not problem.pooled:
        return {"y": y.numpy()}
    # Of a window's places, counted through the whole row, the place in the window.
    y, at = torch.nn.functional.max_pool2d(y, 2, return_indices=True)
    winners = at // s.ow % 2 * 2 + at % s.ow % 2
    return {"y": y.numpy(), "winners": winners.numpy()} if problem.winners else {"y": y.numpy()}


_ACTIVATIONS = {None: lambda y: y, "relu": torch.relu, "relu6": torch.nn.functional.relu6}


@answering("conv")
@settings(max_examples=25)
@given(problems("conv"), machines, seeds)
def test_convolution_of_nan_and_infinity_is_pytorchs(algorithm, problem, machine, seed):
    assume(algorithm.refuses(problem, machine) is None)
    inputs = random_inputs(problem, seed)
    inputs["w"][inputs["w"] == 0] = 1  # so that no product is 0 * infinity
    inputs["x"] = sprinkled(inputs["x"], seed)
    assert_equal(solved(algorithm, problem, machine, inputs), torch_conv(problem, **inputs))


@answering("conv")
def test_zero_times_infinity_inside_the_image_is_nan(algorithm):
    problem = Problem("conv", ConvShape(1, 3, 6, 6, 20, 3, 3, padding=1))
    for machine in MACHINES:
        inputs = random_inputs(problem, 1)
        inputs["x"][0, 1, 2, 3] = np.inf
        inputs["w"][:, :, 1, 1] = 0
        if algorithm.refuses(problem, machine) is None:
            result = solved(algorithm, problem, machine, inputs)
            assert np.isnan(result["y"][0, :, 2, 3]).all()
            assert_equal(result, torch_conv(problem, **inputs))


def skipping(x, w, s):
    """The sums over the taps inside, term by term."""
    y = np.zeros(s.y_shape)
    for n, o, i, j in np.ndindex(s.y_shape):
        per_group = s.ic // s.groups
        first = o // (s.oc // s.groups) * per_group
        for c, k, m in np.ndindex(per_group, s.kh, s.kw):
            row = i * s.stride[0] - s.padding[0] + k * s.dilation[0]
            column = j * s.stride[1] - s.padding[2] + m * s.dilation[1]
            if 0 <= row < s.ih and 0 <= column < s.iw:
                y[n, o, i, j] += x[n, first + c, row, column] * w[o, c, k, m]
    return {"y": y}


SKIPPED = {
    "border": ConvShape(1, 2, 5, 6, 3, 3, 3, padding=1),
    "few input channels": ConvShape(1, 9, 4, 5, 3, 3, 3, padding=(2, 1, 1, 2)),
    "stride": ConvShape(1, 2, 6, 7, 3, 3, 3, 2, 1),
    "wide padding": ConvShape(1, 2, 3, 3, 2, 3, 3, padding=11),
    "a border of many tiles": ConvShape(1, 1, 1, 3, 17, 3, 3, padding=(1, 1, 120, 120)),
    "depthwise": ConvShape(1, 18, 5, 6, 18, 3, 3, padding=1, groups=18),
    "depthwise, stride": ConvShape(1, 18, 6, 7, 18, 3, 3, 2, 1, groups=18),
    "far taps": ConvShape(1, 2, 3, 13, 2, 3, 3, padding=(4, 4, 6, 6), dilation=(4, 6)),
}


@answering("conv")
@pytest.mark.parametrize("case", SKIPPED)
@pytest.mark.parametrize("tap", [(0, 0), (1, 2), (2, 1)])
def test_an_infinite_weight_does_not_meet_the_padding(algorithm, case, tap):
    """0 * infinity would be NaN; there is no 0."""
    problem = Problem("conv", SKIPPED[case])
    for machine, layout in product(MACHINES, ("nhwc", "nchw")):
        problem = replace(problem, x_layout=layout)
        inputs = random_inputs(problem, 2)
        inputs["x"] = np.abs(inputs["x"]) + 1
        inputs["w"][:, :, tap[0], tap[1]] = np.inf
        if algorithm.refuses(problem, machine) is None:
            result = solved(algorithm, problem, machine, inputs)
            assert not np.isnan(result["y"]).any()
            assert_equal(result, skipping(inputs["x"], inputs["w"], problem.shape))


@answering("grad_x")
@pytest.mark.parametrize("case", SKIPPED)
def test_an_infinite_weight_meets_no_gradient_beyond_the_edge(algorithm, case):
    problem = Problem("grad_x", SKIPPED[case])
    for machine in MACHINES:
        inputs = random_inputs(problem, 3)
        inputs["g"] = np.abs(inputs["g"]) + 1
        wanted = answers(problem, inputs)["dx"]
        inputs["w"][:, :, 0, 0] = np.inf
        if algorithm.refuses(problem, machine) is None:
            dx = solved(algorithm, problem, machine, inputs)["dx"]
            assert not np.isnan(dx).any()
            np.testing.assert_array_equal(dx[np.isfinite(dx)], wanted[np.isfinite(dx)])


@answering("grad_x")
@settings(max_examples=12)
@given(conv_shapes(), machines, seeds)
def test_the_input_gradient_spreads_nan_to_its_window_only(algorithm, shape, machine, seed):
    problem = Problem("grad_x", shape)
    assume(algorithm.refuses(problem, machine) is None)
    inputs = random_inputs(problem, seed)
    inputs["g"] = sprinkled(inputs["g"], seed)
    inputs["w"] = np.abs(inputs["w"]) + 1
    touched = answers(problem, {"g": ~np.isfinite(inputs["g"]) * 1.0, "w": inputs["w"]})["dx"] > 0
    dx = solved(algorithm, problem, machine, inputs)["dx"]
    np.testing.assert_array_equal(np.isfinite(dx), ~touched)


@answering("grad_w")
@settings(max_examples=12)
@given(conv_shapes(), machines, seeds)
def test_the_weight_gradient_of_a_nan_is_nan_where_it_is_met(algorithm, shape, machine, seed):
    problem = Problem("grad_w", shape)
    assume(algorithm.refuses(problem, machine) is None)
    inputs = random_inputs(problem, seed)
    rng = np.random.default_rng(seed)
    where = tuple(rng.integers(0, size) for size in shape.x_shape)
    inputs["g"] = np.abs(inputs["g"]) + 1
    spot = np.zeros(shape.x_shape)
    spot[where] = 1
    touched = answers(problem, {"x": spot, "g": inputs["g"]})["dw"] > 0
    right = answers(problem, inputs)["dw"]
    inputs["x"][where] = np.nan
    dw = solved(algorithm, problem, machine, inputs)["dw"]
    np.testing.assert_array_equal(dw, np.where(touched, np.nan, right))


def torch_max_pool(s, x):
    """PyTorch's values, and its winners as positions in their windows."""
    y, at = torch.nn.functional.max_pool2d(
        torch.from_numpy(x), (s.kh, s.kw), s.stride, s.padding[::2], s.dilation, s.ceil_mode, return_indices=True
    )
    rows, columns = np.divmod(at.numpy(), s.iw)
    rows += s.padding[0] - np.arange(s.oh)[:, None] * s.stride[0]
    columns += s.padding[2] - np.arange(s.ow) * s.stride[1]
    return {"y": y.numpy(), "winners": rows // s.dilation[0] * s.kw + columns // s.dilation[1]}


@answering("max_pool")
@settings(max_examples=30)
@given(pool_shapes(), machines, seeds, st.sampled_from([0.0, 0.1, 0.6, 1.0]), st.booleans())
def test_max_pools_winners_are_pytorchs(algorithm, shape, machine, seed, share, nhwc):
    """With ties, NaN and infinity: the first of equals, the last NaN; also where all is minus infinity."""
    top, _, left, _ = shape.padding
    try:
        shape = replace(shape, padding=(top, top, left, left))  # all that PyTorch knows
    except ShapeError:
        reject()
    # Where a dilated window steps over the whole image, PyTorch's winner lies outside of it, or of the memory.
    assume(np.isfinite(oracle.max_pool(np.zeros(shape.x_shape), shape)[0]).all())
    layout = "nhwc" if nhwc else "nchw"
    problem = Problem("max_pool", shape, x_layout=layout, y_layout=layout)
    assume(algorithm.refuses(problem, machine) is None)
    x = sprinkled(random_inputs(problem, seed)["x"], seed, share)
    assert_equal(solved(algorithm, problem, machine, {"x": x}), torch_max_pool(shape, x))


@answering("max_pool")
@pytest.mark.parametrize("value", [-np.inf, np.nan, 0.0])
def test_a_window_of_equals(algorithm, value):
    shape = PoolShape(1, 17, 5, 6, 3, 3, 2, 1, ceil_mode=True)
    problem = Problem("max_pool", shape)
    x = np.full(shape.x_shape, value, np.float32)
    for machine in MACHINES:
        assert_equal(solved(algorithm, problem, machine, {"x": x}), torch_max_pool(shape, x))


@answering("avg_pool")
def test_an_average_of_nan_and_infinity(algorithm):
    shape = PoolShape(1, 17, 7, 8, 3, 3, 2, 1)
    problem = Problem("avg_pool", shape)
    x = sprinkled(random_inputs(problem, 1)["x"], 1)
    wanted = torch.nn.functional.avg_pool2d(torch.from_numpy(x.astype(np.float64)), 3, 2, 1).numpy()
    for machine in MACHINES:
        assert_equal(solved(algorithm, problem, machine, {"x": x}), {"y": wanted})


@answering("max_pool_grad")
def test_a_loser_of_an_infinite_gradient_gets_zero(algorithm):
    """Selected, not multiplied by 0: that would be NaN."""
    problem = Problem("max_pool_grad", PoolShape(1, 17, 6, 6, 3, 3, 2, 1))
    inputs = random_inputs(problem, 4)
    inputs["g"][0, :, 1, 1] = np.inf
    wanted = answers(problem, inputs)
    assert np.isinf(wanted["dx"]).any()
    for machine in MACHINES:
        assert_equal(solved(algorithm, problem, machine, inputs), wanted)
