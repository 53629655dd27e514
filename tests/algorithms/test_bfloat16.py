"""bfloat16: whole numbers are right to the last bit, others within the bound of float32 and one rounding."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kernels import assert_fences, fenced
from problems import (
    FAST,
    OPS,
    absent,
    answers,
    bounds,
    machines,
    name,
    prepared,
    problems,
    random_inputs,
    seeds,
    tensors,
    usual,
)

from hapgop import engine
from hapgop.algorithms import ALL, Problem, algorithms_of
from hapgop.machine import AVX512
from hapgop.shape import ConvShape
from hapgop.tile import narrowed, widened

BFLOAT16 = algorithms_of("bfloat16")
every_op = pytest.mark.parametrize("op", OPS)


def rounded(numbers):
    return widened(narrowed(np.asarray(numbers, np.float32)))


def inputs_of(problem, seed, whole=True):
    """Inputs that bfloat16 holds exactly, as float32."""
    arrays = random_inputs(replace(problem, dtype="float32"), seed, whole)
    return {key: rounded(values) for key, values in arrays.items()}


def solved(call, problem, inputs, threads=2):
    """A call's outputs, as float32; memory around the tensors stays as it was."""
    pointers, memories, outs = [], [], []
    for t in tensors(problem):
        if absent(problem, t):
            pointers.append(0)
            continue
        given = np.full(np.prod(t.shape), np.nan, np.float32) if t.out else t.flat(inputs[t.name])
        if t.name != "winners":
            given = narrowed(given)
        inside, memory = fenced(given)
        if t.name == "w" and problem.packed:
            dtype = np.float32 if call.plan.recipe.pack else np.uint16
            packed, around = fenced(np.zeros(call.packed_size, dtype))
            call.pack(inside.ctypes.data, packed.ctypes.data, threads)
            assert_fences(memory)
            inside, memory = packed, around
        pointers.append(inside.ctypes.data)
        memories.append(memory)
        if t.out:
            outs.append((t, inside))
    call(*pointers, threads=threads)
    for memory in memories:
        assert_fences(memory)
    return {t.name: t.logical(inside if inside.dtype == np.float32 else widened(inside)) for t, inside in outs}


# The pairs' kernels run anywhere, without the instruction more slowly.
machines = machines.map(lambda machine: replace(machine, bf16=True))


def is_fast(algorithm):
    return getattr(algorithm, "inner", None) in FAST


def narrow_problem(data, op):
    return replace(data.draw(problems(op)), dtype="bfloat16")


# An average is rounded to float32 before it is to bfloat16: twice may be once too often.
@pytest.mark.parametrize("op", [op for op in OPS if not op.startswith("avg")])
@settings(max_examples=25)
@given(st.data(), machines, seeds)
def test_whole_numbers_are_right_to_the_last_bit(op, data, machine, seed):
    problem = narrow_problem(data, op)
    inputs = inputs_of(problem, seed)
    right = {key: rounded(values) for key, values in answers(problem, inputs).items()}
    accepting = [a for a in BFLOAT16 if not is_fast(a) and a.refuses(problem, machine) is None]
    assume(accepting or problem.residual or problem.pooled)
    for algorithm in accepting:
        result = solved(prepared(algorithm, problem, machine), problem, inputs)
        assert result.keys() == right.keys()
        for key, values in result.items():
            np.testing.assert_array_equal(values, right[key], err_msg=f"{algorithm.name} {key}")


@every_op
def test_the_engines_choice_is_within_the_bound(op):
    for problem in usual(op):
        narrow = replace(problem, dtype="bfloat16")
        inputs = inputs_of(problem, 3, whole=False)
        call = engine.prepare(narrow)
        right, allowed = answers(problem, inputs), bounds(problem, inputs)
        for key, values in solved(call, narrow, inputs).items():
            # The sum's own error, then half a unit of the last of eight bits of what is rounded.
            slack = call.plan.algorithm.growth(narrow) * allowed[key]
            slack = slack + (np.abs(right[key]) + slack) * 2.0**-8
            assert (np.abs(values - right[key]) <= slack).all(), f"{call.plan.algorithm.name} {key}"


@every_op
def test_any_number_of_threads_gives_the_same_bits(op):
    for problem in usual(op):
        narrow = replace(problem, dtype="bfloat16")
        inputs, call = inputs_of(problem, 5, whole=False), engine.prepare(narrow)
        alone = solved(call, narrow, inputs, threads=1)
        for key, values in solved(call, narrow, inputs, threads=3).items():
            np.testing.assert_array_equal(values, alone[key])


