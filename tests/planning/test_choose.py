"""The choice is a pure function, and its text tells all of it."""

import time
from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from problems import MACHINES, OPS, machines, problems, usual

from hapgop import engine
from hapgop.algorithms import ALL, Algorithm, Problem, Recipe
from hapgop.errors import InputError
from hapgop.machine import AVX2, AVX512, NEON
from hapgop.planning import Lost, choose, rank
from hapgop.planning.choose import shared
from hapgop.shape import ConvShape, PoolShape

CONV = Problem("conv", ConvShape(1, 3, 32, 32, 6, 5, 5), activation="relu")


@dataclass(frozen=True)
class Stub(Algorithm):
    """An algorithm that says what it is told to."""

    name: str
    time: float = 1.0
    reason: str | None = None

    def refuses(self, problem, machine):
        return self.reason

    def seconds(self, problem, machine):
        return self.time

    def recipe(self, problem, machine):
        return Recipe(key=self.name, build=lambda: None, items=7, tiles="3 pixels x 2 vectors")


class Explosive(Stub):
    """One that must not be asked more than whether it refuses."""

    def seconds(self, problem, machine):
        raise AssertionError("asked for the time of a problem that it refuses")

    recipe = seconds


@settings(max_examples=40)
@given(st.sampled_from(OPS).flatmap(problems), machines)
def test_the_same_problem_has_the_same_plan(problem, machine):
    assume(any(a.refuses(problem, machine) is None for a in ALL))
    one, two = choose(problem, machine), choose(replace(problem), replace(machine))
    assert (one.algorithm, one.seconds, one.losers, str(one)) == (two.algorithm, two.seconds, two.losers, str(two))
    assert one.recipe.key == two.recipe.key
    assert (one.problem, one.machine) == (problem, machine)
    assert one.algorithm.refuses(problem, machine) is None
    assert {one.algorithm.name, *(lost.algorithm for lost in one.losers)} == {a.name for a in ALL}
    assert len(one.losers) == len(ALL) - 1


@pytest.mark.parametrize("op", OPS)
def test_the_winner_is_the_fastest_of_those_that_accept(op):
    for problem in usual(op):
        for machine in (AVX512, AVX2, NEON, *MACHINES):
            able = [a for a in ALL if a.refuses(problem, machine) is None]
            plan = choose(problem, machine)

            def time(algorithm, problem=problem, machine=machine):
                items = algorithm.recipe(problem, machine).items
                return shared(algorithm.seconds(problem, machine), items, machine.cores)

            alike = [a for a in able if time(a) <= 1.05 * min(map(time, able))]
            assert plan.algorithm in alike
            assert plan.algorithm.growth(problem) == min(a.growth(problem) for a in alike)
            assert plan.seconds == plan.algorithm.seconds(problem, machine)


def test_of_those_about_as_fast_the_most_accurate_is_taken():
    problem = Problem("conv", ConvShape(4, 64, 28, 28, 64, 3, 3, padding=1))
    ranking = rank(problem, AVX512)
    times = {"winograd F(4x4, 3x3)": 1.0e-3, "winograd F(2x2, 3x3)": 1.04e-3, "direct": 1.06e-3}
    assert ranking.plan(times).algorithm.name == "winograd F(2x2, 3x3)"
    assert ranking.plan({**times, "direct": 1.05e-3}).algorithm.name == "direct"
    assert ranking.plan({**times, "winograd F(2x2, 3x3)": 1.1e-3}).algorithm.name == "winograd F(4x4, 3x3)"


def test_work_that_cannot_be_shared_counts_in_full():
    assert shared(1.0, 1, 4) == 1.0
    assert shared(1.0, 4, 4) == 0.25
    assert shared(1.0, 5, 4) == 0.4
    assert shared(1e-6, 100, 4) == 1e-6  # too little for a second thread


def test_the_predicted_time_decides():
    plan = choose(CONV, AVX512, [Stub("slow", 3.0), Stub("fast", 1.5), Stub("middle", 2.0)])
    assert plan.algorithm.name == "fast"
    assert plan.losers == (
        Lost("middle", "predicted 1.33 times as long"),
        Lost("slow", "predicted 2.00 times as long"),
    )


def test_of_equals_the_first_is_taken():
    assert choose(CONV, AVX512, [Stub("one"), Stub("two")]).algorithm.name == "one"


