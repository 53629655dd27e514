"""Direct and narrow convolution where the general suite does not reach: pools, large results, hot loops."""

from dataclasses import replace
from itertools import product

import pytest
from loops import innermost, multiplications, spills
from problems import MACHINES, answers, assert_equal, name, random_inputs, solved

from hapgop import native
from hapgop.algorithms import Problem
from hapgop.algorithms.bias import Bias
from hapgop.algorithms.direct import Direct
from hapgop.algorithms.direct_grad_w import DirectGradW
from hapgop.algorithms.narrow import Narrow
from hapgop.algorithms.registers import fitting
from hapgop.machine import AVX2, AVX512, NEON
from hapgop.native import compiler
from hapgop.planning import choose
from hapgop.shape import ConvShape

every_machine = pytest.mark.parametrize("machine", MACHINES, ids=name)
x86 = pytest.mark.skipif(not compiler.is_x86(), reason="reads x86 assembly")

POOLED = {
    "first layer": ConvShape(2, 3, 12, 34, 10, 3, 3),
    "a row and a column fill no window": ConvShape(1, 1, 9, 31, 6, 5, 5, padding=(2, 2, 2, 0)),
    "whole blocks": ConvShape(3, 16, 6, 6, 64, 3, 3, padding=1),
    "stride": ConvShape(1, 4, 11, 15, 21, 3, 3, 2, 1),
    "groups": ConvShape(1, 6, 5, 6, 40, 3, 3, padding=1, groups=2),
    "pointwise": ConvShape(2, 9, 5, 9, 33, 1, 1),
    "more padding than image": ConvShape(1, 2, 3, 3, 3, 3, 3, padding=4),
}


@every_machine
@pytest.mark.parametrize("case", POOLED)
def test_what_is_pooled_is_right(case, machine):
    for layout, winners, residual in product(("nhwc", "nchw"), (False, True), (False, True)):
        problem = Problem("conv", POOLED[case], "float32", layout, layout, bias=True, activation="relu")
        problem = replace(problem, winners=winners, residual=residual, pooled=True)
        inputs = random_inputs(problem, seed=1)
        assert_equal(solved(Direct(), problem, machine, inputs), answers(problem, inputs))


def test_a_pool_after_a_border_of_many_tiles_is_refused():
    wide = ConvShape(1, 2, 4, 2, 40, 1, 3, padding=(0, 0, 140, 141))
    assert "border" in Direct().refuses(Problem("conv", wide, pooled=True), AVX512)
    assert Direct().refuses(Problem("conv", wide), AVX512) is None


@every_machine
@pytest.mark.parametrize("op", ["conv", "grad_x"])
def test_large_results_change_no_number(op, machine):
    """With a last cache that holds nothing, results are stored past it."""
    for stride, pooled in ((1, False), (2, False), (1, op == "conv")):
        shape = ConvShape(2, 32, 8, 9, 32, 3, 3, stride, 1)
        problem = Problem(op, shape, bias=op == "conv", pooled=pooled)
        inputs = random_inputs(problem, seed=1)
        assert_equal(solved(Direct(), problem, replace(machine, l3=3), inputs), answers(problem, inputs))


def test_large_results_make_another_kernel():
    problem = Problem("grad_x", ConvShape(2, 32, 8, 9, 32, 2, 2, 2))
    near, far = (Direct().recipe(problem, replace(AVX512, l3=size)) for size in (1 << 30, 3))
    assert near.key != far.key
    assert "streaming=True" not in repr(near.build())
    assert "streaming=True" in repr(far.build())


NARROW = {
    "first layer": ConvShape(2, 3, 9, 17, 21, 3, 3, padding=1),
    "stride": ConvShape(1, 3, 14, 23, 40, 7, 7, 2, 3),
    "stride beyond the filter": ConvShape(1, 3, 8, 9, 5, 2, 2, 3),
    "grey": ConvShape(3, 1, 9, 8, 16, 5, 5),
    "large filter": ConvShape(1, 3, 24, 27, 16, 11, 11, 4, 2),
    "a wide filter of stride 1": ConvShape(1, 3, 5, 27, 16, 1, 11, padding=(0, 0, 5, 5)),
    "a pixel": ConvShape(2, 2, 1, 1, 33, 1, 1),
}


