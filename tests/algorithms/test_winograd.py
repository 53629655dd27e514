"""Fast convolution: the triples are exact; every kernel is safe, right within its bound, and the same for any team."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kernels import staggered
from problems import (
    FAST,
    MACHINES,
    activated,
    answers,
    arguments,
    assert_equal,
    assert_within,
    bounds,
    machines,
    name,
    outputs,
    prepared,
    random_inputs,
    seeds,
    solve,
    solved,
)

from hapgop import engine, oracle
from hapgop.algorithms import ALL, Problem
from hapgop.algorithms.winograd import Winograd, WinogradGradW, tiling
from hapgop.algorithms.winograd.grad_w_work import Work
from hapgop.algorithms.winograd.points import gradient, triple
from hapgop.algorithms.winograd.tiling import Tiling
from hapgop.algorithms.winograd.transform import sandwich
from hapgop.errors import InputError
from hapgop.machine import AVX512, host
from hapgop.planning import choose
from hapgop.shape import ConvShape
from hapgop.tile import Builder, check, interpret

CASES = [
    (a, op) for a in FAST for op in ("conv", "grad_x", "grad_w") if (op == "grad_w") == isinstance(a, WinogradGradW)
]
every_case = pytest.mark.parametrize(("algorithm", "op"), CASES, ids=name)


@st.composite
def problems(draw, algorithm, op):
    """What the algorithm takes: ragged sizes and channels, few tiles and many, groups, both orders of the weights."""
    r, groups = algorithm.r, draw(st.sampled_from([1, 1, 1, 2]))
    ic, oc = draw(st.sampled_from([8, 16, 19, 40])), draw(st.sampled_from([8, 16, 21, 37]))
    ih, iw = (draw(st.integers(r, 15)) for _ in range(2))
    padding = [draw(st.integers(0, r - 1)) for _ in range(4)]
    if op == "grad_x" and algorithm.stride > 1:
        padding[2] = padding[0] % algorithm.stride  # rows and columns have one order of residue classes
    n = draw(st.sampled_from([1, 2, 3, 11]))
    dilation = (1, 1)
    if algorithm.stride == 1 and draw(st.booleans()):
        dilation = draw(st.sampled_from([(2, 2), (1, 3), (4, 1)]))
        ih, iw = ih + (r - 1) * (dilation[0] - 1), iw + (r - 1) * (dilation[1] - 1)
    shape = ConvShape(n, ic * groups, ih, iw, oc * groups, r, r, algorithm.stride, tuple(padding), dilation, groups)
    residual, pooled = (op == "conv" and draw(st.booleans()) for _ in range(2))
    pooled = pooled and min(shape.oh, shape.ow) > 1 and dilation == (1, 1) and algorithm.m % 2 == 0
    return Problem(
        op,
        shape,
        draw(st.sampled_from(["float32", "float32", "float64"])),
        draw(st.sampled_from(["nhwc", "nhwc", "nchw"])),
        "nhwc" if residual or pooled else draw(st.sampled_from(["nhwc", "nhwc", "nchw"])),
        w_layout=draw(st.sampled_from(["oihw", "ohwi"])),
        bias=op != "grad_w" and draw(st.booleans()),
        activation=draw(st.sampled_from([None, "relu", "relu6"])) if op != "grad_w" else None,
        packed=op != "grad_w" and draw(st.booleans()),
        residual=residual,
        pooled=pooled,
        # Of two numbers that are almost equal, rounding decides which one is the winner.
        winners=op != "conv",
    )


def drawn(data, algorithm, op):
    machine = data.draw(machines.filter(lambda m: takes(algorithm, m)))
    if algorithm.r == 1:
        machine = replace(machine, l1=256, l2=256)  # which few weights are more than
    problem = data.draw(problems(algorithm, op))
    assert algorithm.refuses(problem, machine) is None
    return problem, machine, data.draw(seeds)


def takes(algorithm, machine) -> bool:
    return algorithm.m + algorithm.r - 1 < machine.registers // 2


def grown(algorithm, problem, inputs):
    """The algorithm's own bound. Tiles mix their windows, so that the largest magnitude counts for all elements."""
    factor = algorithm.growth(problem)
    return {key: np.full_like(values, factor * values.max()) for key, values in bounds(problem, inputs).items()}