def test_who_refuses_is_asked_no_further():
    plan = choose(CONV, AVX512, [Explosive("special", reason="wants a 3x3 filter, not 5x5"), Stub("general")])
    assert plan.algorithm.name == "general"
    assert plan.losers == (Lost("special", "wants a 3x3 filter, not 5x5"),)


def test_without_any_algorithm_it_refuses():
    with pytest.raises(InputError, match="no algorithm takes conv"):
        choose(CONV, AVX512, [])


def test_where_all_refuse_every_reason_is_told_that_of_the_most_general_first():
    able = [Stub("a", reason="wants stride 1"), Stub("pool", reason="computes pools"), Stub("b", reason="wants 8 rows")]
    with pytest.raises(InputError) as caught:
        choose(CONV, AVX512, able)
    assert str(caught.value).splitlines() == ["no algorithm takes conv: b wants 8 rows", "  not a: wants stride 1"]


def test_a_refusal_is_as_long_as_what_concerns_the_operation():
    def refused(*given):
        with pytest.raises(InputError) as caught:
            choose(Problem(*given), AVX512)
        return str(caught.value).splitlines()

    plain = ("nhwc", "nchw", "oihw")
    assert refused("batch_norm", PoolShape(1, 8, 9, 9, 1, 1), "float32", *plain) == [
        "no algorithm takes batch_norm: batch norm wants the channels last"
    ]
    assert len(refused("batch_norm", PoolShape(1, 8, 9, 9, 1, 1), "bfloat16")) == 1
    first, *others = refused("grad_x", ConvShape(1, 8, 99, 99, 16, 3, 3, stride=20))
    assert first == (
        "no algorithm takes grad_x: direct has code for each pixel between the strides, and 400 are too many"
    )
    assert all(line.startswith("  not ") for line in others)
    assert "  not depthwise: takes one input channel a group, and more than one group" in others
    assert not any("batch norm" in line or "relu" in line for line in others)


def test_the_text_tells_winner_and_losers():
    plan = choose(CONV, AVX512, [Stub("a", 2e-3), Stub("b", 1e-3), Stub("c", reason="wants stride 2")])
    assert str(plan).splitlines() == [
        "conv 1 x 3 x 32 x 32 -> 1 x 6 x 28 x 28, filter 5 x 5, float32, relu",
        "  on AVX-512 (avx512, 4 cores)",
        "  takes b: tiles of 3 pixels x 2 vectors, 7 work items, predicted 1 ms on one core (1 GFLOP/s)",
        "  not a: predicted 2.00 times as long",
        "  not c: wants stride 2",
    ]


@pytest.mark.parametrize(("seconds", "text"), [(2.5, "2.5 s"), (0.0125, "12.5 ms"), (3.4567e-6, "3.46 us")])
def test_times_in_their_unit(seconds, text):
    assert f"predicted {text} on one core" in str(choose(CONV, AVX512, [Stub("a", seconds)]))


@pytest.mark.parametrize("op", OPS)
def test_every_operations_text(op):
    for problem in usual(op):
        text = str(choose(problem, AVX2))
        lines = text.splitlines()
        assert lines[0].startswith(f"{op} ")
        assert all(str(size) in lines[0] for size in (*problem.shape.x_shape, *problem.shape.y_shape))
        assert lines[1] == "  on AVX2 (avx2, 4 cores)"
        assert lines[2].startswith("  takes ")
        reasons = {algorithm.name: algorithm.refuses(problem, AVX2) for algorithm in ALL}
        elsewhere = [name for name, reason in reasons.items() if reason and reason.startswith("computes ")]
        assert len(lines) - ("  error at most" in text) == 2 + len(ALL) - len(elsewhere)
        for name, reason in reasons.items():
            if reason is not None:
                assert (f"  not {name}: {reason}" in lines) == (name not in elsewhere)


