"""The kernels themselves: proved safe for every machine, and the same numbers interpreted, emitted and in any order."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st
from kernels import emitted, staggered
from problems import (
    ANSWERS,
    FAST,
    MACHINES,
    MAPS,
    answers,
    arguments,
    assert_equal,
    machines,
    name,
    outputs,
    prepared,
    problems,
    random_inputs,
    seeds,
    solve,
    solved,
    tensors,
    usual,
)

from hapgop.algorithms import ALL, Problem
from hapgop.machine import AVX2, AVX512, NEON
from hapgop.shape import ConvShape, PoolShape, ShapeError
from hapgop.tile import check, interpret

every_answer = pytest.mark.parametrize(("algorithm", "op"), ANSWERS, ids=name)
NAMED = (AVX512, AVX2, NEON)

small_conv = st.builds(
    lambda ic, oc, size, k, stride, top, left: ConvShape(
        2, 2 * ic, size, size + 1, 2 * oc, k, 3, stride, (top, 1, left, 2), (1, 2), 2
    ),
    st.integers(1, 5),
    st.sampled_from([1, 3, 9]),
    st.integers(4, 6),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 2),
    st.integers(0, 1),
)
small_depthwise = st.builds(
    lambda c, size, k, stride, top, left: ConvShape(
        2, c, size, size + 1, c, k, 3, stride, (top, 1, left, 2), (1, 2), c
    ),
    st.sampled_from([2, 5, 19]),
    st.integers(4, 6),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 2),
    st.integers(0, 1),
)
small_narrow = st.builds(
    lambda ic, oc, size, k, stride, top, left: ConvShape(2, ic, size, size + 1, oc, k, 3, stride, (top, 1, left, 2)),
    st.sampled_from([1, 3, 19]),
    st.sampled_from([1, 3, 17]),
    st.integers(4, 6),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 2),
    st.integers(0, 1),
)
small_pool = st.builds(
    lambda c, size, k, stride, padding, ceil: PoolShape(
        2, c, size, size + 1, k, 2, stride, (padding if k > 1 else 0, 0, 1, padding), ceil_mode=ceil
    ),
    st.sampled_from([1, 5, 19]),
    st.integers(4, 6),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 1),
    st.booleans(),
)


def small(op):
    """Problems that the interpreter can do in a moment."""
    return problems(op, small_pool if "pool" in op else small_conv | small_depthwise | small_narrow)


@every_answer
@settings(max_examples=40)
@given(st.data())
def test_every_kernel_is_proved_safe(algorithm, op, data):
    problem, machine = data.draw(problems(op)), data.draw(st.sampled_from(NAMED))
    assume(algorithm.refuses(problem, machine) is None)
    check(algorithm.recipe(problem, machine).build(), machine.registers)


@pytest.mark.parametrize("machine", NAMED, ids=name)
@every_answer
def test_the_usual_kernels_are_proved_safe(algorithm, op, machine):
    for problem in usual(op):
        if algorithm.refuses(problem, machine) is None:
            check(algorithm.recipe(problem, machine).build(), machine.registers)


@every_answer
@settings(max_examples=12)
@given(st.data())
def test_interpreted_emitted_and_right_are_one(algorithm, op, data):
    problem, machine, seed = data.draw(small(op)), data.draw(machines), data.draw(seeds)
    assume(algorithm.refuses(problem, machine) is None)
    inputs = random_inputs(problem, seed)
    kernel, arrays, sizes = arguments(algorithm, problem, machine, inputs)
    results = emitted(kernel, arrays, sizes)
    interpret(kernel, arrays, sizes)
    interpreted = outputs(problem, kernel, arrays)
    assert_equal(outputs(problem, kernel, {**arrays, **results}), interpreted)
    assert_equal(interpreted, answers(problem, inputs))


@every_answer
@settings(max_examples=6)
@given(st.data())
def test_no_stage_runs_ahead_of_the_one_before(algorithm, op, data):
    """Threads that start one after another, over scratch that starts as NaN."""
    problem, machine, seed = data.draw(problems(op)), data.draw(machines), data.draw(seeds)
    assume(algorithm.refuses(problem, machine) is None)
    inputs = random_inputs(problem, seed)
    kernel, arrays, sizes = arguments(algorithm, problem, machine, inputs)
    results = staggered(kernel, arrays, sizes, data.draw(st.integers(2, 3)))
    assert_equal(outputs(problem, kernel, {**arrays, **results}), answers(problem, inputs))


@every_answer
@settings(max_examples=10)
@given(st.data())
def test_any_number_of_threads_gives_the_same_bits(algorithm, op, data):
    problem, machine, seed = data.draw(problems(op)), data.draw(machines), data.draw(seeds)
    assume(algorithm.refuses(problem, machine) is None)
    inputs = random_inputs(problem, seed, whole=False)
    call = prepared(algorithm, problem, machine)
    alone = solve(call, problem, inputs, threads=1)
    for threads in (2, 3):
        assert_equal(solve(call, problem, inputs, threads), alone)


@st.composite
def neighbours(draw, op):
    """Two problems that differ in one respect."""
    problem, another = draw(problems(op)), draw(problems(op))
    field = draw(
        st.sampled_from(
            [
                "shape",
                "dtype",
                "x_layout",
                "y_layout",
                "w_layout",
                "bias",
                "activation",
                "winners",
                "packed",
                "residual",
                "pooled",
            ]
        )
    )
    if field == "pooled":
        assume(min(problem.shape.oh, problem.shape.ow) > 1)
    if field != "shape":
        other = replace(problem, **{field: getattr(another, field)})
        return problem, other if other.pooled or op != "conv" else replace(other, winners=True)
    shape = problem.shape
    field = draw(st.sampled_from(["n", "ih", "iw", "stride", "padding", "dilation"]))
    value = getattr(shape, field)
    if isinstance(value, int):
        value += 1
    elif field == "padding":  # so that the output keeps its size
        value = (value[1], value[0], value[3], value[2])
    else:
        value = (value[1], value[0] + draw(st.integers(0, 1)))
    try:
        return problem, replace(problem, shape=replace(shape, **{field: value}))
    except ShapeError:
        reject()


def assert_one_key_is_one_kernel(algorithm, *answered):
    """Else a kernel from the cache would answer another problem, or another machine's."""
    one, two = (algorithm.recipe(problem, machine) for problem, machine in answered)
    if one.key == two.key:
        assert one.build() == two.build()
        assert [t.tolist() for t in one.tables] == [t.tolist() for t in two.tables]


