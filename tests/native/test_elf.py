"""Objects loaded without LLVM: the same results as by LLVM's loader, and what is not known is left to that."""

import ctypes
import subprocess
import sys
from textwrap import dedent

import pytest

from hapgop.native import compiler, elf, loaded

pytestmark = pytest.mark.skipif(not elf.supported(), reason="loads objects of Linux on x86-64")

# Constants, memory that is written, a function of the same object by its address, and one from elsewhere.
TEXT = """
@table = internal constant [4 x i64] [i64 3, i64 5, i64 7, i64 11]
@started = internal global i64 100
@count = internal global i64 0, align 128
declare i64 @elsewhere(i64)
define internal i64 @twice(i64 %x) nounwind { %y = mul i64 %x, 2
  ret i64 %y }
define i64 @apply(ptr %f, i64 %x) noinline nounwind { %y = call i64 %f(i64 %x)
  ret i64 %y }
define i64 @run(i64 %i) nounwind {
  %p = getelementptr [4 x i64], ptr @table, i64 0, i64 %i
  %a = load i64, ptr %p
  %n = load i64, ptr @count
  %next = add i64 %n, 1
  store i64 %next, ptr @count
  %s = load i64, ptr @started
  %b = call i64 @apply(ptr @twice, i64 %a)
  %c = call i64 @elsewhere(i64 %b)
  %d = add i64 %c, %s
  %e = add i64 %d, %next
  ret i64 %e
}
"""
_Unary = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
ELSEWHERE = _Unary(lambda x: 1000 * x)
SYMBOLS = {"elsewhere": ctypes.cast(ELSEWHERE, ctypes.c_void_p).value}


@pytest.fixture(scope="module")
def image():
    return compiler.compile_object(TEXT)


@pytest.mark.parametrize("loader", [elf.Loaded, compiler.Loaded, loaded.Code])
def test_code_computes_the_same_by_either_loader(image, loader):
    code = loader(image, SYMBOLS)
    run = _Unary(code.address("run"))
    assert [run(i) for i in range(4)] == [2000 * t + 100 + n for n, t in enumerate((3, 5, 7, 11), 1)]


def test_every_copy_has_its_own_memory(image):
    one, other = elf.Loaded(image, SYMBOLS), elf.Loaded(image, SYMBOLS)
    run, again = _Unary(one.address("run")), _Unary(other.address("run"))
    assert run(0) == 6101
    assert run(0) == 6102
    assert again(0) == 6101


def test_what_is_not_there_has_no_address(image):
    assert elf.Loaded(image, SYMBOLS).address("none") == 0
    with pytest.raises(RuntimeError, match="no function none"):
        loaded.Code(image, SYMBOLS).address("none")


def test_an_unknown_function_is_refused(image):
    with pytest.raises(elf.Unknown, match="elsewhere"):
        elf.Loaded(image, {})


@pytest.mark.parametrize("size", [0, 3, 40, 64, 200])
def test_an_object_cut_short_is_refused(image, size):
    with pytest.raises(elf.Unknown):
        elf.Loaded(image[:-size] if size else b"", SYMBOLS)


def test_an_object_of_another_kind_goes_to_llvm(monkeypatch):
    """Thread-local memory, say: the loader leaves it alone, and says so."""
    text = "@mine = thread_local global i64 3\ndefine ptr @run() nounwind { ret ptr @mine }"
    with pytest.raises(elf.Unknown):
        elf.Loaded(compiler.compile_object(text), {})
    asked = []
    monkeypatch.setattr(compiler, "Loaded", lambda image, symbols: asked.append(symbols) or elf.Loaded(PLAIN, {}))
    loaded.Code(compiler.compile_object(text), {"other": 1})
    assert asked == [{"other": 1}]


PLAIN = compiler.compile_object("define i64 @run(i64 %x) nounwind { ret i64 %x }") if elf.supported() else b""

WARM = """
    import sys
    import numpy as np, hapgop
    hapgop.set_threads(2)
    y = hapgop.conv2d(np.ones((8, 16, 64, 64), np.float32), np.ones((16, 16, 3, 3), np.float32))
    print(abs(y - 144).max() < 1e-3, "llvmlite.binding" in sys.modules)
"""


def test_a_warm_start_does_without_llvm(tmp_path, monkeypatch):
    monkeypatch.setenv("HAPGOP_CACHE", str(tmp_path))

    def told():
        command = [sys.executable, "-c", dedent(WARM)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.split()

    assert told() == ["True", "True"]
    assert told() == ["True", "False"]