def test_the_engines_plan_is_this_machines():
    shape = ConvShape(1, 3, 32, 32, 6, 5, 5)
    plan = engine.describe(shape)
    assert plan.problem == Problem("conv", shape)
    assert str(plan) == str(engine.plan_for(Problem("conv", shape)))
    assert engine.describe(shape, "grad_w", "float64").problem == Problem("grad_w", shape, "float64")
    assert engine.describe(PoolShape(1, 3, 8, 8, 2, 2)).problem.op == "max_pool"


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("op", "conf", "op is 'conf'; it has to be one of 'conv', 'grad_x'"),
        ("dtype", "float16", "dtype is 'float16'; it has to be one of 'float32', 'float64'"),
        ("x_layout", "chwn", "x_layout is 'chwn'; it has to be one of 'nchw', 'nhwc'"),
        ("y_layout", "NHWC", "y_layout is 'NHWC'"),
        ("w_layout", "hwio", "w_layout is 'hwio'; it has to be one of 'oihw', 'ohwi'"),
        ("activation", "gelu", "activation is 'gelu'; it has to be one of None, 'relu'"),
        ("op", "max_pool", "max_pool wants a PoolShape, not ConvShape"),
    ],
)
def test_a_problem_that_makes_no_sense(field, value, wanted):
    with pytest.raises(InputError) as caught:
        replace(CONV, **{field: value})
    assert str(caught.value).startswith(wanted)


def test_a_convolution_wants_its_shape():
    with pytest.raises(InputError, match="grad_w wants a ConvShape, not PoolShape"):
        Problem("grad_w", PoolShape(1, 3, 8, 8, 2, 2))


def test_what_was_measured_decides():
    ranking = rank(CONV, AVX512, [Stub("slow", 3e-3), Stub("fast", 1e-3), Stub("middle", 2e-3)])
    plan = ranking.plan({"middle": 1e-4, "fast": 2e-4, "gone": 1e-9})
    assert (plan.algorithm.name, plan.seconds, plan.measured) == ("middle", 2e-3, 1e-4)
    assert plan.losers == (
        Lost("fast", "measured 2.00 times as long"),
        Lost("slow", "predicted 1.50 times as long"),
    )
    assert "  measured 100 us a call, when the candidates were compared" in str(plan).splitlines()
    assert ranking.plan({"gone": 1.0}) == ranking.plan()


def test_those_that_come_close():
    ranking = rank(CONV, AVX512, [Stub("slow", 3e-3), Stub("fast", 1e-3), Stub("middle", 2e-3)])
    assert [c.algorithm.name for c in ranking.close(2.0, 9)] == ["fast", "middle"]
    assert [c.algorithm.name for c in ranking.close(9.0, 2)] == ["fast", "middle"]


@pytest.mark.parametrize("machine", [AVX2, AVX512])
@pytest.mark.parametrize(
    "shape",
    [
        ConvShape(16, 512, 7, 7, 2048, 1, 1),
        ConvShape(16, 1024, 14, 14, 2048, 1, 1, stride=(2, 2)),
        ConvShape(1, 64, 2048, 2048, 64, 1, 1),
    ],
)
def test_large_layers_are_planned_at_once(shape, machine):
    """As often as planning asks, it does not add up every tile of every pixel."""
    for op in ("conv", "grad_x", "grad_w"):
        before = time.process_time()
        choose(Problem(op, shape, x_layout="nhwc", y_layout="nhwc", w_layout="ohwi"), machine)
        assert time.process_time() - before < 2.0


def test_what_needs_too_much_code_is_refused():
    for shape in (
        ConvShape(1, 3, 64, 64, 8, 16, 16, stride=(16, 16)),
        ConvShape(1, 3, 99, 99, 8, 3, 3, stride=(50, 50)),
    ):
        with pytest.raises(InputError, match="too many"):
            choose(Problem("grad_x", shape), AVX2)


@pytest.mark.parametrize("stride", [2**31 - 1, 2**31, 2**63, 2**70])
def test_strides_beyond_everything_are_planned_at_once(stride):
    shape = ConvShape(2, 8, 9, 9, 16, 3, 3, stride=stride, padding=1)
    for op in ("conv", "grad_w"):
        plan = choose(Problem(op, shape), AVX512)
        assert sum(plan.recipe.scratch) + sum(plan.recipe.private) < 1 << 24, op
        assert plan.problem.shape.y_shape == shape.y_shape
    with pytest.raises(InputError, match="too many"):
        choose(Problem("grad_x", shape), AVX512)


def test_a_gradient_of_more_cases_than_can_be_counted_is_refused():
    side = 2**31 + 3
    shape = ConvShape(1, 3, side, side, 2, 3, 3, stride=2**31)
    with pytest.raises(InputError, match=r"strides of \(2147483648, 2147483648\) are larger"):
        choose(Problem("grad_x", shape), AVX512)
