"""A few shapes for each thing that can go wrong, exact: the first tests to run after a change.

`tests/planted` plants bugs and asks that these tests find them.
"""

from dataclasses import replace

import numpy as np
import pytest
from kernels import staggered
from problems import (
    ANSWERS,
    MACHINES,
    answers,
    arguments,
    assert_equal,
    name,
    outputs,
    prepared,
    random_inputs,
    solve,
    solved,
)

from hapgop.algorithms import Problem
from hapgop.algorithms.pool import Pool
from hapgop.shape import ConvShape, PoolShape

CONVS = {
    "border": ConvShape(2, 5, 7, 19, 21, 3, 3, padding=1),
    "border, the other way": ConvShape(2, 5, 7, 19, 21, 3, 3, padding=(0, 2, 2, 0)),
    "whole blocks": ConvShape(3, 16, 6, 6, 32, 3, 3, padding=1),
    "stride 2": ConvShape(1, 8, 9, 10, 20, 3, 3, 2, 1),
    "stride beyond the filter": ConvShape(1, 4, 8, 9, 5, 2, 2, 3),
    "dilation": ConvShape(1, 3, 9, 9, 4, 3, 3, padding=2, dilation=2),
    "groups": ConvShape(2, 6, 5, 6, 40, 3, 3, padding=1, groups=2),
    "depthwise": ConvShape(2, 18, 6, 7, 18, 3, 3, padding=1, groups=18),
    "depthwise, stride 2": ConvShape(3, 37, 9, 12, 37, 5, 5, 2, 2, groups=37),
    "pointwise with pixels left over": ConvShape(1, 9, 5, 9, 33, 1, 1),
    "a batch of single pixels": ConvShape(19, 10, 1, 1, 12, 1, 1),
    "a batch of single pixels, padded": ConvShape(3, 10, 1, 1, 12, 1, 1, padding=(0, 0, 0, 1)),
    "small maps, few": ConvShape(4, 20, 2, 2, 36, 3, 3, padding=1),
    "small maps, more": ConvShape(5, 20, 2, 2, 36, 3, 3, padding=1),
    "padding wider than the image": ConvShape(1, 2, 3, 3, 3, 3, 3, padding=12),
    "taps further apart than the image": ConvShape(1, 2, 5, 40, 3, 3, 3, padding=(3, 3, 17, 17), dilation=(3, 17)),
    "a border of many tiles": ConvShape(1, 2, 2, 2, 40, 1, 3, padding=(0, 0, 140, 141)),
    "borders of many tiles around an interior": ConvShape(
        1, 3, 2, 330, 40, 2, 3, padding=(1, 0, 99, 99), dilation=(1, 99)
    ),
    "many columns of border, few input channels": ConvShape(2, 2, 3, 9, 5, 3, 3, padding=(1, 1, 20, 20)),
    "first layer": ConvShape(18, 3, 8, 8, 6, 5, 5),
}
POOLS = {
    "tiled": PoolShape(2, 70, 7, 9, 2, 2),
    "overlapping": PoolShape(2, 18, 8, 9, 3, 3, 2, 1),
    "rounded up": PoolShape(1, 5, 6, 8, 3, 3, 2, ceil_mode=True),
    "dilated": PoolShape(1, 5, 9, 9, 2, 3, 1, (1, 0, 1, 1), 2),
    "a large window": PoolShape(1, 5, 11, 12, 5, 6, 5, (2, 2, 3, 3)),
    "windows of nothing but padding": PoolShape(1, 5, 1, 2, 1, 2, 1, (0, 0, 1, 1), (1, 3)),
    "gaps": PoolShape(1, 5, 9, 9, 2, 2, 3),
}
LAYOUTS = (
    ("nhwc", "nhwc", "oihw"),
    ("nhwc", "nhwc", "ohwi"),
    ("nchw", "nchw", "oihw"),
    ("nhwc", "nchw", "ohwi"),
    ("nchw", "nchw", "ohwi"),
)
CASES = [(algorithm, op, case) for algorithm, op in ANSWERS for case in (POOLS if "pool" in op else CONVS)]
every_case = pytest.mark.parametrize(("algorithm", "op", "case"), CASES, ids=name)


def plain(op, case):
    return Problem(op, (POOLS if "pool" in op else CONVS)[case])


