"""Prepared problems: compiled once, bounded, whole results, the same bits from any threads."""

import threading
import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import assert_fences, fenced
from problems import OPS, answers, assert_equal, packed, problems, random_inputs, seeds, solve, usual

from hapgop import engine, native
from hapgop.algorithms import ALL, Problem, Recipe
from hapgop.engine import compiled as kernels_kept
from hapgop.engine import ready as room
from hapgop.engine import runnable, team, tuning
from hapgop.engine.kept import Kept
from hapgop.errors import InputError
from hapgop.machine import host
from hapgop.planning import Plan
from hapgop.shape import ConvShape
from hapgop.tile import Builder


def function_of(plan):
    return kernels_kept.compiled(plan.recipe.key, plan.recipe.build, plan.machine)


pytestmark = pytest.mark.usefixtures("plain_sums")

every_op = pytest.mark.parametrize("op", OPS)


@pytest.fixture(autouse=True)
def _threads():
    yield
    engine.set_threads(None)


@every_op
@settings(max_examples=12)
@given(st.data(), seeds)
def test_the_engines_choice_is_right(op, data, seed):
    problem = data.draw(problems(op))
    inputs = random_inputs(problem, seed)
    try:
        call = engine.prepare(problem)
    except engine.Refused:
        assert problem.residual or problem.pooled, "only what is fused may be refused"
        return
    assert_equal(solve(call, problem, inputs), answers(problem, inputs))


@every_op
def test_one_two_and_four_threads_give_the_same_bits(op):
    for problem in usual(op):
        inputs = random_inputs(problem, 1, whole=False)
        call = engine.prepare(problem)
        alone = solve(call, problem, inputs, threads=1)
        for threads in (2, 4):
            assert_equal(solve(call, problem, inputs, threads), alone)


def test_the_second_call_compiles_nothing():
    problem = Problem("conv", ConvShape(1, 3, 9, 11, 5, 3, 3, padding=1), bias=True)
    first = engine.prepare(problem)
    before = native.compiled_count()
    again = engine.prepare(Problem("conv", ConvShape(1, 3, 9, 11, 5, 3, 3, padding=1), bias=True))
    solve(again, problem, random_inputs(problem, 1))
    assert again is first
    assert native.compiled_count() == before


def test_batches_of_many_images_share_a_kernel():
    """A last, smaller batch costs no compilation."""
    shape = ConvShape(64, 3, 9, 10, 5, 3, 3, padding=1)
    for op in ("conv", "grad_x", "grad_w", "grad_b"):
        engine.prepare(Problem(op, shape))
        before = native.compiled_count()
        engine.prepare(Problem(op, shape.with_batch(61)))
        assert native.compiled_count() == before, op


def test_a_refusal_says_why(monkeypatch):
    monkeypatch.setattr(room, "rank", lambda problem, machine: _refuse())
    room.ranking_for.cache_clear()
    problem = Problem("conv", ConvShape(1, 3, 9, 13, 5, 3, 3))
    with pytest.raises(engine.Refused) as caught:
        engine.prepare(problem)
    assert caught.value.reason == "no algorithm takes conv: direct is away"
    assert str(caught.value).startswith(caught.value.reason)
    assert isinstance(caught.value, InputError)


def _refuse():
    raise InputError("no algorithm takes conv: direct is away\n  not winograd: wants stride 1")


class FakeFunction:
    """A function that was never compiled."""

    address = 0
    bytes = 100_000


@pytest.fixture
def no_compiler(monkeypatch):
    """Functions without code, which say whether they are still held."""
    alive = weakref.WeakSet()

    def load(key, make, cpu):
        function = FakeFunction()
        alive.add(function)
        return function

    monkeypatch.setattr(tuning, "_mode", "off")  # measuring would call them
    monkeypatch.setattr(kernels_kept, "load", load)
    monkeypatch.setattr(kernels_kept, "_loaded", Kept(4_000_000))
    monkeypatch.setattr(room, "_ready", Kept(2_000_000))
    room._ready.clear()
    yield alive
    room._ready.clear()