@pytest.mark.parametrize("algorithm", [a for a in BFLOAT16 if is_fast(a)], ids=name)
def test_fast_algorithms_serve_it_too(algorithm):
    op = "grad_w" if "grad_w" in algorithm.name else "conv"
    # Panels are for more weights than a part of the first cache holds.
    machine = replace(AVX512, cpu="host", l1=AVX512.l1 if algorithm.inner.r > 1 else 4096)
    problem = next((p for p in usual(op) if algorithm.refuses(replace(p, dtype="bfloat16"), machine) is None), None)
    assert problem is not None
    narrow = replace(problem, dtype="bfloat16")
    inputs = inputs_of(problem, 7, whole=False)
    right, allowed = answers(problem, inputs), bounds(problem, inputs)
    for key, values in solved(prepared(algorithm, narrow, machine), narrow, inputs).items():
        slack = algorithm.growth(narrow) * allowed[key] + (np.abs(right[key]) + allowed[key]) * 2.0**-8
        assert (np.abs(values - right[key]) <= slack).all(), key


def test_each_algorithm_has_its_narrow_one():
    assert tuple(a.inner for a in BFLOAT16 if hasattr(a, "inner")) == ALL
    problem = Problem("conv", ConvShape(1, 8, 8, 8, 8, 3, 3))
    assert all("bfloat16" in a.refuses(problem, AVX512) for a in BFLOAT16 if hasattr(a, "inner"))


PAIRED = [a for a in BFLOAT16 if "pairs" in a.name]


@st.composite
def paired_problems(draw, op):
    """What pairs take: an even number of what is summed, channels last; all else as it comes."""
    groups = draw(st.sampled_from([1, 1, 2])) if op != "grad_w" else 1
    ic, oc = draw(st.sampled_from([16, 18, 34])), draw(st.sampled_from([16, 22, 40]))
    k = draw(st.sampled_from([1, 2, 3])) if op != "grad_w" else 1
    stride, dilation, padding = (draw(st.integers(low, 2)) for low in (1, 1, 0)) if op != "grad_w" else (1, 1, 0)
    ih, iw = (draw(st.integers(1 + (k - 1) * dilation, 9)) for _ in range(2))
    n = draw(st.sampled_from([1, 2, 3])) if op != "grad_w" else draw(st.sampled_from([2, 4]))
    shape = ConvShape(n, ic * groups, ih, iw, oc * groups, k, k, stride, padding, dilation, groups)
    conv = op == "conv"
    return Problem(
        op,
        shape,
        "bfloat16",
        y_layout=draw(st.sampled_from(["nhwc", "nchw"])) if conv else "nhwc",
        w_layout=draw(st.sampled_from(["oihw", "ohwi"])),
        bias=conv and draw(st.booleans()),
        activation=draw(st.sampled_from([None, "relu6"])) if conv else None,
        packed=op != "grad_w" and draw(st.booleans()),
        residual=conv and draw(st.booleans()),
        pooled=conv and min(shape.oh, shape.ow) > 1 and draw(st.booleans()),
    )


@pytest.mark.parametrize("op", ["conv", "grad_x", "grad_w"])
@settings(max_examples=40)
@given(st.data(), machines, seeds)
def test_products_of_pairs_are_exact(op, data, machine, seed):
    problem = data.draw(paired_problems(op))
    inputs = inputs_of(problem, seed)
    right = {key: rounded(values) for key, values in answers(problem, inputs).items()}
    taken = [a for a in PAIRED if a.refuses(problem, machine) is None]
    assert taken or problem.pooled
    for algorithm in taken:
        call = prepared(algorithm, problem, machine)
        for threads in (1, 3):
            for key, values in solved(call, problem, inputs, threads).items():
                np.testing.assert_array_equal(values, right[key], err_msg=key)


def test_a_machine_without_the_instruction_has_no_pairs():
    problem = Problem("conv", ConvShape(1, 16, 8, 8, 16, 3, 3), "bfloat16")
    assert "hardware" in PAIRED[0].refuses(problem, replace(AVX512, bf16=False))
    assert PAIRED[0].refuses(problem, replace(AVX512, bf16=True)) is None
