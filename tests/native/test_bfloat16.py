"""Buffers of bfloat16: each number of 16 bits is read as what it is, each float32 is rounded as the definition says."""

import numpy as np
import pytest
from kernels import emitted

from hapgop.native import target
from hapgop.tile import Builder, TileError, check, interpret, narrowed, widened

# With the instruction that rounds to bfloat16, where this CPU has it, and without.
CPUS = ["host", "haswell"]
ALL = np.arange(2**16, dtype=np.uint16)


def same(bits, wanted):
    """The same numbers; one NaN is as good as another."""
    np.testing.assert_array_equal(widened(bits), widened(wanted))


def around(bits) -> np.ndarray:
    """Each bfloat16 as float32, its neighbours, the ties between it and the next, and what is next to those."""
    wide = widened(bits).view(np.uint32)
    steps = [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF]
    numbers = np.concatenate([(wide + np.uint32(step)).view(np.float32) for step in steps])
    return numbers[np.isnan(numbers) | (np.abs(numbers) >= np.finfo(np.float32).tiny) | (numbers == 0)]


def test_the_definition():
    torch = pytest.importorskip("torch")
    numbers = around(ALL)
    wanted = torch.from_numpy(numbers).bfloat16().float().numpy()
    np.testing.assert_array_equal(widened(narrowed(numbers)), wanted)


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_every_number_is_read_and_rounded(lanes, cpu):
    if cpu != "host" and not target.is_x86():
        pytest.skip(f"{cpu} is another kind of CPU")
    numbers = around(ALL)
    numbers = np.resize(numbers, -(-len(numbers) // lanes) * lanes)
    k = Builder("round", "float32", lanes)
    x, y = k.buffer("x", len(numbers), "in"), k.buffer("y", len(numbers), "out", narrow=True)
    with k.stage("all", ("i", len(numbers) // lanes)) as (i,):
        k.store(k.load(x, i * lanes), y, i * lanes)
    same(
        emitted(k.kernel(), {"x": numbers, "y": np.zeros(len(numbers), np.uint16)}, {}, cpu=cpu)["y"], narrowed(numbers)
    )

    k = Builder("widen", "float32", lanes)
    x, y = k.buffer("x", len(ALL), "in", narrow=True), k.buffer("y", len(ALL), "out")
    with k.stage("all", ("i", len(ALL) // lanes)) as (i,):
        k.store(k.load(x, i * lanes), y, i * lanes)
    normal = np.where((ALL & 0x7F80 == 0), 0, ALL).astype(np.uint16)
    result = emitted(k.kernel(), {"x": normal, "y": np.zeros(len(ALL), np.float32)}, {}, cpu=cpu)["y"]
    np.testing.assert_array_equal(result, widened(normal))


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_parts_of_vectors_and_single_elements(count, stride, cpu):
    if cpu != "host" and not target.is_x86():
        pytest.skip(f"{cpu} is another kind of CPU")
    k = Builder("parts", "float32", 8)
    x, y = k.buffer("x", 40, "in", narrow=True), k.buffer("y", 60, "out", narrow=True)
    with k.stage("all", ("i", 2)) as (i,):
        value = k.fma(k.load(x, i * 5 + 1, count, stride), k.broadcast(x, i * 7 + 2), k.const(0.5))
        k.store(value, y, i * 30 + 1, count, stride)
    arrays = {"x": narrowed(np.linspace(-9, 9, 40)), "y": np.zeros(60, np.uint16)}
    wanted = {name: a.copy() for name, a in arrays.items()}
    interpret(k.kernel(), wanted, {})
    assert wanted["y"].any()
    same(emitted(k.kernel(), arrays, {}, cpu=cpu)["y"], wanted["y"])


@pytest.mark.parametrize(("dtype", "role"), [("float64", "in"), ("float32", "scratch"), ("float32", "private")])
def test_only_what_float32_kernels_are_given_can_be_narrow(dtype, role):
    k = Builder("wrong", dtype, 4)
    k.buffer("x", 4, role, narrow=True)
    with k.stage("all", ("i", 1)):
        k.const(1.0)
    with pytest.raises(TileError, match="narrow"):
        check(k.kernel())


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_products_of_pairs(lanes, cpu):
    """Whole vectors, parts of them, broadcasts, and pairs made of two vectors; numbers whose sums are rounded."""
    if cpu != "host" and not target.is_x86():
        pytest.skip(f"{cpu} is another kind of CPU")
    rng, rows = np.random.default_rng(1), 40
    k = Builder("dot", "float32", lanes)
    x, w = (k.buffer(name, rows * 2 * lanes + 1, "in", narrow=True) for name in "xw")
    y = k.buffer("y", rows * 4 * lanes, "out")
    with k.stage("all", ("i", rows)) as (i,):
        at, to = i * (2 * lanes), i * (4 * lanes)
        c = k.const(1.25)
        k.store(k.dot(k.load(x, at, stride=2, pairs=True), k.load(w, at + 1, stride=2, pairs=True), c), y, to)
        spread = k.broadcast(x, at + 1, pairs=True)
        k.store(k.dot(k.load(w, at, 3, stride=2, pairs=True), spread, c), y, to + lanes)
        k.store(k.dot(k.load(w, at, 2, stride=3, pairs=True), spread, c), y, to + 2 * lanes)
        k.store(k.dot(k.pair(k.load(x, at), k.load(w, at)), k.pair(k.load(w, at), k.load(x, at)), c), y, to + 3 * lanes)
    arrays = {name: narrowed(rng.standard_normal(rows * 2 * lanes + 1)) for name in "xw"}
    arrays["y"] = np.zeros(rows * 4 * lanes, np.float32)
    wanted = {name: a.copy() for name, a in arrays.items()}
    interpret(k.kernel(), wanted, {})
    np.testing.assert_array_equal(emitted(k.kernel(), arrays, {}, cpu=cpu)["y"], wanted["y"])


def test_pairs_are_checked():
    k = Builder("wrong", "float32", 4)
    x, wide = k.buffer("x", 8, "in", narrow=True), k.buffer("wide", 8, "in")
    with k.stage("all", ("i", 1)):
        k.load(x, 1, 4, 2, pairs=True)
    with pytest.raises(TileError, match="pass the end"):
        check(k.kernel())
    k = Builder("wrong", "float32", 4)
    wide = k.buffer("wide", 8, "in")
    with k.stage("all", ("i", 1)):
        k.broadcast(wide, 1, pairs=True)
    with pytest.raises(TileError, match="not narrow"):
        check(k.kernel())