# The triples


@pytest.mark.parametrize(("m", "r", "stride"), sorted({(a.m, a.r, a.stride) for a in FAST}))
def test_a_triple_is_the_correlation_exactly(m, r, stride):
    t = triple(m, r, stride)
    for o in range(m):
        for k in range(r):
            for i in range(t.inputs):
                products = range(t.products)
                total = sum((t.at[o][p] * t.g[p][k] * t.bt[p][i] for p in products), Fraction(0))
                assert total == (i == stride * o + k)
    assert t.in_step == stride * m


@pytest.mark.parametrize("padding", range(4))
@pytest.mark.parametrize(("m", "r", "stride"), sorted((a.m, a.r, a.stride) for a in FAST if isinstance(a, Winograd)))
def test_a_triple_of_an_input_gradient_is_exact(m, r, stride, padding):
    t, first = gradient(m, r, stride, padding)
    for o in range(t.outputs):
        for k in range(r):
            for i in range(t.inputs):
                products = range(t.products)
                total = sum((t.at[o][p] * t.g[p][r - 1 - k] * t.bt[p][i] for p in products), Fraction(0))
                assert total == (stride * (first + i) + k - padding == o)
    assert (t.outputs, t.in_step) == (stride * m, m)


@pytest.mark.parametrize(
    "m", [triple(4, 3).bt, triple(4, 3).at, triple(4, 5).g, triple(2, 3, 2).bt, gradient(2, 4, 2, 1)[0].at], ids=len
)
def test_a_sandwich_is_two_products_of_matrices(m):
    rows, columns = len(m), len(m[0])
    k = Builder("sandwich", "float64", 4)
    x, y = k.buffer("x", columns * columns * 4, "in"), k.buffer("y", rows * rows * 4, "out")
    patch = k.buffer("patch", rows * columns * 4, "private")
    with k.stage("all", ("one", 1)):
        sandwich(
            k,
            m,
            patch,
            lambda i, j: k.load(x, i * columns * 4 + j * 4),
            lambda value, i, j: k.store(value, y, i * rows * 4 + j * 4),
        )
    kernel = k.kernel()
    check(kernel, 32)
    given_x = np.random.default_rng(1).standard_normal((columns, columns, 4))
    arrays = {"x": given_x.ravel(), "y": np.full(rows * rows * 4, np.nan)}
    interpret(kernel, arrays, {})
    matrix = np.array([[float(value) for value in row] for row in m])
    wanted = np.einsum("ai,ijl,bj->abl", matrix, given_x, matrix)
    np.testing.assert_allclose(arrays["y"].reshape(wanted.shape), wanted, rtol=1e-12, atol=1e-12)


# The answers


@every_case
@settings(max_examples=15)
@given(st.data())
def test_normal_numbers_are_within_the_bound_and_the_same_for_any_team(algorithm, op, data):
    problem, machine, seed = drawn(data, algorithm, op)
    inputs = random_inputs(problem, seed, whole=False)
    call = prepared(algorithm, problem, machine)
    alone = solve(call, problem, inputs, 1)
    assert_within(alone, answers(problem, inputs), grown(algorithm, problem, inputs))
    for threads in (2, 3, 8):
        assert_equal(solve(call, problem, inputs, threads), alone)


@settings(max_examples=25)
@given(st.data(), st.sampled_from(["conv", "grad_x"]))
def test_the_smallest_tile_is_exact_on_small_whole_numbers(data, op):
    algorithm = Winograd(2, 3)
    problem, machine, seed = drawn(data, algorithm, op)
    inputs = random_inputs(problem, seed)
    assert_equal(solved(algorithm, problem, machine, inputs), answers(problem, inputs))