def test_a_thousand_shapes_do_not_pile_up(no_compiler):
    assert room.ranking_for.cache_info().maxsize is not None
    for width in range(1000):
        engine.prepare(Problem("conv", ConvShape(1, 3, 8, 8 + width, 4, 3, 3)))
    assert kernels_kept._loaded.size <= 4_000_000
    assert len(kernels_kept._loaded) <= 40
    assert len(room._ready) <= 20
    assert len(no_compiler) <= 41


def test_a_kernel_in_use_is_spared(no_compiler, monkeypatch):
    monkeypatch.setattr(kernels_kept, "_loaded", Kept(200_000))
    plans = [room.plan_for(Problem("conv", ConvShape(1, 3, 8, 8 + width, 4, 3, 3))) for width in range(3)]
    one, two = function_of(plans[0]), function_of(plans[1])
    assert function_of(plans[0]) is one
    function_of(plans[2])
    assert function_of(plans[0]) is one
    assert function_of(plans[1]) is not two


def test_a_kernel_lives_as_long_as_its_calls(no_compiler, monkeypatch):
    """Memory that holds code is not given back while someone could call it."""
    monkeypatch.setattr(kernels_kept, "_loaded", Kept(1))
    kept = engine.Prepared(room.plan_for(Problem("conv", ConvShape(1, 3, 8, 8, 4, 3, 3))))
    for width in range(9, 20):
        engine.Prepared(room.plan_for(Problem("conv", ConvShape(1, 3, 8, width, 4, 3, 3))))
    assert kept._function in no_compiler
    assert len(no_compiler) <= 2


def test_an_object_of_other_code_has_another_key(monkeypatch):
    keys = []

    def load(key, make, cpu):
        keys.append(key)
        return FakeFunction()

    monkeypatch.setattr(kernels_kept, "load", load)
    plan = room.plan_for(Problem("conv", ConvShape(1, 3, 8, 8, 4, 3, 3)))
    for digest in ("one", "one", "two"):
        monkeypatch.setattr(kernels_kept, "_loaded", Kept(1))
        monkeypatch.setattr(kernels_kept, "generator", lambda digest=digest: digest)
        function_of(plan)
    assert keys[0] == keys[1] != keys[2]


def test_the_digest_covers_every_file_that_makes_kernels(tmp_path, monkeypatch):
    """A line changed in any of these rooms, or a file more, is another digest."""
    for folder in ("engine", "tile", "algorithms", "native", "nn"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "one.py").write_text("x = 1\n")
    monkeypatch.setattr(kernels_kept, "__file__", str(tmp_path / "engine" / "prepared.py"))

    def digest():
        kernels_kept.generator.cache_clear()
        return kernels_kept.generator()

    try:
        seen = {digest()}
        assert digest() in seen
        for folder in ("tile", "algorithms", "native"):
            (tmp_path / folder / "one.py").write_text("x = 2\n")
            seen.add(digest())
            (tmp_path / folder / "two.py").write_text("")
            (tmp_path / folder / "two.py").write_text("y = 3\n")
            seen.add(digest())
        assert len(seen) == 7
        (tmp_path / "nn" / "one.py").write_text("x = 2\n")
        assert digest() in seen
    finally:
        monkeypatch.undo()
        kernels_kept.generator.cache_clear()


