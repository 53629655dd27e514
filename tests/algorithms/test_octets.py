"""Octets to numbers: emitted on every kind of machine and interpreted, against NumPy; what is not allowed of octets."""

import numpy as np
import pytest
from kernels import emitted
from problems import MACHINES, name

from hapgop.algorithms.octets import Octets, recipe, seconds
from hapgop.machine import host
from hapgop.tile import Builder, TileError, check, interpret

every_machine = pytest.mark.parametrize("machine", MACHINES, ids=name)
# Nothing, less than a vector, periods and some, more than one work item; rows of parts of larger images.
SIZES = [
    *(Octets(1, 1, n * c, n * c, n * c, c) for c in (1, 3) for n in (0, 1, 7, 24, 100, 4096, 9001)),
    Octets(11, 28, 28, 30, 27 * 30 + 28, 1),
    Octets(5, 3, 5 * 3, 7 * 3, 80, 3),
    Octets(2, 2, 100 * 3, 101 * 3, 900, 3),
    Octets(0, 2, 4, 5, 12, 1),
]


def answers(octets, machine, **how):
    """(what comes out, what should)."""
    o, made = octets, recipe(octets, machine)
    kernel = made.build()
    check(kernel, machine.registers)
    x = np.random.default_rng(o.elements).integers(0, 256, o.images * o.image_pitch).astype(np.uint8)
    scale = np.resize(np.float32([1 / 64, 3 / 128, 5 / 256])[: o.channels], o.repeated(machine))
    shift = np.resize(np.float32([1.5, -2.25, 0.125])[: o.channels], o.repeated(machine))
    arrays = {"x": x, "scale": scale, "shift": shift, "y": np.full(o.elements, np.nan, np.float32)}
    sizes = dict(zip([size.name for size in kernel.sizes], made.sizes, strict=True))
    if how.pop("interpreted", False):
        interpret(kernel, arrays, sizes)
        got = arrays["y"]
    else:
        got = emitted(kernel, arrays, sizes, **how)["y"]
    rows = np.lib.stride_tricks.as_strided(x, (o.images, o.rows, o.row), (o.image_pitch, o.row_pitch, 1))
    return got.reshape(rows.shape), rows * np.resize(scale, o.row) - np.resize(shift, o.row)


@pytest.mark.parametrize("octets", SIZES, ids=str)
@every_machine
def test_numbers_that_fit_are_exact(octets, machine):
    got, want = answers(octets, machine)
    assert np.array_equal(got, want)
    assert seconds(octets, machine) > 0


@pytest.mark.parametrize("octets", SIZES, ids=str)
def test_interpreted_and_by_a_team(octets):
    for how in ({"interpreted": True}, {"threads": 3}):
        got, want = answers(octets, host(), **how)
        assert np.array_equal(got, want)


@pytest.mark.parametrize(("stride", "count"), [(1, 5), (2, 8), (3, 4)])
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_every_octet_is_its_number_however_it_is_loaded(lanes, stride, count):
    count = min(count, lanes)
    x = np.arange(256, dtype=np.uint8)
    k = Builder("load", "float32", lanes)
    given, y = k.buffer("x", 256, "in", octets=True), k.buffer("y", 256 * lanes, "out")
    with k.stage("all", ("i", 256 - (count - 1) * stride)) as (i,):
        k.store(k.load(given, i, count, stride), y, i * lanes)
    with k.stage("one", ("i", 256)) as (i,):
        k.store(k.broadcast(given, i), y, i * lanes, 1)
    arrays = {"x": x, "y": np.zeros(256 * lanes, np.float32)}
    got = emitted(k.kernel(), arrays, {})["y"]
    interpret(k.kernel(), arrays, {})
    assert np.array_equal(got, arrays["y"])
    assert got[::lanes].tolist() == list(range(256))


@pytest.mark.parametrize(
    ("dtype", "role", "narrow"), [("float64", "in", False), ("float32", "out", False), ("float32", "in", True)]
)
def test_octets_are_only_read_and_only_by_kernels_of_float32(dtype, role, narrow):
    k = Builder("wrong", dtype, 4)
    k.buffer("x", 8, role, narrow, octets=True)
    with pytest.raises(TileError, match="x has octets"):
        check(k.kernel())