@every_case
def test_usual_layers_are_within_the_bound(algorithm, op):
    half, whole = algorithm.r // 2, algorithm.r - 1
    left = whole - (whole - half) % algorithm.stride
    shape = ConvShape(4, 48, 30, 27, 64, algorithm.r, algorithm.r, algorithm.stride, (half, half, left, 0))
    problem = Problem(op, shape, w_layout="ohwi")
    inputs = random_inputs(problem, 5, whole=False)
    result = solved(algorithm, problem, host(), inputs)
    assert_within(result, answers(problem, inputs), grown(algorithm, problem, inputs))


def test_the_error_of_the_usual_layer_is_within_four_times_plain_sums():
    problem = Problem("conv", ConvShape(1, 128, 28, 28, 64, 3, 3, padding=1))
    inputs = random_inputs(problem, 3, whole=False)
    right = answers(problem, inputs)["y"]
    plain = next(a for a in ALL if a.name == "direct")
    errors = [np.abs(solved(a, problem, host(), inputs)["y"] - right).max() for a in (Winograd(4, 3), plain)]
    assert errors[0] < 4 * errors[1]


@pytest.mark.parametrize("algorithm", [a for a, op in CASES if op == "conv"], ids=name)
@settings(max_examples=10)
@given(st.data())
def test_what_is_fused_is_what_comes_after(algorithm, data):
    """Residual, activation and pool in one call and one after the other: the same bits, winners of ties included."""
    problem, machine, seed = drawn(data, algorithm, "conv")
    assume(min(problem.shape.oh, problem.shape.ow) > 1 and problem.shape.dilation == (1, 1))
    winners = data.draw(st.booleans())
    pooled = algorithm.m % 2 == 0
    problem = replace(problem, y_layout="nhwc", residual=True, pooled=pooled, winners=winners)
    inputs = random_inputs(problem, seed, whole=data.draw(st.booleans()))
    inputs["x"][0, 3, 2, 2] = data.draw(st.sampled_from([0, np.nan, np.inf]))
    plain = replace(problem, activation=None, residual=False, pooled=False, winners=True)
    with np.errstate(invalid="ignore"):
        y = activated(solved(algorithm, plain, machine, inputs)["y"] + inputs["residual"], problem.activation)
    wanted = {"y": y}
    if problem.pooled:
        wanted["y"], winners = oracle.max_pool(y, problem.pool)
        wanted |= {"winners": winners} if problem.winners else {}
    assert_equal(solved(algorithm, problem, machine, inputs), wanted)


# The kernels


@every_case
@settings(max_examples=7)
@given(st.data())
def test_kernels_are_proved_safe(algorithm, op, data):
    problem, machine, _ = drawn(data, algorithm, op)
    kernel = algorithm.recipe(problem, machine).build()
    assert check(kernel, machine.registers).registers <= machine.registers


@every_case
@settings(max_examples=3)
@given(st.data(), seeds, st.sampled_from([1, 11]))
def test_interpreted_and_emitted_are_one(algorithm, op, data, seed, n):
    machine = data.draw(machines.filter(lambda m: takes(algorithm, m)))
    size = 9 if n == 1 else 2 * algorithm.r
    shape = ConvShape(n, 9, size, size + 1, 8, algorithm.r, algorithm.r, algorithm.stride, 1)
    problem = Problem(op, shape, "float64")
    inputs = random_inputs(problem, seed, whole=False)
    kernel, arrays, sizes = arguments(algorithm, problem, machine, inputs)
    result = solved(algorithm, problem, machine, inputs)
    interpret(kernel, arrays, sizes)
    for key, values in outputs(problem, kernel, arrays).items():
        np.testing.assert_allclose(result[key], values, rtol=1e-9, atol=1e-9)


@pytest.fixture
def in_rounds(monkeypatch):
    """Weight gradients of many tiles go in rounds, as with many channels."""
    monkeypatch.setattr(Work, "cuts", property(lambda _: 0))


