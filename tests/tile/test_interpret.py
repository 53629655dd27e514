"""The interpreter is the meaning of the language: each operation against a line of NumPy."""

import numpy as np
import pytest

from hapgop.tile import Affine, Builder, interpret

NAN, INF = np.nan, np.inf
A = np.array([1, -2, NAN, INF, -INF, 0.5, 3, NAN])
B = np.array([1, 4, 2, INF, 7, NAN, -3, NAN])


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


def run(dtype, write, lanes=8, size=8, **inputs):
    """y after what `write(k, y, buffers)` says, from y full of 9."""
    k = Builder("k", dtype, lanes)
    buffers = {name: k.buffer(name, len(values), "in") for name, values in inputs.items()}
    y = k.buffer("y", size, "out")
    with k.stage("s", ("i", 1)):
        write(k, y, **buffers)
    arrays = {name: np.array(values, dtype) for name, values in inputs.items()}
    arrays["y"] = np.full(size, 9, dtype)
    interpret(k.kernel(), arrays, {})
    return arrays["y"]


@pytest.mark.parametrize(
    ("op", "function"),
    [
        ("add", np.add),
        ("sub", np.subtract),
        ("mul", np.multiply),
        ("div", np.divide),
        ("max", np.maximum),
        ("min", np.minimum),
    ],
)
def test_binary(dtype, op, function):
    y = run(dtype, lambda k, y, a, b: k.store(getattr(k, op)(k.load(a, 0), k.load(b, 0)), y, 0), a=A, b=B)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(y, function(A.astype(dtype), B.astype(dtype)))


def test_max_is_nan_where_either_is(dtype):
    y = run(dtype, lambda k, y, a, b: k.store(k.max(k.load(a, 0), k.load(b, 0)), y, 0), a=A, b=B)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(A) | np.isnan(B))


def test_fma_rounds_once():
    e = np.float32(2**-12)
    a, b = [1 + e] * 8, [1 - e] * 8  # a b = 1 - 2**-24: rounded to 1 on its own
    y = run("float32", lambda k, y, a, b: k.store(k.fma(k.load(a, 0), k.load(b, 0), k.const(-1.0)), y, 0), a=a, b=b)
    assert y.tolist() == [-(2.0**-24)] * 8


def test_const_and_broadcast(dtype):
    def write(k, y, a):
        k.store(k.const(0.1), y, 0, 2)
        k.store(k.broadcast(a, 5), y, 2, 3)

    y = run(dtype, write, a=A)
    assert y.tolist() == [np.dtype(dtype).type(0.1)] * 2 + [0.5] * 3 + [9] * 3


