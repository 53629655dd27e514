"""Grey of more than 8 bits a pixel as grey of 8: what a file says of its white, and what is taken elsewhere."""

import struct
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from hapgop.errors import InputError

_FULL = 16
# Largest values that tell a depth. Any other one is the brightest pixel of that file, and says nothing about white.
_TOPS = {2.0**bits - 1: bits for bits in range(8, _FULL + 1)}
_BITS, _WHICH_IS_ZERO, _TOP, _TOP_OF_KIND = 258, 262, 281, 341
_WHITE_IS_ZERO = 0


@dataclass(frozen=True)
class Told:
    """What a file says of its values: how many bits they use, and whether 0 is white.

    bits None: nothing is said. padded: the standard wants such values stretched to the whole range, but not all
    programs do that.
    """

    bits: int | None = None
    inverted: bool = False
    padded: bool = False


def is_deep(mode: str) -> bool:
    """Whether a picture of this mode of Pillow's is grey of more than 8 bits."""
    return mode.startswith("I") or mode == "F"


def told(image: Image.Image) -> Told:
    """What the file of `image` says, which must not have been decoded yet."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _told_by_tags(image.tag_v2)
    file = getattr(image, "fp", None)
    if image.format == "PNG" and file is not None:
        return Told(_significant_bits(file), padded=True)
    return Told()


def grey(image: Image.Image, said: Told) -> Image.Image:
    """Deep grey in mode "L": 0 is black; white is what the file says, else 65535, or 1 for fractions.

    What a file says: BitsPerSample, MaxSampleValue or SMaxSampleValue of a TIFF, sBIT of a PNG, and that zero is
    white. Where it says nothing, one white holds for all files, whatever values they use: that of each file's own
    brightest pixel would make a dim picture as bright as any other. Raises InputError where values go beyond.
    """
    pixels = np.asarray(image).astype(np.float64)
    low, high = float(pixels.min()), float(pixels.max())
    white = 1.0 if image.mode == "F" else float(2**_FULL - 1)
    if said.bits is not None and high <= 2.0**said.bits - 1 and not (said.padded and _is_padded(pixels, said.bits)):
        white = 2.0**said.bits - 1
    # Pillow's own conversion to "L" clips everything above 255 to white: a 16-bit X-ray would become a blank.
    if not (np.isfinite(pixels).all() and low >= 0 and high <= white):
        raise InputError(
            f"grey values from {low:g} to {high:g}: only 0 to {white:g} has an agreed white."
            " Save it with 8 or 16 bits a pixel."
        )
    if said.inverted:
        pixels = white - pixels
    return Image.fromarray(np.rint(pixels * (255.0 / white)).astype(np.uint8))


def _told_by_tags(tags: Any) -> Told:
    inverted = tags.get(_WHICH_IS_ZERO) == _WHITE_IS_ZERO
    bits = max(_numbers(tags.get(_BITS)), default=_FULL)
    if 8 < bits < _FULL:
        return Told(int(bits), inverted)
    tops = [_TOPS[top] for tag in (_TOP, _TOP_OF_KIND) for top in _numbers(tags.get(tag)) if top in _TOPS]
    return Told(min(tops, default=None), inverted)


def _numbers(value: Any) -> list[float]:
    values = value if isinstance(value, tuple) else (value,)
    return [float(one) for one in values if isinstance(one, int | float)]


def _significant_bits(file: IO[bytes]) -> int | None:
    """The sBIT chunk of a grey PNG, which Pillow does not read; None where there is none."""
    place = file.tell()
    try:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"sBIT":
                bits = file.read(1)[0]
                return bits if 8 <= bits < _FULL else None
            if kind == b"IDAT":
                return None
            file.seek(length + 4, 1)
        return None
    finally:
        file.seek(place)


def _is_padded(pixels: NDArray[np.float64], bits: int) -> bool:
    """Whether values of so many bits were stretched to 16, as PNG wants it, by zeros or by their own first bits."""
    # Values this small have only zeros as their first bits, so that both ways end in zeros.
    return bool((pixels % 2 ** (_FULL - bits) == 0).all())
