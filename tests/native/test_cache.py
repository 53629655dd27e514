"""The object cache: a second process compiles nothing, and no damage to a file or folder is an error."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from kernels import emitted

from hapgop import native
from hapgop.native import cache
from hapgop.tile import Builder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HAPGOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "objects"


def tripled(factor=3.0):
    k = Builder("tripled", "float32", 4)
    x, y = k.buffer("x", 4, "in"), k.buffer("y", 4, "out")
    with k.stage("s", ("i", 1)):
        k.store(k.mul(k.load(x, 0), k.const(factor)), y, 0)
    return k.kernel()


def works(kernel, factor=3.0):
    arrays = {"x": np.arange(4, dtype=np.float32), "y": np.zeros(4, np.float32)}
    return emitted(kernel, arrays, {})["y"].tolist() == [factor * i for i in range(4)]


def compiled(action):
    before = native.compiled_count()
    action()
    return native.compiled_count() - before


def refuse():
    raise AssertionError("the kernel is made although its object is at hand")


def test_the_folder_is_the_users_choice(folder):
    assert native.cache_folder() == str(folder)


def test_without_a_choice_it_is_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("HAPGOP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native.cache_folder() == str(tmp_path / "hapgop" / "objects")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert native.cache_folder() == str(tmp_path / "home" / ".cache" / "hapgop" / "objects")


def test_an_object_is_made_once(folder):
    assert compiled(lambda: works(tripled())) == 1
    assert [path.suffix for path in folder.iterdir()] == [".o"]
    assert compiled(lambda: works(tripled())) == 0
    assert works(tripled())


def test_the_kernel_is_not_built_where_its_object_is_at_hand(folder):
    native.load("key", tripled)
    native.load("key", refuse)


def test_another_key_or_cpu_is_another_object(folder):
    native.load("key", tripled)
    assert compiled(lambda: native.load("other", tripled)) == 1
    assert compiled(lambda: native.load("key", tripled, "x86-64" if "x86_64" in native.identity() else "generic")) == 1
    assert len(list(folder.iterdir())) == 3


def test_the_identity_names_compiler_and_cpu():
    assert native.identity().startswith("llvmlite ")
    assert native.identity("haswell") != native.identity("host")


def test_keys_do_not_run_into_each_other():
    assert cache.digest("ab", "c") != cache.digest("a", "bc")
    assert cache.digest("ab", "c") == cache.digest("ab", "c")


PROGRAM = """
    import numpy as np
    import hapgop
    from hapgop import engine, native
    from hapgop.algorithms import Problem

    x, w = np.ones((2, 5, 9, 8), np.float32), np.ones((6, 5, 3, 3), np.float32)
    y = hapgop.conv2d(x, w, np.zeros(6, np.float32), padding=1, activation="relu")
    z = hapgop.max_pool2d(y, 2, padding=1)
    engine.prepare(Problem("grad_w", hapgop.ConvShape.of(x.shape, w.shape, padding=1)))
    hapgop.linear(np.ones((4, 3)), np.ones((2, 3)))
    print(native.compiled_count(), int(y.sum()), int(z.sum()))
"""


def run(program=PROGRAM, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", dedent(program)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_second_process_compiles_nothing(folder):
    first, second = run(), run()
    assert first[0] == "4"
    assert second[0] == "0"
    assert first[1:] == second[1:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:20],
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: b"X" + data[1:],
        lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],
        lambda data: b"nonsense" * 100,
    ],
    ids=["empty", "head only", "truncated", "longer", "another format", "one bit", "garbage"],
)
def test_a_damaged_object_is_made_again(folder, damage):
    works(tripled())
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert compiled(lambda: works(tripled())) == 1
    assert works(tripled())
    assert path.read_bytes() == whole


FORGED = """
    from hapgop import native
    from hapgop.native import cache
    from hapgop.tile import Builder

    k = Builder("empty", "float32", 4)
    y = k.buffer("y", 4, "out")
    with k.stage("s", ("i", 1)):
        k.store(k.const(0.0), y, 0)
    cache.write(cache.digest("key", native.identity()), b"no object at all, " * 100)
    native.load("key", k.kernel)
    print(native.compiled_count())
"""


def test_bytes_that_are_no_object_are_made_again(folder):
    """The checksum holds, but they cannot be loaded: another platform's object, say."""
    assert run(FORGED) == ["1"]