@pytest.fixture(params=[2, 3])
def in_passes(request, monkeypatch):
    """They go through the tiles so many times, each time for some of the products."""
    monkeypatch.setattr(Work, "cuts", property(lambda _: request.param))


@pytest.mark.parametrize(("m", "n"), [(4, 40), (3, 15), (2, 7)])
def test_several_passes_make_all_products(m, n, in_passes):
    problem = Problem("grad_w", ConvShape(n, 20, 14, 14, 24, 3, 3, padding=1), "float64")
    work = Work.of(problem, MACHINES[0], m)
    assert work.way == "parts"
    assert sum(map(len, work.passes)) == m + 2
    inputs = random_inputs(problem, 1, whole=False)
    kernel, arrays, sizes = arguments(WinogradGradW(m, 3), problem, MACHINES[0], inputs)
    results = staggered(kernel, arrays, sizes)
    wanted = solved(WinogradGradW(m, 3), problem, MACHINES[0], inputs, 1)
    assert_equal(outputs(problem, kernel, {**arrays, **results}), wanted)
    assert_within(wanted, answers(problem, inputs), grown(WinogradGradW(m, 3), problem, inputs))


@pytest.mark.parametrize("n", [1, 40])
def test_rounds_wait_for_one_another(n, in_rounds):
    problem = Problem("grad_w", ConvShape(n, 16, 14, 14, 16, 3, 3, padding=1), "float64")
    algorithm = WinogradGradW(4, 3)
    inputs = random_inputs(problem, 1, whole=False)
    kernel, arrays, sizes = arguments(algorithm, problem, MACHINES[0], inputs)
    results = staggered(kernel, arrays, sizes)
    wanted = solved(algorithm, problem, MACHINES[0], inputs, 1)
    assert_equal(outputs(problem, kernel, {**arrays, **results}), wanted)
    assert_within(wanted, answers(problem, inputs), grown(algorithm, problem, inputs))


def of_many_tiles():
    """A weight gradient that is a sum over 3136 tiles, its inputs and its answer."""
    problem = Problem("grad_w", ConvShape(1, 16, 224, 224, 16, 3, 3, padding=1), w_layout="ohwi")
    inputs = random_inputs(problem, 8, whole=False)
    return problem, inputs, answers(problem, inputs)["dw"]


def test_the_error_of_long_sums_stays_small_in_parts():
    problem, inputs, right = of_many_tiles()
    dw = solved(WinogradGradW(4, 3), problem, host(), inputs)["dw"]
    assert np.abs(dw - right).max() < 2e-6 * np.abs(right).max()


def test_the_error_of_long_sums_stays_small_in_passes(in_passes):
    problem, inputs, right = of_many_tiles()
    dw = solved(WinogradGradW(4, 3), problem, host(), inputs)["dw"]
    assert np.abs(dw - right).max() < 2e-6 * np.abs(right).max()


def test_the_error_of_long_sums_stays_small_in_rounds(in_rounds):
    problem, inputs, right = of_many_tiles()
    dw = solved(WinogradGradW(4, 3), problem, host(), inputs)["dw"]
    assert np.abs(dw - right).max() < 2e-6 * np.abs(right).max()


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("channels", [(40, 37), (70, 112)])
def test_filters_pass_once_where_tiles_are_few(channels, own, packed, monkeypatch):
    monkeypatch.setattr(tiling, "_LARGE", 0)
    monkeypatch.setattr(Tiling, "fits", property(lambda _: own))
    problem = Problem("conv", ConvShape(2, channels[0], 9, 14, channels[1], 3, 3, padding=1), packed=packed, bias=True)
    machine = replace(host(), l2=1 << 10, cores=2)
    assert Tiling(problem, machine, 4, 2).own == own
    inputs = random_inputs(problem, 4, whole=False)
    algorithm = Winograd(4, 3)
    alone = solved(algorithm, problem, machine, inputs, 1)
    assert_within(alone, answers(problem, inputs), grown(algorithm, problem, inputs))
    assert_equal(solved(algorithm, problem, machine, inputs, 3), alone)