def test_from_index(dtype):
    def write(k, y):
        with k.loop("i", 0, 4) as i:
            k.store(k.from_index((i - 2) // 2 * 10 + 1), y, i, 1)

    assert run(dtype, write).tolist() == [-9, -9, 1, 1, 9, 9, 9, 9]


def test_load_is_zero_beyond_its_count(dtype):
    y = run(dtype, lambda k, y, a: k.store(k.load(a, 1, 3), y, 0), a=range(8))
    assert y.tolist() == [1, 2, 3, 0, 0, 0, 0, 0]


def test_load_with_a_stride(dtype):
    y = run(dtype, lambda k, y, a: k.store(k.load(a, 1, 3, 3), y, 0), a=range(8))
    assert y.tolist() == [1, 4, 7, 0, 0, 0, 0, 0]


def test_store_with_a_stride_leaves_the_rest(dtype):
    y = run(dtype, lambda k, y, a: k.store(k.load(a, 0), y, 1, 3, 2), a=range(8))
    assert y.tolist() == [9, 0, 9, 1, 9, 2, 9, 9]


@pytest.mark.parametrize(("test", "wanted"), [("above", (A > B) | np.isnan(A)), ("equal", A == B)])
def test_select(dtype, test, wanted):
    def write(k, y, a, b):
        k.store(k.select(test, k.load(a, 0), k.load(b, 0), k.const(1.0), k.const(0.0)), y, 0)

    np.testing.assert_array_equal(run(dtype, write, a=A, b=B), wanted)


def test_permute(dtype):
    order = (3, 1, 1, 0, 7, 0, 0, 6)
    y = run(dtype, lambda k, y, a: k.store(k.permute(k.load(a, 0), order), y, 0), a=range(8))
    assert y.tolist() == list(order)


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_transpose(dtype, rows):
    def write(k, y, a):
        for i, column in enumerate(k.transpose([k.load(a, 4 * i) for i in range(rows)])):
            k.store(column, y, 4 * i)

    y = run(dtype, write, lanes=4, size=16, a=range(1, 17)).reshape(4, 4)
    wanted = np.zeros((4, 4))
    wanted[:, :rows] = np.arange(1, 17).reshape(4, 4).T[:, :rows]
    np.testing.assert_array_equal(y, wanted)


def test_prefetch_does_nothing(dtype):
    def write(k, y, a):
        k.prefetch(a, 10**9)
        k.prefetch(y, -(10**9))

    assert run(dtype, write, a=A).tolist() == [9] * 8


def test_an_accumulator(dtype):
    def write(k, y, a):
        total = k.const(0.0)
        with k.loop("i", 0, 8, 3) as i:
            k.add(total, k.broadcast(a, i), into=total)
        k.store(total, y, 0)

    assert run(dtype, write, a=range(8)).tolist() == [0 + 3 + 6] * 8


def test_a_loop_runs_from_the_largest_low_to_the_smallest_high():
    def write(k, y):
        with k.loop("i", 0, 4) as i:
            with k.loop("j", [2, i], [7, i + 3]) as j:
                k.store(k.from_index(i), y, j, 1)

    # i = 0: 2; i = 1: 2, 3; i = 2: 2..4; i = 3: 3..5
    assert run("float32", write).tolist() == [9, 9, 2, 3, 3, 3, 9, 9]


def test_items_go_slowest_first_and_repeats_are_outermost():
    k = Builder("k", "float64", 1)
    order, count = k.buffer("order", 12, "out"), k.buffer("count", 1, "scratch")
    with k.stage("zero", ("i", 1)):
        k.store(k.const(0.0), count, 0)
    with k.stage("s", ("a", 2), ("b", 3), repeat=(("r", 0, 4, 2),)) as (r, a, b):
        # The place in the order is r' * 6 + a * 3 + b; what stands there is how many came before.
        place = r * 3 + a * 3 + b
        before = k.load(count, 0)
        k.store(before, order, place)
        k.store(k.add(before, k.const(1.0)), count, 0)
    arrays = {"order": np.full(12, -1.0)}
    interpret(k.kernel(), arrays, {})
    assert arrays["order"].tolist() == list(range(12))


def test_sizes_are_passed():
    k = Builder("k", "float32", 4)
    n = k.size("n")
    y = k.buffer("y", n * 2, "out")
    with k.stage("s", ("i", n)) as (i,):
        k.store(k.from_index(i), y, i * 2, 2)
    arrays = {"y": np.zeros(6, np.float32)}
    interpret(k.kernel(), arrays, {"n": 3})
    assert arrays["y"].tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("role", ["scratch", "private"])
def test_what_was_never_written_is_nan(role):
    k = Builder("k", "float32", 4)
    y, s = k.buffer("y", 4, "out"), k.buffer("s", 4, role)
    with k.stage("s", ("i", 1)):
        k.store(k.load(s, 0), y, 0)
    arrays = {"y": np.zeros(4, np.float32)}
    interpret(k.kernel(), arrays, {})
    assert np.isnan(arrays["y"]).all()


@pytest.mark.parametrize(("index", "place"), [(6, r"a\[6..9\] of 8"), (-1, r"a\[-1..2\] of 8")])
def test_an_access_outside_its_buffer_is_an_error(index, place):
    with pytest.raises(IndexError, match=place):
        run("float32", lambda k, y, a: k.store(k.load(a, Affine(index), 4), y, 0), a=range(8))


def test_what_is_found_in_memory_moves_an_access(dtype):
    def write(k, y, a):
        places = k.buffer("places", 8, "private", whole=True)
        k.store(k.load(a, 0), places, 0)
        for i in range(8):
            with k.indirect("place", places, i, 5) as place:
                k.store(k.from_index(place * 10 + i), y, i, 1)

    y = run(dtype, write, a=[0, 1.9, 5, 6, -1, NAN, INF, -INF])
    assert y.tolist() == [0, 11, 52, 53, 4, 5, 56, 7]


def test_what_was_never_stored_is_found_as_the_last(dtype):
    def write(k, y):
        places = k.buffer("places", 1, "scratch", whole=True)
        with k.indirect("place", places, 0, 3) as place:
            k.store(k.from_index(place), y, 0)

    assert run(dtype, write).tolist() == [3] * 8