@pytest.mark.parametrize("where", ["/proc/nowhere", "/dev/null/objects"])
def test_a_folder_that_cannot_be_made_is_no_error(monkeypatch, where):
    monkeypatch.setenv("HAPGOP_CACHE", where)
    assert works(tripled(7.0), 7.0)
    assert compiled(lambda: works(tripled(7.0))) == 1


def test_a_folder_that_cannot_be_written_is_no_error(folder):
    folder.mkdir(parents=True)
    folder.chmod(0o500)
    try:
        assert works(tripled())
        if os.geteuid():
            assert list(folder.iterdir()) == []
    finally:
        folder.chmod(0o700)


def test_a_full_disk_is_no_error(folder, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert works(tripled())
    assert list(folder.iterdir()) == [], "half a file is left behind"


def test_a_folder_in_place_of_the_object_is_no_error(folder):
    works(tripled())
    (path,) = folder.iterdir()
    path.unlink()
    path.mkdir()
    assert works(tripled())


def test_trimming_removes_the_oldest(folder):
    for age in range(5):
        cache.write(f"object{age}", bytes(1000))
        os.utime(folder / f"object{age}.o", (1000 + age, 1000 + age))
    size = (folder / "object0.o").stat().st_size
    cache.trim(folder, 3 * size)
    assert sorted(p.stem for p in folder.iterdir()) == ["object2", "object3", "object4"]
    cache.trim(folder, 3 * size)
    assert len(list(folder.iterdir())) == 3


def test_writing_keeps_the_cache_bounded(folder, monkeypatch):
    monkeypatch.setattr(cache.trim, "__defaults__", (5000,))
    monkeypatch.setattr(cache, "_SELDOM", 1)
    for number in range(30):
        cache.write(f"object{number}", bytes(1000))
        os.utime(folder / f"object{number}.o", (1000 + number, 1000 + number))
        assert sum(p.stat().st_size for p in folder.iterdir()) <= 5000
    assert cache.read("object29") == bytes(1000)
    assert cache.read("object1") is None


def test_not_every_write_looks_at_the_whole_folder(folder, monkeypatch):
    """Now and then one does, whichever keys are written."""
    looks = []
    monkeypatch.setattr(cache, "trim", looks.append)
    for number in range(1000):
        cache.write(cache.digest(str(number)), b"object")
    assert 5 <= len(looks) <= 50


def test_concurrent_writers_leave_whole_files(folder):
    """Readers beside them see an object or none, never half of one."""
    images = [bytes([i]) * 50_000 for i in range(4)]
    wrong = []
    done = threading.Event()

    def read():
        while not done.is_set():
            image = cache.read("key")
            if image is not None and image not in images:
                wrong.append(image)

    def write(image):
        for _ in range(40):
            cache.write("key", image)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(image,)) for image in images]
    reader.start()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    reader.join()
    assert not wrong
    assert cache.read("key") in images
    assert [p.name for p in folder.iterdir()] == ["key.o"]


def test_processes_that_start_together_agree(folder):
    program = dedent(PROGRAM)
    command = [sys.executable, "-W", "ignore", "-c", program]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0].split() for process in both]
    assert outputs[0][1:] == outputs[1][1:] != []
    assert run()[0] == "0"
    assert not [p for p in folder.iterdir() if p.suffix != ".o"]


def test_a_machine_without_a_home_is_no_error(monkeypatch):
    """A container's user may have no entry among the system's users."""
    for name in ("HAPGOP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", staticmethod(homeless))
    assert works(tripled(5.0), 5.0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_while_another_thread_compiles_can_compile(tmp_path):
    program = """
        import os, signal, threading
        import numpy as np, hapgop
        def convolved(n):
            hapgop.conv2d(np.ones((1, 4, n, n), "f"), np.ones((8, 4, 3, 3), "f"))
        def work():
            for n in range(8, 10_000):
                convolved(n)
        convolved(7)
        threading.Thread(target=work, daemon=True).start()
        for n in range(20):
            child = os.fork()
            if not child:
                signal.alarm(60)
                convolved(300 + n)
                os._exit(0)
            if os.waitpid(child, 0)[1]:
                print("hung", n, flush=True)
                break
        print("done", flush=True)
        os._exit(0)
    """
    environment = {**os.environ, "HAPGOP_CACHE": str(tmp_path), "HAPGOP_TUNE": "off"}
    command = [sys.executable, "-W", "ignore", "-c", dedent(program)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.split() == ["done"], done.stderr
