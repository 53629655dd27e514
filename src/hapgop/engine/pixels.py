"""Pixels to the numbers that a net reads."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hapgop.algorithms.octets import Octets
from hapgop.engine.address import address
from hapgop.engine.memory import empty
from hapgop.engine.small import prepare_octets
from hapgop.machine import host

if TYPE_CHECKING:  # numpy.typing takes a third as long to import as all of NumPy
    from numpy.typing import NDArray

_SMALL = 1 << 15  # pixels' numbers below which NumPy is as quick, and no kernel needs to be made


def numbers(pixels: NDArray[np.uint8], scale: NDArray[np.float32], shift: NDArray[np.float32]) -> NDArray[np.float32]:
    """pixels * scale - shift as float32 (n, h, w, c), dense; pixels are uint8 (n, h, w, c), scale and shift (c,).

    The bits are those of NumPy's float32, one pixel after the other.

    >>> numbers(np.full((1, 1, 1, 2), 10, np.uint8), np.float32([1, 0.5]), np.float32([0, 1])).tolist()
    [[[[10.0, 4.0]]]]
    """
    found: NDArray[np.float32] = empty(pixels.shape, np.dtype(np.float32))
    if pixels.size < _SMALL:
        np.multiply(pixels, scale, out=found)
        found -= shift
        return found
    n, h, w, c = pixels.shape
    dense = (h * w * c, w * c, c, 1)
    # What NumPy has for the stride of an axis with one place means nothing.
    strides = pixels.strides if min(pixels.shape) > 1 else _meant(pixels, dense)
    by_image, by_row = strides[:2]
    if strides[2:] != dense[2:] or by_row < w * c or by_image < by_row * (h - 1) + w * c:
        pixels, (by_image, by_row) = np.ascontiguousarray(pixels), dense[:2]
    run, *constants = _ready(Octets(n, h, w * c, by_row, by_image, c), scale.tobytes(), shift.tobytes())
    run(address(pixels), *map(address, constants), address(found))
    return found


def _meant(pixels: NDArray[np.uint8], dense: tuple[int, ...]) -> tuple[int, ...]:
    places = zip(pixels.shape, pixels.strides, dense, strict=True)
    return tuple(stride if count > 1 else usual for count, stride, usual in places)


@lru_cache(maxsize=64)
def _ready(pixels: Octets, *constants: bytes) -> tuple[Any, ...]:
    """The kernel, and scale and shift as it reads them."""
    repeated = pixels.repeated(host())
    return prepare_octets(pixels), *(np.resize(np.frombuffer(c, np.float32), repeated) for c in constants)
