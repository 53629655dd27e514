"""Each operation as machine code: all pairs of special numbers, all counts of lanes, nothing outside touched."""

import ctypes
import mmap
import os
import subprocess
import sys
from itertools import product
from textwrap import dedent

import numpy as np
import pytest
from kernels import emitted, function

from hapgop import native
from hapgop.native import target
from hapgop.tile import Builder, check, interpret

SPECIAL = [0.0, -0.0, 1.0, -2.5, 3.0, np.inf, -np.inf, np.nan, 2.0**100, -(2.0**100)]
PAIRS = np.array(list(product(SPECIAL, SPECIAL)))
WIDTHS = [(dtype, width) for dtype in ("float32", "float64") for width in (16, 32, 64)]


def vectors(dtype, width, write, columns=2):
    """A kernel whose item reads one vector of each input and stores what `write(k, *registers)` makes of them."""
    lanes = width // np.dtype(dtype).itemsize
    count = -(-len(PAIRS) // lanes) * lanes
    k = Builder("op", dtype, lanes)
    inputs = [k.buffer(name, count, "in") for name in "abcd"[:columns]]
    y = k.buffer("y", count, "out")
    with k.stage("s", ("i", count // lanes)) as (i,):
        k.store(write(k, *(k.load(b, i * lanes) for b in inputs)), y, i * lanes)
    values = np.resize(PAIRS, (count, 2)).astype(dtype)
    arrays = {name: values[:, column % 2].copy() for column, name in enumerate("abcd"[:columns])}
    if columns == 4:
        arrays["c"], arrays["d"] = np.roll(arrays["c"], 1), np.roll(arrays["d"], 3)
    arrays["y"] = np.zeros(count, dtype)
    return k.kernel(), arrays


def both(kernel, arrays):
    copies = {name: a.copy() for name, a in arrays.items()}
    interpret(kernel, copies, {})
    return emitted(kernel, arrays, {})["y"], copies["y"]


@pytest.mark.parametrize(("dtype", "width"), WIDTHS)
@pytest.mark.parametrize("op", ["add", "sub", "mul", "div", "max", "min"])
def test_binary(dtype, width, op):
    y, wanted = both(*vectors(dtype, width, lambda k, a, b: getattr(k, op)(a, b)))
    np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize(("dtype", "width"), WIDTHS)
@pytest.mark.parametrize("test", ["above", "equal"])
def test_select(dtype, width, test):
    y, wanted = both(*vectors(dtype, width, lambda k, a, b, c, d: k.select(test, a, b, c, d), columns=4))
    np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize(("dtype", "width"), WIDTHS)
@pytest.mark.parametrize("step", [0, 1, 3, -1])
def test_permute(dtype, width, step):
    def write(k, a, b):
        return k.permute(k.add(a, b), [(2 + step * i) % k.lanes for i in range(k.lanes)])

    y, wanted = both(*vectors(dtype, width, write))
    np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize(("dtype", "width"), WIDTHS)
def test_fma(dtype, width):
    y, wanted = both(*vectors(dtype, width, lambda k, a, b, c: k.fma(a, b, c), columns=3))
    np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize(("dtype", "width"), WIDTHS)
def test_transpose(dtype, width):
    lanes = width // np.dtype(dtype).itemsize
    k = Builder("transpose", dtype, lanes)
    x, y = k.buffer("x", lanes * lanes, "in"), k.buffer("y", lanes * lanes, "out")
    with k.stage("s", ("i", 1)):
        for i, column in enumerate(k.transpose([k.load(x, lanes * i) for i in range(lanes)])):
            k.store(column, y, lanes * i)
    square = np.arange(lanes * lanes, dtype=dtype)
    y = emitted(k.kernel(), {"x": square, "y": np.zeros_like(square)}, {})["y"]
    np.testing.assert_array_equal(y.reshape(lanes, lanes), square.reshape(lanes, lanes).T)


@pytest.mark.parametrize("width", [16, 32, 64])
def test_fma_rounds_once(width):
    """(1 + e)(1 - e) - 1 is -e**2, which a product of its own would round away."""
    lanes = width // 4
    k = Builder("fma", "float32", lanes)
    x, y = k.buffer("x", 2, "in"), k.buffer("y", lanes, "out")
    with k.stage("s", ("i", 1)):
        k.store(k.fma(k.broadcast(x, 0), k.broadcast(x, 1), k.const(-1.0)), y, 0)
    e = 2.0**-12
    arrays = {"x": np.array([1 + e, 1 - e], np.float32), "y": np.zeros(lanes, np.float32)}
    assert emitted(k.kernel(), arrays, {})["y"].tolist() == [-e * e] * lanes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [*SPECIAL, 0.1, 1 / 3, 16777217.0, 3.4e38, 2.0**-126])
def test_constants_are_rounded_to_the_type(dtype, value):
    k = Builder("const", dtype, 4)
    y = k.buffer("y", 4, "out")
    with k.stage("s", ("i", 1)):
        k.store(k.const(value), y, 0)
    result = emitted(k.kernel(), {"y": np.ones(4, dtype)}, {})["y"]
    assert result.tobytes() == np.full(4, value, dtype).tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_from_index_rounds_as_numpy(dtype):
    values = [0, -1, 7, 2**24 + 1, -(2**24) - 3, 2**40 + 1]
    k = Builder("index", dtype, 4)
    y = k.buffer("y", len(values), "out")
    with k.stage("s", ("i", 1)):
        for i, value in enumerate(values):
            k.store(k.from_index(value), y, i, 1)
    result = emitted(k.kernel(), {"y": np.zeros(len(values), dtype)}, {})["y"]
    assert result.tolist() == np.array(values).astype(dtype).tolist()


@pytest.mark.parametrize(("dtype", "width"), WIDTHS)
@pytest.mark.parametrize("stride", [1, 3])
def test_every_count_of_lanes(dtype, width, stride):
    """Load zeroes the lanes beyond its count, store leaves what lies beyond."""
    lanes = width // np.dtype(dtype).itemsize
    size = lanes * stride
    k = Builder("counts", dtype, lanes)
    x = k.buffer("x", size, "in")
    loaded, stored = k.buffer("loaded", lanes * lanes, "out"), k.buffer("stored", lanes * size, "out")
    with k.stage("s", ("i", 1)):
        for count in range(1, lanes + 1):
            value = k.load(x, 0, count, stride)
            k.store(value, loaded, (count - 1) * lanes)
            k.store(value, stored, (count - 1) * size, count, stride)
    arrays = {
        "x": np.arange(1, size + 1, dtype=dtype),
        "loaded": np.full(lanes * lanes, 9, dtype),
        "stored": np.full(lanes * size, -9, dtype),
    }
    copies = {name: a.copy() for name, a in arrays.items()}
    interpret(k.kernel(), copies, {})
    results = emitted(k.kernel(), arrays, {})
    np.testing.assert_array_equal(results["loaded"], copies["loaded"])
    np.testing.assert_array_equal(results["stored"], copies["stored"])


@pytest.mark.parametrize("divisor", [1, 2, 3, 4, 7])
def test_division_rounds_down(divisor):
    k = Builder("floor", "float64", 1)
    n = k.size("n", 0, 99)
    y = k.buffer("y", 40, "out")
    with k.stage("s", ("i", 40)) as (i,):
        k.store(k.from_index((i - n) // divisor * 100 + (i - n) % divisor), y, i, 1)
    y = emitted(k.kernel(), {"y": np.zeros(40)}, {"n": 20})["y"]
    assert y.tolist() == [(i - 20) // divisor * 100 + (i - 20) % divisor for i in range(40)]


@pytest.mark.parametrize(("dtype", "width"), WIDTHS)
@pytest.mark.parametrize("last", [0, 2, 1000])
def test_an_access_where_data_say(dtype, width, last):
    """Whatever numbers are stored as whole ones, what is found lies inside."""
    lanes = width // np.dtype(dtype).itemsize
    given = np.resize([*SPECIAL, 2.9, 0.5, 999.0, 1000.0, 1001.0, 2.0**31], 2 * lanes).astype(dtype)
    k = Builder("found", dtype, lanes)
    x, table = k.buffer("x", len(given), "in"), k.buffer("table", last + 1, "in")
    y, places = k.buffer("y", len(given), "out"), k.buffer("places", len(given) + 1, "private", whole=True)
    with k.stage("s", ("i", 1)):
        k.store(k.load(x, 0), places, 0)
        for i in range(lanes, 2 * lanes):
            k.store(k.broadcast(x, i), places, i, 1, stride=2)
        with k.loop("j", 0, len(given)) as j, k.indirect("place", places, j, last) as place:
            k.store(k.broadcast(table, place), y, j, 1)
    kernel = k.kernel()
    check(kernel)
    arrays = {"x": given, "table": np.arange(last + 1).astype(dtype), "y": np.zeros(len(given), dtype)}
    copies = {name: values.copy() for name, values in arrays.items()}
    interpret(kernel, copies, {})
    np.testing.assert_array_equal(emitted(kernel, arrays, {})["y"], copies["y"])
    np.testing.assert_array_equal(copies["y"], np.minimum(np.trunc(np.clip(np.nan_to_num(given), 0, 2**30)), last))


@pytest.mark.parametrize("descending", [False, True])
def test_a_thread_goes_through_its_items_up_or_down(descending):
    """Each writes its number over the one before: the last one stays."""
    k = Builder("order", "float64", 2)
    last, sums = k.buffer("last", 1, "inout"), k.buffer("sums", 12, "out")
    with k.stage("items", ("row", 3), ("column", 4), descending=descending) as (row, column):
        number = k.from_index(row * 4 + column)
        k.store(number, last, 0, 1)
        k.store(number, sums, row * 4 + column, 1)
    arrays = {"last": np.full(1, 50.0), "sums": np.zeros(12)}
    copies = {name: values.copy() for name, values in arrays.items()}
    interpret(k.kernel(), copies, {})
    for found in (copies, emitted(k.kernel(), arrays, {})):
        assert found["last"] == (0 if descending else 11)
        np.testing.assert_array_equal(found["sums"], np.arange(12))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_item_runs_once_whatever_the_team(threads):
    k = Builder("items", "float64", 1)
    a, b = k.size("a", 0), k.size("b", 0)
    y = k.buffer("y", 42, "out")
    with k.stage("s", ("i", a), ("j", 3), ("k", b)) as (i, j, last):
        item = i * 6 + j * 2 + last
        k.store(k.from_index(item + 1), y, item % 42, 1)
    for sizes in ({"a": 7, "b": 2}, {"a": 1, "b": 2}, {"a": 0, "b": 2}, {"a": 7, "b": 0}):
        y = emitted(k.kernel(), {"y": np.zeros(42)}, sizes, threads)["y"]
        done = sizes["a"] * 3 * sizes["b"]
        assert y.tolist() == [i + 1 if i < done else 0 for i in range(42)]


GUARDED = """
    import ctypes, mmap, sys
    import numpy as np
    from hapgop import native
    from hapgop.tile import Builder

    lanes, count, stride = {lanes}, {count}, {stride}
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 3 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    assert protect(start, page, 0) == 0 and protect(start + 2 * page, page, 0) == 0
    reach = (count - 1) * stride + 1
    for size, at in ((reach, start + 2 * page - 4 * reach), (reach, start + page)):
        k = Builder("guarded", "float32", lanes)
        x, y = k.buffer("x", size, "in"), k.buffer("y", size, "out")
        with k.stage("s", ("i", 1)):
            k.store(k.load(x, 0, count, stride), y, 0, count, stride)
        kernel = k.kernel()
        code = native.load("guarded {lanes} {count} {stride}", lambda: kernel)
        words = (ctypes.c_int64 * 2)(at, at)
        native.launch(code.address, ctypes.addressof(words), 1)
    print("safe")
"""


@pytest.mark.skipif(not hasattr(mmap, "PROT_READ"), reason="needs mprotect")
@pytest.mark.parametrize(("lanes", "count", "stride"), [(16, 5, 1), (8, 3, 1), (4, 1, 1), (16, 3, 7), (8, 8, 1)])
def test_no_byte_outside_is_read_or_written(lanes, count, stride, tmp_path):
    """The buffer ends where a page begins that must not be touched."""
    program = dedent(GUARDED).format(lanes=lanes, count=count, stride=stride)
    environment = {**os.environ, "HAPGOP_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "safe\n", done.stderr


def streaming_kernel(lanes, offset):
    k = Builder("streaming", "float32", lanes)
    x, y = k.buffer("x", 4 * lanes, "in"), k.buffer("y", 5 * lanes, "out")
    with k.stage("s", ("i", 4)) as (i,):
        k.store(k.load(x, i * lanes), y, i * lanes + offset, streaming=True)
    return k.kernel()


@pytest.mark.parametrize("width", [16, 32, 64])
@pytest.mark.parametrize("offset", [0, 1])
def test_streaming_stores_write_wherever_the_memory_begins(width, offset):
    """Stores past the caches want whole vectors of memory; elsewhere they are plain ones."""
    lanes = width // 4
    code = function(streaming_kernel(lanes, offset))
    x = np.arange(4 * lanes, dtype=np.float32)
    memory = np.zeros(5 * lanes + 64, np.float32)
    first = -memory.ctypes.data % 64 // 4
    for shift in (0, 1, 4, 8, 16):
        memory[:] = -1
        y = memory[first + shift :][: 5 * lanes]
        words = (ctypes.c_int64 * 2)(x.ctypes.data, y.ctypes.data)
        native.launch(code.address, ctypes.addressof(words), 1)
        np.testing.assert_array_equal(y[offset : offset + 4 * lanes], x)
        assert (memory == -1).sum() == memory.size - 4 * lanes


@pytest.mark.skipif(not target.is_x86(), reason="reads x86 assembly")
def test_a_streaming_store_goes_past_the_caches():
    assert "vmovntps" in native.assembly(streaming_kernel(8, 0), "haswell")
    assert "sfence" in native.assembly(streaming_kernel(8, 0), "haswell")
    assert "vmovntps" not in native.assembly(streaming_kernel(8, 1), "haswell")