@every_answer
@settings(max_examples=60)
@given(st.data())
def test_a_key_names_the_problem(algorithm, op, data):
    (problem, other), machine = data.draw(neighbours(op)), data.draw(machines)
    assume(algorithm.refuses(problem, machine) is None and algorithm.refuses(other, machine) is None)
    assert_one_key_is_one_kernel(algorithm, (problem, machine), (other, machine))


@pytest.mark.parametrize("field", ["vector_bytes", "registers", "l1", "l2", "l3", "cores"])
@every_answer
def test_a_key_names_the_machine(algorithm, op, field):
    for problem, machine in product(usual(op), MACHINES):
        less = replace(machine, **{field: getattr(machine, field) // 2 or 2})
        if algorithm.refuses(problem, machine) is None is algorithm.refuses(problem, less):
            assert_one_key_is_one_kernel(algorithm, (problem, machine), (problem, less))


@pytest.mark.parametrize("cores", [1, 2, 4])
@every_answer
def test_a_key_names_what_a_batch_changes(algorithm, op, cores):
    """The batch size is passed at run time, but some choices depend on it."""
    machine = replace(MACHINES[0], cores=cores)
    shapes = (
        [PoolShape(1, 20, 2, 2, 2, 2)]
        if "pool" in op
        else [
            ConvShape(1, 20, size, size, 36, kernel, kernel, padding=kernel // 2)
            for size, kernel in ((2, 3), (1, 1), (3, 1))
        ]
    )
    for shape, layout in product(shapes, ("oihw", "ohwi")):
        kernels = {}
        for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 31, 32, 33):
            problem = Problem(op, shape.with_batch(n), w_layout=layout)
            if algorithm.refuses(problem, machine) is None:
                recipe = algorithm.recipe(problem, machine)
                kernel = recipe.build()
                assert kernels.setdefault(recipe.key, kernel) == kernel, n


@every_answer
@settings(max_examples=40)
@given(st.data())
def test_a_recipe_brings_what_its_kernel_takes(algorithm, op, data):
    """Tensors, tables, scratch of the right size, sizes: else a call would read addresses from beyond its words."""
    problem, machine = data.draw(problems(op)), data.draw(machines)
    assume(algorithm.refuses(problem, machine) is None)
    recipe = algorithm.recipe(problem, machine)
    kernel = recipe.build()
    values = dict(zip(kernel.sizes, recipe.sizes, strict=True))
    wanted = [np.prod(t.shape) for t in tensors(problem)] + [t.size for t in recipe.tables]
    wanted += [*recipe.scratch, *recipe.private]
    if problem.packed and recipe.pack:
        wanted[1] = recipe.pack.size
        packing = recipe.pack.build()
        values_of = dict(zip(packing.sizes, recipe.pack.sizes, strict=True))
        assert [b.size.value(values_of) for b in packing.buffers] == [
            np.prod(problem.shape.w_shape),
            recipe.pack.size,
            *recipe.pack.scratch,
        ]
        assert [b.role for b in packing.buffers] == ["in", "out"] + ["scratch"] * len(recipe.pack.scratch)
        assert (packing.dtype, packing.lanes) == (problem.dtype, kernel.lanes)
        check(packing, machine.registers)
    else:
        assert recipe.pack is None
    assert [b.size.value(values) for b in kernel.buffers] == wanted
    roles = ["out" if t.out else "in" for t in tensors(problem)] + ["in"] * len(recipe.tables)
    roles += ["scratch"] * len(recipe.scratch) + ["private"] * len(recipe.private)
    assert [b.role for b in kernel.buffers] == roles
    assert all(s.low <= v <= s.high for s, v in values.items())
    assert all(t.dtype == problem.dtype and t.flags.c_contiguous for t in recipe.tables)
    assert kernel.dtype == problem.dtype
    # Whole vectors, or halves where channels are few.
    assert kernel.lanes in (machine.lanes(problem.dtype), machine.lanes(problem.dtype) // 2)


@pytest.mark.parametrize("algorithm", [a for a in ALL if a not in MAPS], ids=name)
def test_what_an_algorithm_says_of_itself(algorithm):
    """Reasons, times and keys are words and numbers."""
    keys = set()
    for op in {op for _, op in ANSWERS}:
        for problem in usual(op):
            for machine in MACHINES:
                reason = algorithm.refuses(problem, machine)
                if reason is not None:
                    assert len(reason.split()) > 1
                    continue
                assert 0 < algorithm.seconds(problem, machine) < 1
                recipe = algorithm.recipe(problem, machine)
                assert recipe.items >= 1
                assert recipe.tiles
                assert recipe.key == algorithm.recipe(problem, machine).key
                keys.add(recipe.key)
    # Of the usual problems, a fast algorithm takes one or two, and not with few registers.
    assert len(keys) > (1 if algorithm in FAST else len(MACHINES))


@pytest.mark.parametrize(("algorithm", "op"), [a for a in ANSWERS if a[1] in ("conv", "grad_x")], ids=name)
@settings(max_examples=25)
@given(st.data())
def test_packed_weights_give_the_same_bits(algorithm, op, data):
    """Wherever both are taken: packing ahead changes when the weights are laid out, not what is computed."""
    problem, machine = replace(data.draw(problems(op)), packed=False), data.draw(machines)
    ahead = replace(problem, packed=True)
    assume(algorithm.refuses(problem, machine) is None and algorithm.refuses(ahead, machine) is None)
    inputs = random_inputs(problem, data.draw(seeds), whole=False)
    wanted = solved(algorithm, problem, machine, inputs)
    assert_equal(solved(algorithm, ahead, machine, inputs), wanted)