# Special values and refusals


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_reaches_at_least_its_windows(value):
    problem = Problem("conv", ConvShape(1, 16, 12, 12, 16, 3, 3, padding=1))
    inputs = random_inputs(problem, 2, whole=False)
    inputs["x"][0, 3, 5, 6] = value
    y = solved(Winograd(4, 3), problem, host(), inputs)["y"]
    assert not np.isfinite(y[:, :, 4:7, 5:8]).any()
    far = np.ones(y.shape, bool)
    far[:, :, :8, 4:8] = False
    assert np.isfinite(y[far]).all()


def test_refusals_have_words():
    shape = ConvShape(1, 16, 12, 12, 16, 3, 3, padding=1)
    usual = Problem("conv", shape)
    for algorithm, problem, word in (
        (Winograd(4, 3), replace(usual, precision="exact"), "plain sum"),
        (Winograd(4, 5), usual, "5 x 5"),
        (Winograd(4, 3, 2), usual, "stride 2"),
        (Winograd(4, 3), replace(usual, shape=replace(shape, dilation=2), pooled=True), "dilation"),
        (Winograd(4, 3, 2), replace(usual, shape=replace(shape, dilation=2, stride=2)), "dilation"),
        (Winograd(4, 3), replace(usual, y_layout="nchw", pooled=True), "channels last"),
        (Winograd(4, 3), replace(usual, shape=replace(shape, groups=4)), "8 channels"),
        (Winograd(4, 3), Problem("grad_w", shape), "grad_w"),
        (WinogradGradW(4, 3), usual, "not conv"),
        (WinogradGradW(1, 1), Problem("grad_w", ConvShape(1, 32, 12, 12, 32, 1, 1)), "side by side"),
        (
            WinogradGradW(1, 1),
            Problem("grad_w", ConvShape(1, 512, 12, 12, 512, 1, 1, padding=1)),
            "zeros of the padding",
        ),
        (Winograd(3, 3), replace(usual, pooled=True), "3 x 3"),
        (Winograd(2, 3, 2), Problem("grad_x", replace(shape, stride=2, padding=(1, 1, 0, 0))), "paddings 1 and 0"),
    ):
        assert word in algorithm.refuses(problem, AVX512)


def test_exact_precision_takes_plain_sums():
    shape = ConvShape(8, 64, 56, 56, 64, 3, 3, padding=1)
    for op in ("conv", "grad_x", "grad_w"):
        fast, exact = (choose(Problem(op, shape, precision=p), AVX512) for p in ("fast", "exact"))
        assert fast.algorithm in FAST
        assert exact.algorithm not in FAST
        assert "plain sum" in str(exact)


def test_panels_are_plain_sums():
    """Exact on small whole numbers, whatever the precision, and in rounds as in one go."""
    for n, stride in ((2, 1), (2, 2), (21, 1)):
        shape = ConvShape(n, 40, 9, 8, 24, 1, 1, stride)
        problem = Problem("grad_w", shape, w_layout="ohwi", precision="exact")
        algorithm, machine = WinogradGradW(1, 1, stride), replace(host(), l1=256, l2=256)
        assert algorithm.refuses(problem, machine) is None
        inputs = random_inputs(problem, n)
        assert_equal(solved(algorithm, problem, machine, inputs), answers(problem, inputs))


def test_the_process_can_ask_for_plain_sums():
    problem = Problem("conv", ConvShape(2, 64, 28, 28, 64, 3, 3, padding=1))
    forgotten = []
    engine.on_change(lambda: forgotten.append(1))
    try:
        engine.set_precision("exact")
        assert engine.get_precision() == "exact"
        assert engine.prepare(problem).plan.algorithm not in FAST
    finally:
        engine.set_precision("fast")
    assert engine.prepare(problem).plan.algorithm in FAST
    assert len(forgotten) == 2
    with pytest.raises(InputError, match="'fast' or 'exact'"):
        engine.set_precision("quick")
