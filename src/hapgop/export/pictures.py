"""From pixels to a net's numbers, in ONNX's plainest words.

The operator that ONNX has for it, Resize, is not the same everywhere: of today's runtimes one leaves out its smoothing,
and none gives Pillow's pixels, with which a net was trained. But to resize is to multiply by two matrices, and these a
model can make for itself, for pictures of any size, in whole numbers that float32 holds exactly.
"""

from __future__ import annotations

import numpy as np

from hapgop.errors import InputError
from hapgop.export.writer import Writer
from hapgop.predict import Preprocessing

# Of Pillow's grey, in parts of 2^16.
_GREY = (19595, 38470, 7471)


def write_pictures(w: Writer, rules: Preprocessing, source: str, target: str) -> None:
    """Adds what makes `target`, float32 (n, c, h, w), from `source`, uint8 RGB (n, height, width, 3) of any size.

    As `Preprocessing.pixels` and `Preprocessing.batch` do it, but for a few pixels that come out one step of 256
    brighter or darker. Raises InputError for the rule "fit", which no training makes.
    """
    if rules.resize not in ("stretch", "crop"):
        raise InputError(f"a file stretches or crops its pictures; the rule {rules.resize!r} cannot be written.")
    x = w.add("Transpose", [w.add("Cast", [source], to=w.onnx.TensorProto.FLOAT)], perm=[0, 3, 1, 2])
    if rules.channels == 1:
        x = _grey(w, x)
    x = _resized(w, x, rules)
    std = np.array(rules.std)
    scale, shift = 1 / (255 * std), np.array(rules.mean) / std
    x = w.add("Mul", [x, w.constant(scale.reshape(-1, 1, 1))])
    w.add("Sub", [x, w.constant(shift.reshape(-1, 1, 1))], target)


def _grey(w: Writer, x: str) -> str:
    parts = w.add("Mul", [x, w.constant(np.reshape(_GREY, (3, 1, 1)))])
    whole = w.add("ReduceSum", [parts, w.constant([1], np.int64)], keepdims=1)
    return _rounded(w, w.add("Mul", [whole, w.constant(2.0**-16)]))


def _resized(w: Writer, x: str, rules: Preprocessing) -> str:
    """Columns first, then rows, each rounded to pixels, as Pillow does it but for heights alone that shrink."""
    shape = w.add("Shape", [x])
    sides = [w.add("Gather", [shape, w.constant(axis, np.int64)]) for axis in (2, 3)]
    high, wide = (w.add("Cast", [side], to=w.onnx.TensorProto.FLOAT) for side in sides)
    into_high, into_wide = (w.constant(side) for side in rules.size)
    by_high, by_wide = (high, into_high), (wide, into_wide)
    if rules.resize == "crop":
        # The side that shrinks least decides for both; of the other one the middle is taken.
        least = w.add("Less", [w.add("Mul", [high, into_wide]), w.add("Mul", [wide, into_high])])
        by_high = by_wide = (
            w.add("Where", [least, high, wide]),
            w.add("Where", [least, into_high, into_wide]),
        )
    rows = _matrix(w, sides[0], high, rules.size[0], *by_high)
    columns = _matrix(w, sides[1], wide, rules.size[1], *by_wide)
    x = _rounded(w, w.add("MatMul", [x, w.add("Transpose", [columns], perm=[1, 0])]))
    return _rounded(w, w.add("MatMul", [rows, x]))


def _matrix(w: Writer, side: str, given: str, wanted: int, over: str, under: str) -> str:
    """(wanted, side): how much each pixel counts for each new one; over / under: old pixels for one new.

    A new pixel's weights fall off from its centre as a triangle does, over as far as one new pixel or one old one,
    whichever is wider; pixel i counts with 2 max(over, under) - |(2 i + 1) under - (2 j + 1) over + shift| for the new
    pixel j, where that is positive. Source: Pillow's Resample.c, of which these are the numerators.
    """
    two, one = w.constant(2), w.constant(1)
    zero, step = w.constant(0, np.int64), w.constant(1, np.int64)
    old = w.add("Cast", [w.add("Range", [zero, side, step])], to=w.onnx.TensorProto.FLOAT)
    here = w.add("Mul", [w.add("Add", [w.add("Mul", [old, two]), one]), under])
    there = w.add("Mul", [w.constant(2 * np.arange(wanted)[:, None] + 1), over])
    shift = w.add("Sub", [w.add("Mul", [w.constant(wanted), over]), w.add("Mul", [given, under])])
    away = w.add("Abs", [w.add("Add", [w.add("Sub", [here, there]), shift])])
    reach = w.add("Mul", [w.add("Max", [over, under]), two])
    weights = w.add("Relu", [w.add("Sub", [reach, away])])
    return w.add("Div", [weights, w.add("ReduceSum", [weights, w.constant([1], np.int64)], keepdims=1)])


def _rounded(w: Writer, x: str) -> str:
    return w.add("Floor", [w.add("Add", [x, w.constant(0.5)])])
