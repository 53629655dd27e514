"""The hot loops as machine code: as many multiply-adds as the tile has, and no vector on its way to the stack."""

import re

import pytest
from loops import innermost, multiplications, spills
from problems import ANSWERS, name

from hapgop import native
from hapgop.algorithms import Problem
from hapgop.algorithms.winograd import Winograd, WinogradGradW
from hapgop.machine import AVX2, AVX512
from hapgop.native import compiler
from hapgop.native.emit import emit
from hapgop.shape import ConvShape
from hapgop.tile import Builder

pytestmark = pytest.mark.skipif(not compiler.is_x86(), reason="reads x86 assembly")

SHAPES = {
    "3x3": ConvShape(1, 64, 56, 56, 64, 3, 3, padding=1),
    "3x3, stride 2": ConvShape(1, 64, 56, 56, 128, 3, 3, 2, 1),
    "3x3, 512 channels": ConvShape(1, 512, 7, 7, 512, 3, 3, padding=1),
    "1x1": ConvShape(1, 64, 28, 28, 256, 1, 1),
    "5x5": ConvShape(1, 32, 28, 28, 64, 5, 5, padding=2),
}
machines = pytest.mark.parametrize("machine", [AVX512, AVX2], ids=name)


def loops(algorithm, op, shape, machine):
    """(tile, innermost loops with the most multiply-adds) of a kernel."""
    recipe = algorithm.recipe(Problem(op, shape), machine)
    every = innermost(native.assembly(recipe.build(), machine.cpu))
    most = max(len(multiplications(loop)) for loop in every)
    tile = [int(number) for number in re.findall(r"\d+", recipe.tiles)]
    return tile[0] * tile[1], [loop for loop in every if len(multiplications(loop)) == most]


def algorithms(op):
    return [a for a, o in ANSWERS if o == op and a.name.startswith("direct")]


def test_loops_are_found():
    text = """
run:
    movq %rdi, %rax
outer:
    xorl %ecx, %ecx
inner:
    vfmadd231ps %zmm0, %zmm1, %zmm2
    vmovups %zmm3, -64(%rsp)
    vfnmadd213pd 8(%rdi), %ymm1, %ymm2
    jne inner
    vfmadd231ps %zmm0, %zmm1, %zmm2
    jmp outer
    retq
"""
    (loop,) = innermost(text)
    assert len(loop) == 4
    assert len(multiplications(loop)) == 2
    assert spills(loop) == ["vmovups %zmm3, -64(%rsp)"]


@machines
@pytest.mark.parametrize("op", ["conv", "grad_x"])
@pytest.mark.parametrize("case", SHAPES)
def test_the_direct_loop_is_all_multiply_adds(op, case, machine):
    if op == "grad_x" and "stride" in case:
        pytest.skip("each residue class has a tile of its own")
    for algorithm in algorithms(op):
        tile, hottest = loops(algorithm, op, SHAPES[case], machine)
        assert len(multiplications(hottest[0])) == 4 * tile  # four steps of the reduction a turn
        # The interior's loop; those of border tiles, which do the same for the taps inside, may move a vector or two.
        assert any(not spills(loop) for loop in hottest)
        for loop in hottest:
            assert len(spills(loop)) <= len(multiplications(loop)) / 8
            assert len(multiplications(loop)) > len(loop) / 2


@machines
@pytest.mark.parametrize("case", SHAPES)
def test_the_weight_gradients_loop_does_not_spill(case, machine):
    for algorithm in algorithms("grad_w"):
        tile, hottest = loops(algorithm, "grad_w", SHAPES[case], machine)
        for loop in hottest:
            assert not spills(loop)
            assert len(multiplications(loop)) == tile


@machines
@pytest.mark.parametrize("channels", [16, 64, 256])
@pytest.mark.parametrize("op", ["conv", "grad_x", "grad_w"])
def test_the_products_of_fast_convolution_do_not_spill(op, channels, machine):
    """Every multiply-add of the products' loop adds to a register; four steps a turn, two in weight gradients."""
    shape = ConvShape(16, channels, 28, 28, channels, 3, 3, padding=1)
    algorithm = WinogradGradW(4, 3) if op == "grad_w" else Winograd(4, 3)
    tile, hottest = loops(algorithm, op, shape, machine)
    for loop in hottest:
        assert not spills(loop)
        assert len(multiplications(loop)) == (2 if op == "grad_w" else 4) * tile
        assert len(multiplications(loop)) > len(loop) * 2 / 5


@machines
@pytest.mark.parametrize("kernel", [3, 7])
def test_a_first_layer_does_not_spill(kernel, machine):
    shape = ConvShape(1, 3, 64, 64, 64, kernel, kernel, 2 if kernel == 7 else 1, kernel // 2)
    for algorithm in algorithms("conv"):
        _, hottest = loops(algorithm, "conv", shape, machine)
        assert not any(spills(loop) for loop in hottest)


def test_vectors_are_as_wide_as_the_machines():
    """512-bit code for AVX-512, none of it for AVX2."""
    for machine, wide in ((AVX512, True), (AVX2, False)):
        (algorithm,) = algorithms("conv")
        kernel = algorithm.recipe(Problem("conv", SHAPES["1x1"]), machine).build()
        assert ("%zmm" in native.assembly(kernel, machine.cpu)) == wide


def test_a_multiply_add_is_one_instruction_and_a_maximum_two():
    k = Builder("k", "float32", 8)
    x, y = k.buffer("x", 64, "in"), k.buffer("y", 64, "out")
    with k.stage("s", ("i", 1)), k.loop("j", 0, 64, 8) as j:
        a = k.load(x, j)
        k.store(k.max(k.fma(a, a, a), k.const(0.0)), y, j)
    (loop,) = innermost(native.assembly(k.kernel(), "haswell"))
    assert len(multiplications(loop)) == 1
    assert len([line for line in loop if line.startswith("v")]) <= 7


def test_without_the_instruction_no_library_is_called():
    k = Builder("k", "float32", 4)
    x, y = k.buffer("x", 64, "in"), k.buffer("y", 64, "out")
    with k.stage("s", ("i", 1)), k.loop("j", 0, 64, 4) as j:
        a = k.load(x, j)
        k.store(k.fma(a, a, a), y, j)
    assert "fmaf" not in native.assembly(k.kernel(), "x86-64")


def test_a_multiply_add_in_two_roundings_where_there_is_no_better():
    k = Builder("k", "float32", 4)
    x, y = k.buffer("x", 4, "in"), k.buffer("y", 4, "out")
    with k.stage("s", ("i", 1)):
        a = k.load(x, 0)
        k.store(k.fma(a, a, a), y, 0)
    assert "@llvm.fma" in emit(k.kernel(), fma=True)
    without = emit(k.kernel(), fma=False)
    assert "@llvm.fma" not in without
    assert "fmul <4 x float>" in without
    assert "fadd <4 x float>" in without
