"""Depthwise convolution where the general suite does not reach: memory beyond the caches, large filters, the choice."""

from dataclasses import replace
from itertools import product

import pytest
from loops import innermost, multiplications, spills
from problems import MACHINES, answers, assert_equal, assert_within, bounds, name, random_inputs, solved

from hapgop import native
from hapgop.algorithms import Problem
from hapgop.algorithms.depthwise import Depthwise
from hapgop.algorithms.depthwise_grad_w import DepthwiseGradW
from hapgop.machine import AVX2, AVX512, NEON
from hapgop.native import compiler
from hapgop.planning import choose
from hapgop.shape import ConvShape

OPS = {"conv": Depthwise(), "grad_x": Depthwise(), "grad_w": DepthwiseGradW()}
every_op = pytest.mark.parametrize("op", OPS)
every_machine = pytest.mark.parametrize("machine", MACHINES, ids=name)

SHAPES = {
    "whole vectors": ConvShape(3, 32, 9, 17, 32, 3, 3, padding=1, groups=32),
    "a tail": ConvShape(2, 21, 8, 18, 21, 3, 3, padding=1, groups=21),
    "stride": ConvShape(2, 48, 11, 19, 48, 5, 5, 2, 2, groups=48),
    "uneven": ConvShape(1, 18, 9, 16, 18, 4, 3, (1, 3), (2, 0, 1, 2), (1, 2), groups=18),
    "a large filter": ConvShape(1, 16, 20, 21, 16, 7, 7, padding=3, groups=16),
    "a filter wider than the registers": ConvShape(1, 19, 4, 40, 19, 3, 33, padding=(1, 1, 16, 16), groups=19),
    "a filter with more taps than the image": ConvShape(1, 16, 3, 3, 16, 7, 7, padding=3, groups=16),
    "one column": ConvShape(2, 33, 40, 1, 33, 5, 1, padding=(2, 2, 0, 0), groups=33),
}


@every_machine
@pytest.mark.parametrize("case", SHAPES)
@every_op
def test_far_memory_changes_no_number(op, case, machine):
    """With caches that hold nothing, inputs are fetched ahead and results stored past them."""
    tiny = replace(machine, l2=1024, l3=3)
    for layout, near in product(("nhwc", "nchw"), (machine, tiny)):
        problem = Problem(op, SHAPES[case], x_layout=layout, y_layout=layout, bias=op == "conv")
        inputs = random_inputs(problem, seed=1)
        assert_equal(solved(OPS[op], problem, near, inputs), answers(problem, inputs))


@every_op
def test_far_memory_makes_another_kernel(op):
    problem, machine = Problem(op, SHAPES["stride"]), MACHINES[0]
    near, far = (OPS[op].recipe(problem, replace(machine, l3=size)).build() for size in (1 << 30, 3))
    assert "streaming=True" not in repr(near)
    assert "Prefetch" not in repr(near)
    assert "Prefetch" in repr(far)
    assert ("streaming=True" in repr(far)) == (op != "grad_w")


@every_op
def test_a_long_sum_is_within_the_bound(op):
    problem = Problem(op, ConvShape(2, 16, 90, 90, 16, 3, 3, padding=1, groups=16))
    inputs = random_inputs(problem, seed=2, whole=False)
    result = solved(OPS[op], problem, MACHINES[0], inputs)
    assert_within(result, answers(problem, inputs), bounds(problem, inputs))


@every_op
def test_what_is_refused(op):
    def reason(shape, machine=MACHINES[0]):
        return OPS[op].refuses(Problem(op, shape), machine)

    assert reason(SHAPES["stride"]) is None
    assert "one input channel" in reason(ConvShape(1, 32, 8, 8, 32, 3, 3, groups=16))
    assert "one input channel" in reason(ConvShape(1, 1, 8, 8, 1, 3, 3))
    assert "not 2" in reason(ConvShape(1, 32, 8, 8, 64, 3, 3, groups=32))
    assert "too wide" in reason(ConvShape(1, 32, 2, 900, 32, 1, 3, padding=(0, 0, 400, 400), dilation=400, groups=32))
    if op == "grad_x":
        assert "classes of columns" in reason(ConvShape(1, 32, 40, 40, 32, 3, 3, 31, 1, groups=32))
    assert OPS[op].refuses(Problem("grad_b", SHAPES["stride"]), MACHINES[0])


@pytest.mark.parametrize("machine", [AVX512, AVX2], ids=name)
@every_op
def test_it_is_chosen(op, machine):
    shape = ConvShape(4, 144, 56, 56, 144, 3, 3, padding=1, groups=144)
    assert choose(Problem(op, shape), machine).algorithm == OPS[op]


@pytest.mark.skipif(not compiler.is_x86(), reason="reads x86 assembly")
@pytest.mark.parametrize("machine", [AVX512, AVX2], ids=name)
@pytest.mark.parametrize("kernel", [3, 5, 7])
@every_op
def test_no_vector_is_spilled(op, kernel, machine):
    for stride in (1, 2):
        shape = ConvShape(1, 64, 56, 56, 64, kernel, kernel, stride, kernel // 2, groups=64)
        program = OPS[op].recipe(Problem(op, shape), machine).build()
        every = innermost(native.assembly(program, machine.cpu))
        most = max(len(multiplications(loop)) for loop in every)
        hottest = [loop for loop in every if len(multiplications(loop)) == most]
        assert most >= 12
        # One class of a stride's rows may move a vector; the loop of the interior may not.
        assert any(not spills(loop) for loop in hottest)
        assert all(len(spills(loop)) <= 2 for loop in hottest)
        if stride == 1:
            assert not any(spills(loop) for loop in every)


def test_large_results_go_past_the_caches_where_a_vector_is_a_line():
    problem = Problem("conv", ConvShape(64, 32, 256, 256, 32, 3, 3, padding=1, groups=32))
    kernels = [repr(Depthwise().recipe(problem, machine).build()) for machine in (AVX512, AVX2, NEON)]
    assert ["streaming=True" in kernel for kernel in kernels] == [True, False, False]