@every_machine
@pytest.mark.parametrize("case", NARROW)
def test_few_channels_are_right(case, machine):
    s = NARROW[case]
    turned = replace(s, ic=s.oc, oc=s.ic)
    for layout, w_layout, bias in product(("nhwc", "nchw"), ("oihw", "ohwi"), (False, True)):
        for problem in (
            Problem("grad_x", s, "float32", layout, layout, w_layout),
            Problem("conv", turned, "float32", layout, layout, w_layout, bias, "relu", residual=bias),
        ):
            if Narrow().refuses(problem, machine) is None:
                inputs = random_inputs(problem, seed=1)
                assert_equal(solved(Narrow(), problem, machine, inputs), answers(problem, inputs))


GROUPS_SIDE_BY_SIDE = {
    "four channels, four taps": ConvShape(1, 8, 1, 4, 2, 1, 4, groups=2),
    "five channels, seven taps": ConvShape(2, 10, 3, 9, 6, 2, 7, groups=2),
    "as many as a tile holds": ConvShape(1, 8, 5, 9, 8, 3, 3, padding=1, groups=2),
}


@every_machine
@pytest.mark.parametrize("case", GROUPS_SIDE_BY_SIDE)
def test_groups_side_by_side_are_right(case, machine):
    """Of more channels than a tile of all tap columns holds, too: what a tile reads ends with the image."""
    for layout in ("nhwc", "nchw"):
        problem = Problem("grad_w", GROUPS_SIDE_BY_SIDE[case], "float32", layout, layout)
        inputs = random_inputs(problem, seed=1)
        assert_equal(solved(DirectGradW(), problem, machine, inputs), answers(problem, inputs))


@every_machine
@pytest.mark.parametrize("op", ["conv", "grad_x"])
@pytest.mark.parametrize("width", [14, 15, 31])
def test_wide_filters_of_many_groups_are_right(width, op, machine):
    """Of as many taps as there are registers, groups go one by one."""
    problem = Problem(op, ConvShape(1, 8, 2, 40, 8, 1, width, groups=4))
    inputs = random_inputs(problem, seed=1)
    assert_equal(solved(Direct(), problem, machine, inputs), answers(problem, inputs))


def test_a_bias_of_many_channels_is_a_loop():
    few, many = (
        repr(Bias().recipe(Problem("grad_b", ConvShape(2, 1, 1, 1, c, 1, 1)), AVX512).build()) for c in (4096, 65536)
    )
    assert len(many) < 1.1 * len(few)


def test_what_was_gone_through_once_is_another_kernel():
    """Of a single image the weights' gradient is fetched in another way."""
    machine = replace(AVX512, l2=1 << 20)
    one, two = (
        DirectGradW().recipe(Problem("grad_w", ConvShape(n, 128, 7, 7, 128, 3, 3, padding=1)), machine) for n in (1, 2)
    )
    assert one.key != two.key or one.build() == two.build()


def test_what_narrow_refuses():
    def reason(shape, op="grad_x", machine=AVX512, **more):
        return Narrow().refuses(Problem(op, shape, **more), machine)

    assert reason(NARROW["first layer"]) is None
    assert "not 40" in reason(NARROW["stride"], "conv")
    assert "one group" in reason(ConvShape(1, 4, 8, 8, 4, 3, 3, groups=2))
    assert "not grad_w" in reason(NARROW["stride"], "grad_w")
    assert "pool" in reason(ConvShape(1, 32, 8, 8, 3, 3, 3), "conv", pooled=True)
    assert "classes of columns" in reason(ConvShape(1, 3, 40, 40, 16, 31, 31, 31))
    assert "borders" in reason(ConvShape(1, 3, 2, 900, 32, 1, 3, padding=(0, 0, 400, 400), dilation=400))