def variants(op, case):
    """The problem in every layout, with everything that can be switched on."""
    problem = plain(op, case)
    for i, (x, y, w) in enumerate(LAYOUTS if op == "conv" else LAYOUTS[::2]):
        yield replace(
            problem,
            x_layout=x,
            y_layout=y,
            w_layout="oihw" if "pool" in op else w,
            bias=op == "conv" and i % 2 == 0,
            activation="relu" if op == "conv" and i < 2 else None,
            count_include_pad=i == 0 or not op.startswith("avg"),
            winners=i == 0 or op != "max_pool",
            packed=op in ("conv", "grad_x") and i % 2 == 1,
        )


@every_case
def test_the_answer_is_exact(algorithm, op, case):
    machine = MACHINES[0]
    for problem in variants(op, case):
        if algorithm.refuses(problem, machine) is None:
            inputs = random_inputs(problem, seed=1)
            assert_equal(solved(algorithm, problem, machine, inputs), answers(problem, inputs))


@pytest.mark.parametrize("machine", MACHINES[1:], ids=name)
@every_case
def test_the_answer_is_exact_in_narrower_vectors(algorithm, op, case, machine):
    problem = plain(op, case)
    if algorithm.refuses(problem, machine) is None:
        inputs = random_inputs(problem, seed=2)
        assert_equal(solved(algorithm, problem, machine, inputs), answers(problem, inputs))


@every_case
def test_threads_wait_for_one_another(algorithm, op, case):
    """Two threads, the second a moment late, over scratch that starts as NaN."""
    problem, machine = plain(op, case), MACHINES[0]
    if algorithm.refuses(problem, machine) is None:
        inputs = random_inputs(problem, seed=3)
        kernel, arrays, sizes = arguments(algorithm, problem, machine, inputs)
        results = staggered(kernel, arrays, sizes)
        assert_equal(outputs(problem, kernel, {**arrays, **results}), answers(problem, inputs))


@pytest.mark.parametrize(("algorithm", "op"), ANSWERS, ids=name)
def test_a_second_call_starts_afresh(algorithm, op):
    """Nothing is left of the first call's numbers, in no output and no sum."""
    problem, machine = plain(op, "overlapping" if "pool" in op else "border"), MACHINES[0]
    if algorithm.refuses(problem, machine) is None:
        call = prepared(algorithm, problem, machine)
        for seed in (4, 5):
            inputs = random_inputs(problem, seed)
            assert_equal(solve(call, problem, inputs), answers(problem, inputs))


@pytest.mark.parametrize(("algorithm", "op"), [a for a in ANSWERS if a[1] in ("conv", "max_pool")], ids=name)
def test_nan_passes_through(algorithm, op):
    """Through sums, through ReLU, and through comparisons; and no further than its windows."""
    problem, machine = plain(op, "overlapping" if op == "max_pool" else "border"), MACHINES[0]
    if op == "conv":
        problem = replace(problem, activation="relu6")
    if algorithm.refuses(problem, machine) is None:
        inputs = random_inputs(problem, seed=6)
        inputs["x"][0, 2, 3, 4] = np.nan
        right = answers(problem, inputs)
        assert np.isnan(right["y"]).any()
        assert not np.isnan(right["y"]).all()
        assert_equal(solved(algorithm, problem, machine, inputs), right)


@pytest.mark.parametrize("algorithm", [a for a, op in ANSWERS if op == "max_pool"], ids=name)
def test_the_winner_of_minus_infinity_is_inside(algorithm):
    problem = plain("max_pool", "overlapping")
    inputs = {"x": np.full(problem.shape.x_shape, -np.inf, np.float32)}
    assert_equal(solved(algorithm, problem, MACHINES[0], inputs), answers(problem, inputs))


def test_a_window_of_more_places_than_float32_counts_is_refused():
    problem = Problem("max_pool", PoolShape(1, 1, 4097, 4097, 4097, 4097))
    reason = Pool().refuses(problem, MACHINES[0])
    assert reason == "writes winners as float32, which counts to 16777216, but a window has 4097 x 4097 places"
    for other in ({"dtype": "float64"}, {"winners": False}, {"op": "avg_pool"}, {"shape": PoolShape(1, 1, 9, 9, 9, 9)}):
        assert Pool().refuses(replace(problem, **other), MACHINES[0]) is None
