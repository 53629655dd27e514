"""The runtimes that can launch a team here, and functions for them to call."""

import ctypes
import glob
import os

import pytest

from hapgop.native import threads, workers

RUNTIMES = ("OpenMP", "NativeThreads", "PythonThreads")

Run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
Barrier = ctypes.CFUNCTYPE(None)


def team(runtime: str) -> threads.Team:
    """A team of its own, or a skipped test where this system has none of the kind."""
    if runtime == "NativeThreads" and not workers.supported():
        pytest.skip("native threads are not known to work here")
    if runtime == "OpenMP":
        return _openmp()
    return getattr(threads, runtime)()


def _openmp() -> threads.OpenMP:
    candidates = ["libgomp.so.1"]
    try:
        import torch

        candidates += glob.glob(os.path.join(os.path.dirname(torch.__file__), "lib", "libgomp*"))
    except ImportError:
        pass
    for candidate in candidates:
        try:
            return threads.OpenMP(candidate)
        except (OSError, AttributeError):
            continue
    pytest.skip("no OpenMP runtime here")


def address(callback) -> int:
    """Where a ctypes callback starts."""
    return ctypes.cast(callback, ctypes.c_void_p).value
