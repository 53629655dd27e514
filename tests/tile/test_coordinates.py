"""Accesses with coordinates that may lie outside, and rounds of stages: checked, interpreted and emitted."""

from dataclasses import replace

import numpy as np
import pytest
from kernels import emitted, staggered

from hapgop.tile import Affine, Builder, Coordinate, TileError, check, interpret

ROWS, COLUMNS, LANES = 3, 5, 4


def shifted(down: int, right: int, extent: int = ROWS):
    """y = x moved by some rows and columns, zero where there is nothing."""
    k = Builder("shifted", "float64", LANES)
    size = ROWS * COLUMNS * LANES
    x, y = k.buffer("x", size, "in"), k.buffer("y", size, "out")
    with k.stage("all", ("row", ROWS), ("column", COLUMNS)) as (i, j):
        where = (
            Coordinate(i + down, Affine(extent), COLUMNS * LANES),
            Coordinate(j + right, Affine(COLUMNS), LANES),
        )
        k.store(k.load(x, 0, where=where), y, i * (COLUMNS * LANES) + j * LANES)
    return k.kernel()


def scattered(down: int):
    """y = x moved by some rows; what would lie outside is not stored."""
    k = Builder("scattered", "float64", LANES)
    size = ROWS * COLUMNS * LANES
    x, y = k.buffer("x", size, "in"), k.buffer("y", size, "out")
    with k.stage("zero", ("vector", ROWS * COLUMNS)) as (i,):
        k.store(k.const(0.0), y, i * LANES)
    with k.stage("all", ("row", ROWS), ("column", COLUMNS)) as (i, j):
        value = k.load(x, i * (COLUMNS * LANES) + j * LANES, 3)
        k.store(value, y, j * LANES, 3, where=(Coordinate(i + down, Affine(ROWS), COLUMNS * LANES),))
    return k.kernel()


def moved(x: np.ndarray, down: int, right: int) -> np.ndarray:
    y = np.zeros_like(x)
    for i in range(ROWS):
        for j in range(COLUMNS):
            if 0 <= i + down < ROWS and 0 <= j + right < COLUMNS:
                y[i, j] = x[i + down, j + right]
    return y


@pytest.mark.parametrize("down", [-4, -1, 0, 2])
@pytest.mark.parametrize("right", [-2, 0, 7])
def test_what_is_outside_is_zero(down, right):
    kernel = shifted(down, right)
    check(kernel, 32)
    x = np.random.default_rng(1).standard_normal((ROWS, COLUMNS, LANES))
    arrays = {"x": x.ravel(), "y": np.full(x.size, np.nan)}
    interpret(kernel, arrays, {})
    np.testing.assert_array_equal(arrays["y"], moved(x, down, right).ravel())
    arrays["y"][:] = np.nan
    np.testing.assert_array_equal(emitted(kernel, arrays, {})["y"], moved(x, down, right).ravel())


@pytest.mark.parametrize("down", [-1, 0, 2])
def test_nothing_is_stored_outside(down):
    kernel = scattered(down)
    check(kernel, 32)
    x = np.random.default_rng(1).standard_normal((ROWS, COLUMNS, LANES))
    arrays = {"x": x.ravel(), "y": np.full(x.size, np.nan)}
    wanted = moved(x, -down, 0)
    wanted[:, :, 3] = 0
    interpret(kernel, arrays, {})
    np.testing.assert_array_equal(arrays["y"], wanted.ravel())
    np.testing.assert_array_equal(emitted(kernel, arrays, {})["y"], wanted.ravel())


def test_an_extent_beyond_the_buffer_is_refused():
    with pytest.raises(TileError, match="may pass the end"):
        check(shifted(0, 0, extent=ROWS + 1), 32)


def test_a_coordinate_goes_with_neighbours_only():
    for kernel in (shifted(0, 0), scattered(0)):
        (stage,) = kernel.stages[-1:]
        apart = tuple(replace(s, stride=2) if getattr(s, "where", ()) else s for s in stage.body)
        with pytest.raises(TileError, match=r"stride 2 and a coordinate, of [xy]: only neighbours have one"):
            check(replace(kernel, steps=(*kernel.stages[:-1], replace(stage, body=apart))))


def rounds():
    """y[i] grows by x[round] times the sum of what all of y was a round before: every round needs the one before."""
    k = Builder("rounds", "float64", LANES)
    n = k.size("n", low=0)
    x, y = k.buffer("x", n * LANES, "in"), k.buffer("y", 6 * LANES, "out")
    state, before = k.buffer("state", 6 * LANES, "scratch"), k.buffer("before", 6 * LANES, "scratch")
    with k.stage("start", ("i", 6)) as (i,):
        k.store(k.const(1.0), state, i * LANES)
    with k.rounds("round", 0, n) as r:
        with k.stage("copy", ("i", 6)) as (i,):
            k.store(k.load(state, i * LANES), before, i * LANES)
        with k.stage("add", ("i", 6)) as (i,):
            total = k.load(state, i * LANES)
            factor = k.load(x, r * LANES)
            with k.loop("j", 0, 6) as j:
                k.fma(factor, k.load(before, j * LANES), total, into=total)
            k.store(total, state, i * LANES)
    with k.stage("end", ("i", 6)) as (i,):
        k.store(k.load(state, i * LANES), y, i * LANES)
    return k.kernel()


@pytest.mark.parametrize("n", [0, 1, 5])
def test_rounds_follow_one_another(n):
    kernel = rounds()
    check(kernel, 32)
    assert [stage.name for stage in kernel.stages] == ["start", "copy", "add", "end"]
    x = np.random.default_rng(1).integers(-1, 2, (n, LANES)).astype(float)
    wanted = np.ones((6, LANES))
    for factor in x:
        wanted = wanted + factor * wanted.sum(0)
    arrays = {"x": x.ravel(), "y": np.full(6 * LANES, np.nan)}
    interpret(kernel, arrays, {"n": n})
    np.testing.assert_array_equal(arrays["y"], wanted.ravel())
    for threads in (1, 2, 5):
        np.testing.assert_array_equal(emitted(kernel, arrays, {"n": n}, threads)["y"], wanted.ravel())
    np.testing.assert_array_equal(staggered(kernel, arrays, {"n": n})["y"], wanted.ravel())
