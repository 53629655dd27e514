"""Every algorithm that accepts a problem gives the right answer: exactly on whole numbers, else within the bound."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from problems import (
    ANSWERS,
    FAST,
    MAPS,
    OPS,
    answers,
    assert_equal,
    assert_within,
    bounds,
    machines,
    name,
    problems,
    random_inputs,
    seeds,
    solved,
)

from hapgop.algorithms import ALL

every_answer = pytest.mark.parametrize(("algorithm", "op"), ANSWERS, ids=name)


def drawn(data, algorithm, op):
    """A problem and a machine that the algorithm accepts, and a seed."""
    problem, machine = data.draw(problems(op)), data.draw(machines)
    assume(algorithm.refuses(problem, machine) is None)
    return problem, machine, data.draw(seeds)


def test_every_operation_is_answered():
    assert {op for _, op in ANSWERS} == set(OPS)
    assert {a for a, _ in ANSWERS} == set(ALL) - set(FAST) - set(MAPS)


@every_answer
@settings(max_examples=30)
@given(st.data())
def test_whole_numbers_are_exact(algorithm, op, data):
    problem, machine, seed = drawn(data, algorithm, op)
    inputs = random_inputs(problem, seed)
    assert_equal(solved(algorithm, problem, machine, inputs), answers(problem, inputs))


@pytest.mark.parametrize("algorithm", [a for a, op in ANSWERS if op == "conv"], ids=name)
@settings(max_examples=10)
@given(st.data())
def test_hard_swish_is_within_the_bound(algorithm, data):
    problem, machine, seed = drawn(data, algorithm, "conv")
    problem = replace(problem, activation="hardswish", winners=False)
    inputs = random_inputs(problem, seed, whole=False)
    result, right = solved(algorithm, problem, machine, inputs), answers(problem, inputs)
    assert_within(result, right, bounds(problem, inputs))


@every_answer
@settings(max_examples=15)
@given(st.data())
def test_normal_numbers_are_within_the_bound(algorithm, op, data):
    problem, machine, seed = drawn(data, algorithm, op)
    inputs = random_inputs(problem, seed, whole=False)
    result, right = solved(algorithm, problem, machine, inputs), answers(problem, inputs)
    assert_within(result, right, bounds(problem, inputs))
