"""The engine on NumPy arrays: results, memory orders, and what it says to wrong inputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import conv_shapes, pool_shapes, seeds

import hapgop
from hapgop import engine, oracle
from hapgop.engine import arrays
from hapgop.errors import InputError
from hapgop.native import target
from hapgop.shape import UnreadInputWarning

pytestmark = pytest.mark.filterwarnings("ignore::hapgop.shape.UnreadInputWarning")


def whole(shape, seed=1, dtype=np.float32):
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


def last(array):
    """The same array, with its channels last in memory."""
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def strided(array):
    """The same array, as every other element of a larger one."""
    larger = np.full([2 * size for size in array.shape], 77, array.dtype)
    view = larger[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def backwards(array):
    return array[:, :, ::-1].copy()[:, :, ::-1]


def test_what_is_decided_while_another_precision_is_set_is_not_remembered(monkeypatch):
    def meanwhile(problem):
        prepared = engine.prepare(problem)
        engine.set_precision("exact")
        return prepared

    x, w = whole((2, 64, 28, 28)), whole((64, 64, 3, 3))
    try:
        with monkeypatch.context() as patch:
            patch.setattr("hapgop.engine.arrays.prepare", meanwhile)
            hapgop.conv2d(x, w, padding=1)
        assert len(arrays._known) == 0
        hapgop.conv2d(x, w, padding=1)
        (known,) = (entry.value for entry in arrays._known._entries.values())
        assert known.prepared.plan.problem.precision == "exact"
    finally:
        engine.set_precision("fast")


orders = st.sampled_from([np.ascontiguousarray, last, strided, backwards, np.asfortranarray])


@settings(max_examples=20)
@given(conv_shapes(), orders, orders, seeds, st.booleans(), st.sampled_from([None, "relu"]))
def test_convolution_of_any_memory_order(s, x_order, w_order, seed, bias, activation):
    x, w, b = whole(s.x_shape, seed), whole(s.w_shape, seed + 1), whole(s.oc, seed + 2)
    y = hapgop.conv2d(
        x_order(x),
        w_order(w),
        np.repeat(b, 2)[::2] if bias else None,
        stride=s.stride,
        padding=s.padding,
        dilation=s.dilation,
        groups=s.groups,
        activation=activation,
    )
    right = oracle.conv(x, w, b if bias else None, shape=s)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, np.maximum(right, 0) if activation else right)


@settings(max_examples=12)
@given(pool_shapes(), orders, seeds, st.booleans())
def test_pools_of_any_memory_order(s, order, seed, include):
    x = whole(s.x_shape, seed)
    settings = {"stride": s.stride, "padding": s.padding, "ceil_mode": s.ceil_mode}
    y = hapgop.max_pool2d(order(x), (s.kh, s.kw), dilation=s.dilation, **settings)
    np.testing.assert_array_equal(y, oracle.max_pool(x, s)[0])
    if s.dilation == (1, 1):
        y = hapgop.avg_pool2d(order(x), (s.kh, s.kw), count_include_pad=include, **settings)
        np.testing.assert_array_equal(y, oracle.avg_pool(x, s, include).astype(np.float32))


def is_last(array):
    return array.transpose(0, 2, 3, 1).flags.c_contiguous


OPERATIONS = {
    "conv2d": lambda x: hapgop.conv2d(x, np.ones((6, 5, 3, 3), x.dtype)),
    "max_pool2d": lambda x: hapgop.max_pool2d(x, 2),
    "avg_pool2d": lambda x: hapgop.avg_pool2d(x, 2),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_result_lies_as_the_input_does(operation, dtype):
    x = whole((2, 5, 8, 8), dtype=dtype)
    first, channels_last = OPERATIONS[operation](x), OPERATIONS[operation](last(x))
    assert first.flags.c_contiguous
    assert is_last(channels_last)
    assert not channels_last.flags.c_contiguous
    assert first.dtype == channels_last.dtype == dtype
    np.testing.assert_array_equal(first, channels_last)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("order", [np.ascontiguousarray, last])
def test_dense_input_is_not_copied(operation, order, monkeypatch):
    x = order(whole((2, 5, 8, 8)))
    wanted = OPERATIONS[operation](x)

    def copy(array, *args, **kwargs):
        raise AssertionError("a dense array is copied")

    monkeypatch.setattr(np, "ascontiguousarray", copy)
    np.testing.assert_array_equal(OPERATIONS[operation](x), wanted)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_read_only_input_is_taken_and_left_alone(operation):
    x = whole((2, 5, 8, 8))
    before = x.copy()
    x.flags.writeable = False
    OPERATIONS[operation](x)
    np.testing.assert_array_equal(x, before)


def test_results_do_not_share_memory():
    x = whole((1, 3, 8, 8))
    w = whole((4, 3, 3, 3))
    one, two = hapgop.conv2d(x, w), hapgop.conv2d(x, w)
    assert not np.shares_memory(one, two)
    one[:] = 5
    np.testing.assert_array_equal(two, hapgop.conv2d(x, w))


@pytest.mark.skipif(not target.is_x86(), reason="flushed by x86's control register")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_denormal_numbers_are_zero_inside_and_only_there(dtype):
    """They would cost a hundred times a normal one."""
    tiny = np.finfo(dtype).smallest_normal / 4
    assert tiny > 0
    x, w = np.full((2, 3, 9, 9), 2, dtype), np.full((4, 3, 3, 3), tiny, dtype)
    assert not hapgop.conv2d(x, w).any()
    assert not hapgop.linear(x[0, 0], np.full((5, 9), tiny, dtype)).any()
    assert not hapgop.avg_pool2d(np.full((1, 3, 4, 4), tiny, dtype), 2).any()
    assert (w * x[0, 0, 0, 0] > 0).all()


def test_padding_in_all_its_forms():
    x, w = whole((1, 3, 7, 8)), whole((4, 3, 3, 3))
    for padding in (1, (1, 1), (1, 1, 1, 1), ((1, 1), (1, 1)), "same"):
        np.testing.assert_array_equal(hapgop.conv2d(x, w, padding=padding), hapgop.conv2d(x, w, padding=1))
    np.testing.assert_array_equal(hapgop.conv2d(x, w, padding="valid"), hapgop.conv2d(x, w))


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 4, 3), (2, 1, 2, 3)])
def test_linear_of_any_leading_shape(shape):
    x, w, b = whole(shape), whole((5, 3)), whole(5)
    y = hapgop.linear(x, w, b)
    assert y.shape == (*shape[:-1], 5)
    np.testing.assert_array_equal(y, x @ w.T + b)
    np.testing.assert_array_equal(hapgop.linear(x[..., ::-1], w), x[..., ::-1] @ w.T)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3)])
def test_linear_of_nothing(shape):
    assert hapgop.linear(np.zeros(shape, np.float32), whole((5, 3))).shape == (*shape[:-1], 5)


def test_an_empty_batch():
    x = np.zeros((0, 3, 8, 8), np.float32)
    assert hapgop.conv2d(x, whole((4, 3, 3, 3))).shape == (0, 4, 6, 6)


def test_an_empty_batch_of_a_pool():
    x = np.zeros((0, 3, 8, 8), np.float32)
    assert hapgop.max_pool2d(x, 2).shape == (0, 3, 4, 4)
    assert hapgop.avg_pool2d(x, 2).shape == (0, 3, 4, 4)


@pytest.mark.filterwarnings("default::hapgop.shape.UnreadInputWarning")
def test_rows_that_no_window_reads_are_told_of():
    with pytest.warns(UnreadInputWarning):
        hapgop.conv2d(whole((1, 3, 8, 24)), whole((4, 3, 3, 3)), stride=2)


# Wrong inputs

X, W, B = whole((1, 3, 8, 8)), whole((4, 3, 3, 3)), whole(4)
M, V = whole((2, 3)), whole((4, 3))

WRONG = {
    "x, a list": (lambda: hapgop.conv2d(X.tolist(), W), "x is a list; a NumPy array is wanted"),
    "x, an image": (lambda: hapgop.conv2d(X[0], W), "x has shape (3, 8, 8); 4 dimensions are wanted"),
    "x, integers": (
        lambda: hapgop.conv2d(X.astype(int), W),
        "x is int64; float32 or float64 is wanted: x.astype('float32')",
    ),
    "x, half": (lambda: hapgop.conv2d(X.astype(np.float16), W), "x is float16; float32 or float64 is wanted"),
    "x, another byte order": (lambda: hapgop.conv2d(X.astype(">f4"), W), "x is >f4; float32 or float64 is wanted"),
    "x, complex": (lambda: hapgop.conv2d(X.astype(complex), W), "x is complex128; float32 or float64 is wanted"),
    "weight, none": (lambda: hapgop.conv2d(X, None), "weight is a NoneType; a NumPy array is wanted"),
    "weight, flat": (lambda: hapgop.conv2d(X, W[0]), "weight has shape (3, 3, 3); 4 dimensions are wanted"),
    "weight, double": (
        lambda: hapgop.conv2d(X, W.astype(np.float64)),
        "weight is float64 but x is float32; both have to be the same",
    ),
    "weight, channels": (lambda: hapgop.conv2d(X, W[:, :2]), "weight: shape (4, 2, 3, 3) takes 2 input channels"),
    "weight, too large": (lambda: hapgop.conv2d(X, whole((4, 3, 9, 9))), "kernel: 9 rows and columns do not fit"),
    "bias, a number": (lambda: hapgop.conv2d(X, W, 1.0), "bias is a float; a NumPy array is wanted"),
    "bias, two dimensions": (lambda: hapgop.conv2d(X, W, B[None]), "bias has shape (1, 4); 1 dimensions are wanted"),
    "bias, too short": (lambda: hapgop.conv2d(X, W, B[:3]), "bias has shape (3,); weight (4, 3, 3, 3) wants (4,)"),
    "bias, double": (lambda: hapgop.conv2d(X, W, B.astype(float)), "bias is float64 but x is float32"),
    "stride": (lambda: hapgop.conv2d(X, W, stride=0), "stride: got 0, wanted at least 1"),
    "padding": (lambda: hapgop.conv2d(X, W, padding="full"), "padding: got 'full', wanted"),
    "dilation": (lambda: hapgop.conv2d(X, W, dilation=1.5), "dilation: got 1.5, wanted a whole number"),
    "groups": (lambda: hapgop.conv2d(X, W, groups=2), "groups: 2 does not divide the 3 input channels"),
    "activation": (lambda: hapgop.conv2d(X, W, activation="gelu"), "activation is 'gelu'; it has to be one of None"),
    "linear x, a list": (lambda: hapgop.linear([[1.0, 2.0, 3.0]], V), "x is a list; a NumPy array is wanted"),
    "linear x, a number": (lambda: hapgop.linear(np.float32(3), V), "x "),
    "linear features": (lambda: hapgop.linear(M[:, :2], V), "x has shape (2, 2); weight (4, 3) wants (..., 3)"),
    "linear no features": (
        lambda: hapgop.linear(M[:, :0], V[:, :0]),
        "x has shape (2, 0); weight (4, 0) wants (..., 1 or more)",
    ),
    "linear x, integers": (lambda: hapgop.linear(M.astype(int), V), "x is int64; float32 or float64 is wanted"),
    "linear weight": (lambda: hapgop.linear(M, W), "weight has shape (4, 3, 3, 3); 2 dimensions are wanted"),
    "linear types": (lambda: hapgop.linear(M, V.astype(float)), "weight is float64 but x is float32"),
    "linear bias": (lambda: hapgop.linear(M, V, B[:2]), "bias has shape (2,); weight (4, 3"),
    "pool x": (lambda: hapgop.max_pool2d(X[0], 2), "x has shape (3, 8, 8); 4 dimensions are wanted"),
    "pool x, integers": (lambda: hapgop.avg_pool2d(X.astype(int), 2), "x is int64; float32 or float64 is wanted"),
    "pool kernel, too large": (lambda: hapgop.max_pool2d(X, 9), "kernel: 9 rows and columns do not fit"),
    "pool kernel, zero": (lambda: hapgop.max_pool2d(X, 0), "kh: got 0, wanted at least 1"),
    "pool kernel, three": (lambda: hapgop.max_pool2d(X, (2, 2, 2)), "kernel: got (2, 2, 2), wanted"),
    "pool kernel, a word": (lambda: hapgop.avg_pool2d(X, "2"), "kernel: got '2', wanted"),
    "pool padding": (lambda: hapgop.max_pool2d(X, 2, padding=2), "padding: 2 is more than half of the kernel of 2"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_input_is_told_what_is_wanted(case):
    call, wanted = WRONG[case]
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value).startswith(wanted)


def test_a_numpy_integer_is_a_kernel():
    np.testing.assert_array_equal(hapgop.max_pool2d(X, np.int64(2)), hapgop.max_pool2d(X, 2))