def test_the_input_gradient_of_a_first_layer_is_narrow():
    for kernel, stride in ((3, 1), (7, 2), (11, 4)):
        shape = ConvShape(4, 3, 224, 224, 64, kernel, kernel, stride, kernel // 2)
        assert choose(Problem("grad_x", shape), AVX512).algorithm == Narrow()


def test_vectors_are_of_the_size_that_fits():
    assert [fitting(c, "float32", AVX512).vector_bytes for c in (6, 8, 10, 16, 24, 40, 200)] == [
        32, 32, 64, 64, 32, 32, 64
    ]  # fmt: skip
    assert fitting(4, "float64", AVX512).vector_bytes == 32
    assert fitting(6, "float32", AVX2) == AVX2
    assert fitting(2, "float32", NEON) == NEON


def hot(algorithm, problem, machine):
    """The innermost loops with the most multiply-adds."""
    every = innermost(native.assembly(algorithm.recipe(problem, machine).build(), machine.cpu))
    most = max(len(multiplications(loop)) for loop in every)
    return [loop for loop in every if len(multiplications(loop)) == most]


@x86
@pytest.mark.parametrize(
    ("machine", "kernel", "stride", "multiplied"),
    [(AVX512, 3, 1, 7 * 3 * 3), (AVX512, 7, 2, 4 * 3 * 7), (AVX2, 3, 1, 3 * 3), (AVX2, 7, 2, 1 * 3 * 7)],
)
def test_the_narrow_loop_is_all_multiply_adds(machine, kernel, stride, multiplied):
    """Sums of a residue class times the taps of a row, or times the one that is taken at a time."""
    shape = ConvShape(1, 3, 224, 224, 64, kernel, kernel, stride, kernel // 2)
    loops = hot(Narrow(), Problem("grad_x", shape), machine)
    assert len(multiplications(loops[0])) == multiplied
    # One register is too few for what is fetched ahead and the checks of the last rows, in some of the loops.
    assert min(len(spills(loop)) for loop in loops) <= 2
    assert all(len(spills(loop)) <= len(multiplications(loop)) / 8 for loop in loops)


@x86
@pytest.mark.parametrize(("machine", "sums"), [(AVX512, 14), (AVX2, 6)], ids=str)
def test_a_pooled_loop_has_as_many_sums_as_fit_twice(machine, sums):
    shape = ConvShape(1, 3, 66, 66, 8 * machine.vector_bytes // 32, 3, 3)
    loops = hot(Direct(), Problem("conv", shape, bias=True, activation="relu", pooled=True), machine)
    assert len(multiplications(loops[0])) == 3 * sums  # three channels of one tap, or three taps of one channel
    assert not any(spills(loop) for loop in loops)


@every_machine
@pytest.mark.parametrize("pixels", [1, 7, 13, 31, 49, 197])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_last_pixels_of_a_row_share_the_pass_of_the_weights(pixels, batch, machine):
    """What is left over by whole tiles is no stage of its own: that one would read all weights again."""
    problem = Problem("conv", ConvShape(batch, 40, 1, pixels, 70, 1, 1), packed=True, bias=True)
    assert len(Direct().recipe(problem, machine).build().stages) == 1
    inputs = random_inputs(problem, seed=3)
    for threads in (1, 2, 5):
        assert_equal(solved(Direct(), problem, machine, inputs, threads), answers(problem, inputs))


@x86
def test_half_vectors_are_used_where_they_fit():
    (loop, *_) = hot(Direct(), Problem("conv", ConvShape(4, 144, 28, 28, 24, 1, 1)), AVX512)
    assert all("%ymm" in line for line in multiplications(loop))
    assert not spills(loop)


FEW = {
    "LeNet-5's second layer": (ConvShape(3, 6, 14, 14, 16, 5, 5), 3 * 5),
    "a tail of channels, borders": (ConvShape(2, 7, 9, 11, 5, 5, 5, padding=2), 4 * 5),
    "large steps": (ConvShape(2, 3, 31, 29, 12, 11, 11, 4, 2), 2 * 11),
}


@every_machine
@pytest.mark.parametrize("case", FEW)
def test_few_inputs_under_a_wide_filter_have_their_weight_gradient(case, machine):
    problem = Problem("grad_w", FEW[case][0])
    inputs = random_inputs(problem, seed=2)
    assert_equal(solved(DirectGradW(), problem, machine, inputs), answers(problem, inputs))


@x86
@pytest.mark.parametrize("case", FEW)
def test_their_loop_has_as_many_sums_as_hide_its_latency(case):
    shape, sums = FEW[case]
    loops = hot(DirectGradW(), Problem("grad_w", shape), AVX512)
    assert len(multiplications(loops[0])) == sums
    assert not any(spills(loop) for loop in loops)