def test_several_python_threads_share_nothing():
    """Each has its own scratch memory: convolutions of different sizes at once, again and again.

    They are long enough to let Python's other threads run meanwhile.
    """
    shapes = [ConvShape(4, 32, 14 + i, 16, 32 + 8 * i, 3, 3, padding=1) for i in range(4)]
    work = []
    for i, shape in enumerate(shapes):
        for op in ("conv", "grad_x", "grad_w"):
            problem = Problem(op, shape)
            inputs = random_inputs(problem, i)
            work.append((engine.prepare(problem), problem, inputs, answers(problem, inputs)))
    errors = []

    def go(first):
        try:
            for turn in range(30):
                call, problem, inputs, right = work[(first + turn) % len(work)]
                assert_equal(solve(call, problem, inputs), right)
        except BaseException as error:
            errors.append(error)

    callers = [threading.Thread(target=go, args=(3 * i,)) for i in range(4)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(60)
        assert not thread.is_alive()
    assert not errors


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("team", [1, 2, 3, 5])
def test_every_thread_has_a_private_buffer_of_its_own(monkeypatch, dtype, team):
    """As many items as threads, so that item i is thread i's: what it wrote, it finds again behind the barrier."""
    problem = Problem("conv", ConvShape(1, 1, 1, 9 * team, 1, 1, 1), dtype)
    arenas = []

    def arena(size):
        arenas.append(fenced(np.full(size // problem.itemsize, np.nan, dtype)))
        return SimpleNamespace(address=arenas[-1][0].ctypes.data)

    monkeypatch.setattr(runnable, "scratch", arena)
    y, memory = fenced(np.full(9 * team, np.nan, dtype))
    call = engine.Prepared(Plan(problem, host(), ALL[0], _with_private_buffers(dtype, team), 1000.0, ()))
    call(y.ctypes.data, y.ctypes.data, 0, y.ctypes.data, threads=team)
    assert y.tolist() == [100.0 + i // 9 for i in range(9 * team)]
    for around in (memory, arenas[0][1]):
        assert_fences(around)


def _with_private_buffers(dtype, team):
    """A recipe: every item writes its number into its own buffers, and reads it in the next stage."""
    k = Builder("own", dtype, 4)
    for name in ("x", "w", "bias"):
        k.buffer(name, 1, "in")
    y, shared = k.buffer("y", 9 * team, "out"), k.buffer("shared", 3, "scratch")
    one, two = k.buffer("one", 9, "private"), k.buffer("two", 17, "private")
    with k.stage("write", ("i", team)) as (i,):
        k.store(k.const(100.0), shared, 0, 3)
        k.store(k.from_index(i), one, 0, 1)
        k.store(k.from_index(i * -2), two, 16, 1)
        with k.loop("j", 0, 9) as j:
            k.store(k.from_index(i), one, j, 1)
    with k.stage("read", ("i", team)) as (i,), k.loop("j", 0, 9) as j:
        # Twice its number, less twice its number, and its number.
        both = k.add(k.broadcast(two, 16), k.broadcast(one, j))
        k.store(
            k.add(k.add(both, k.broadcast(one, 8)), k.add(k.broadcast(shared, 2), k.broadcast(one, 0))), y, i * 9 + j, 1
        )
    kernel = k.kernel()
    return Recipe(f"own {dtype} {team}", lambda: kernel, scratch=(3,), private=(9, 17), items=team)


def test_several_python_threads_prepare_at_once():
    """The same problem, asked for by all at once, is compiled once; different ones do not disturb each other."""
    results, errors = [], []
    gate = threading.Barrier(4)
    before = native.compiled_count()

    def go(i):
        try:
            gate.wait(20)
            for width in (41, 42):
                problem = Problem("conv", ConvShape(1, 2, 5, width, 3, 3, 3))
                inputs = random_inputs(problem, i)
                results.append(assert_equal(solve(engine.prepare(problem), problem, inputs), answers(problem, inputs)))
        except BaseException as error:
            errors.append(error)

    callers = [threading.Thread(target=go, args=(i,)) for i in range(4)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(60)
    assert not errors
    assert len(results) == 8
    assert native.compiled_count() <= before + 2


def test_many_problems_are_made_ready_in_their_order(monkeypatch, tmp_path):
    """Equal ones once; what is ready is not made again; on one thread or several."""
    monkeypatch.setenv("HAPGOP_CACHE", str(tmp_path))
    shapes = [ConvShape(1, 2, 5, 60 + i % 5, 3, 3, 3, padding=1) for i in range(8)]
    wanted = [Problem(op, shape, precision="exact") for shape in shapes for op in ("conv", "grad_w")]
    known = engine.prepare(wanted[3])
    before = native.compiled_count()
    for threads in (4, 1, None):
        many = engine.prepare_many(iter(wanted), threads)
        assert [p.plan.problem for p in many] == wanted
        assert many[3] is known
        assert native.compiled_count() <= before + 9
    for call, problem in zip(many[:6], wanted, strict=False):
        inputs = random_inputs(problem, 3)
        assert_equal(solve(call, problem, inputs), answers(problem, inputs))
    assert engine.prepare_many([]) == []


def test_one_that_is_refused_among_many(monkeypatch):
    real = room.rank

    def some(problem, machine):
        return _refuse() if problem.shape.iw == 71 else real(problem, machine)

    monkeypatch.setattr(room, "rank", some)
    with pytest.raises(engine.Refused, match="direct is away"):
        engine.prepare_many([Problem("conv", ConvShape(1, 2, 5, 70 + i, 3, 3, 3)) for i in range(3)], 2)


def test_different_kernels_are_made_at_the_same_time(no_compiler, monkeypatch):
    """Each waits for the other to have begun; the same one waits to be found made."""
    both, made = threading.Barrier(2), []

    def load(key, make, cpu):
        both.wait(20)
        made.append(key)
        return FakeFunction()

    monkeypatch.setattr(kernels_kept, "load", load)
    one, other = (room.plan_for(Problem("conv", ConvShape(1, 3, 8, width, 4, 3, 3))) for width in (8, 9))
    callers = [threading.Thread(target=function_of, args=(plan,)) for plan in (one, one, other, other)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(30)
    assert len(made) == len(set(made)) == 2
    assert not kernels_kept._making


def test_a_kernel_that_cannot_be_made_can_be_tried_again(no_compiler, monkeypatch):
    plan = room.plan_for(Problem("conv", ConvShape(1, 3, 8, 8, 4, 3, 3)))
    load = kernels_kept.load
    monkeypatch.setattr(kernels_kept, "load", lambda *given: _refuse())
    with pytest.raises(InputError):
        function_of(plan)
    monkeypatch.setattr(kernels_kept, "load", load)
    assert function_of(plan) in no_compiler


def test_a_smaller_call_after_a_larger_one_reuses_its_memory():
    large = Problem("conv", ConvShape(1, 64, 10, 10, 256, 3, 3))
    small = Problem("conv", ConvShape(1, 3, 10, 10, 4, 3, 3))
    for problem in (small, large, small, large):
        inputs = random_inputs(problem, 5)
        assert_equal(solve(engine.prepare(problem), problem, inputs), answers(problem, inputs))


def test_every_stored_kernel_passed_the_checker(monkeypatch, tmp_path):
    """What the checker refuses is neither compiled nor run."""
    monkeypatch.setenv("HAPGOP_CACHE", str(tmp_path))
    monkeypatch.setattr(kernels_kept, "_loaded", Kept(1))
    checked = []

    def refuse(kernel, registers):
        checked.append(registers)
        raise ValueError("unsafe")

    monkeypatch.setattr(kernels_kept, "check", refuse)
    with pytest.raises(ValueError, match="unsafe"):
        engine.Prepared(room.plan_for(Problem("conv", ConvShape(1, 3, 8, 8, 4, 3, 3))))
    assert checked == [host().registers]
    assert not list(tmp_path.rglob("*.o"))


@pytest.mark.parametrize("threads", [0, -1])
def test_a_team_of_nobody_is_an_error(threads):
    with pytest.raises(InputError, match=f"threads is {threads}; it has to be a whole number, 1 or more"):
        engine.set_threads(threads)


@pytest.mark.parametrize(
    ("variable", "wanted"), [(None, None), ("3", 3), ("2,4", 2), ("0", 1), ("", None), ("many", None)]
)
def test_without_a_number_the_environments_counts_or_one_a_core(monkeypatch, variable, wanted):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    team._default.cache_clear()
    try:
        assert engine.get_threads() == (wanted or host().cores)
        engine.set_threads(7)
        assert engine.get_threads() == 7
        engine.set_threads(None)
        assert engine.get_threads() == (wanted or host().cores)
    finally:
        team._default.cache_clear()


def test_a_call_gets_as_many_threads_as_it_has_work_for(monkeypatch):
    sizes = []
    monkeypatch.setattr(runnable, "launch", lambda run, data, size, expected: sizes.append(size))
    tiny, large = ConvShape(1, 1, 4, 4, 1, 3, 3), ConvShape(8, 64, 56, 56, 64, 3, 3)
    one_item = ConvShape(1, 64, 1, 1, 16, 1, 1)
    engine.set_threads(3)
    for shape in (tiny, one_item, large):
        engine.prepare(Problem("conv", shape))(0, 0, 0, 0)
    engine.prepare(Problem("conv", large))(0, 0, 0, 0, threads=2)
    assert sizes == [1, 1, 3, 2]


@pytest.mark.parametrize("op", ["conv", "grad_x", "grad_w", "grad_b"])
def test_an_empty_batch(op):
    """No image: an empty output, or a gradient of zero."""
    problem = Problem(op, ConvShape(0, 3, 6, 6, 5, 3, 3))
    inputs = random_inputs(problem, 1)
    assert_equal(solve(engine.prepare(problem), problem, inputs), answers(problem, inputs))


def test_all_algorithms_are_the_engines():
    assert {a.name for a in ALL} == {name for op in OPS for p in usual(op) for name in _names(engine.plan_for(p))}


def _names(plan):
    return [plan.algorithm.name, *(lost.algorithm for lost in plan.losers)]


@pytest.mark.parametrize("op", ["conv", "grad_x"])
def test_one_packing_serves_every_batch_size_with_its_key(op):
    shape = ConvShape(3, 37, 9, 10, 21, 3, 3, 2, padding=1)
    problem = Problem(op, shape, packed=True)
    inputs = random_inputs(problem, 1)
    call, other = engine.prepare(problem), engine.prepare(replace(problem, shape=shape.with_batch(2)))
    assert call.plan.recipe.pack.key == other.plan.recipe.pack.key
    weights = packed(call, inputs["w"].ravel())
    np.testing.assert_array_equal(weights, packed(other, inputs["w"].ravel()))


def test_where_weights_are_read_as_they_lie_packed_ones_are_the_weights_themselves():
    problem = Problem("conv", ConvShape(1, 3, 5, 5, 4, 3, 3), packed=True)
    plan = room.plan_for(problem)
    call = engine.Prepared(replace(plan, recipe=replace(plan.recipe, pack=None)))
    weights = random_inputs(problem, 1)["w"].ravel()
    assert call.packed_size == weights.size
    np.testing.assert_array_equal(packed(call, weights), weights)


def test_weights_that_are_taken_as_they_are_cannot_be_packed():
    call = engine.prepare(Problem("conv", ConvShape(1, 3, 5, 5, 4, 3, 3)))
    with pytest.raises(InputError, match="this conv takes its weights as they are: plan the problem with packed=True"):
        call.pack(0, 0)


@pytest.mark.parametrize("op", ["grad_w", "grad_b"])
def test_what_takes_no_weights_has_none_packed(op):
    with pytest.raises(InputError, match=f"packed is True, but {op} takes no weights; conv and grad_x do"):
        Problem(op, ConvShape(1, 3, 5, 5, 4, 3, 3), packed=True)
