"""The public surface: `__all__` tells all of it, importing it is cheap, and the version is one."""

import ast
import doctest
import importlib
import importlib.metadata
import pkgutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

import hapgop

ROOMS = sorted(m.name for m in pkgutil.iter_modules(hapgop.__path__) if m.ispkg)
PACKAGES = ["hapgop", *(f"hapgop.{room}" for room in ROOMS)]


def room_of(name):
    return importlib.import_module(name)


def is_ours(value):
    """Made here, not imported from elsewhere: constants are, whatever their type."""
    module = getattr(value, "__module__", None)
    return not isinstance(value, types.ModuleType) and (module is None or module.split(".")[0] == "hapgop")


@pytest.mark.parametrize("package", PACKAGES)
def test_all_is_the_public_surface(package):
    room = room_of(package)
    public = {name for name, value in vars(room).items() if not name.startswith("_") and is_ours(value)}
    # What a room's own face needs to work is its affair.
    used = {node.id for node in ast.walk(ast.parse(Path(room.__file__).read_text())) if isinstance(node, ast.Name)}
    assert public - used <= set(room.__all__)
    assert len(set(room.__all__)) == len(room.__all__)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there(package):
    room = room_of(package)
    for name in room.__all__:
        assert getattr(room, name) is not None


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_says_what_it_is(package):
    assert room_of(package).__doc__


def modules_of(package):
    """A room and all that is in it, but for what needs a library that is not here."""
    yield room_of(package)
    inner = () if package == "hapgop" else pkgutil.walk_packages(room_of(package).__path__, f"{package}.")
    for found in inner:
        try:
            yield room_of(found.name)
        except ModuleNotFoundError as missing:
            if missing.name not in ("tensorboard", "tensorflow"):
                raise


@pytest.mark.parametrize("package", PACKAGES)
def test_examples_run(package, tmp_path, monkeypatch):
    """NumPy and PyTorch go by the names that everyone gives them."""
    monkeypatch.chdir(tmp_path)
    for module in modules_of(package):
        assert doctest.testmod(module, extraglobs={"np": np, "torch": torch}).failed == 0, module.__name__


def test_there_is_no_other_name():
    with pytest.raises(AttributeError, match="module 'hapgop' has no attribute 'convolve'"):
        hapgop.convolve  # noqa: B018


def test_no_room_hides_a_public_name():
    """Importing a room sets an attribute of its name."""
    for package in PACKAGES:
        room_of(package)
    assert not set(ROOMS) & set(hapgop.__all__)
    assert "direct" in str(hapgop.plan(hapgop.ConvShape(1, 3, 8, 8, 4, 3, 3)))


def test_every_public_name_is_listed():
    assert set(hapgop.__all__) <= set(dir(hapgop))


def in_a_new_process(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def loaded(statement):
    """The packages outside the standard library that a statement imports."""
    return set(
        in_a_new_process(
            "import sys; before = set(sys.modules)\n"
            f"{statement}\n"
            "names = {m.split('.')[0] for m in set(sys.modules) - before}\n"
            "print(*sorted(n for n in names if n not in sys.stdlib_module_names))"
        )
    )


def test_importing_hapgop_is_free():
    """Not even NumPy: what is used is fetched then."""
    assert loaded("import hapgop") == {"hapgop"}


def test_the_engine_brings_numpy_and_llvm_only():
    third = {name for name in loaded("import hapgop.engine") if not name.startswith("_")}
    assert third <= {"hapgop", "numpy", "llvmlite", "mkl", "cython_runtime"}


@pytest.mark.parametrize("room", ["predict", "program", "engine"])
def test_no_room_below_nn_imports_torch(room):
    assert "torch" not in loaded(f"import hapgop.{room}")


def test_a_convolution_imports_no_torch():
    assert "torch" not in loaded(
        "import numpy as np, hapgop; hapgop.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)))"
    )


def test_the_predictor_comes_when_it_is_asked_for():
    assert "PIL" not in loaded("import hapgop")
    assert "torch" not in loaded("from hapgop import Predictor")
    assert hapgop.Predictor is room_of("hapgop.predict").Predictor


def test_the_version_is_the_packages():
    assert hapgop.__version__ == importlib.metadata.version("hapgop")


def test_the_package_is_typed():
    assert (Path(hapgop.__file__).parent / "py.typed").exists()
