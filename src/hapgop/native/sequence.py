"""Many kernels as one function: what `sequence.ll` says."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from hapgop.native import objects
from hapgop.native.loaded import Code
from hapgop.native.target import is_x86

ALONE, MEET = 1, 2  # how a step is run: by the first thread alone; with all threads meeting behind it
HEAD, STEP = 2, 3  # words before the steps, and of one


@cache
def _code() -> Code:
    text = Path(__file__).with_name("sequence.ll").read_text()
    return objects.code(text, lambda: text)[0]


def sequence() -> int:
    """The address of a function that `launch` runs: all steps of the table that its data are."""
    return _code().address("run")


def clocked() -> bool:
    """Whether a program may read the CPU's clock here, so that steps can be timed within the call."""
    return is_x86()
