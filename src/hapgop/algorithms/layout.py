"""Where a tensor's elements lie in memory."""

from dataclasses import dataclass
from typing import TypeVar

from hapgop.shape import ConvShape
from hapgop.tile import Affine

# A number of elements: known, or an expression of the sizes that a kernel is passed.
Count = TypeVar("Count", int, Affine)


@dataclass(frozen=True, slots=True)
class Strides:
    """Elements from one image, channel, row, column to the next (for weights: oc, ic, kh, kw)."""

    n: int
    c: int
    h: int
    w: int


def image_strides(layout: str, c: int, h: int, w: int) -> Strides:
    """Of a dense (n, c, h, w) tensor in "nchw" or "nhwc" order; with one channel the two are the same."""
    if layout == "nhwc" or c == 1:
        return Strides(h * w * c, 1, w * c, c)
    return Strides(c * h * w, h * w, w, 1)


def weight_strides(layout: str, ic: int, kh: int, kw: int) -> Strides:
    """Of a dense (oc, ic, kh, kw) tensor in "oihw" or "ohwi" order; ic is that of one group."""
    return image_strides("nchw" if layout == "oihw" else "nhwc", ic, kh, kw)


def groups_in_vector(groups: int, channels: int, lanes: int) -> int:
    """How many groups of so few channels lie side by side in a vector; it divides their number."""
    return max(b for b in range(1, max(1, lanes // channels) + 1) if groups % b == 0)


def is_pointwise(s: ConvShape) -> bool:
    """Whether every output sees one input, its own."""
    return (s.kh, s.kw) == (1, 1) and s.stride == (1, 1) and s.padding == (0, 0, 0, 0)


def block_runs(counts: tuple[int, ...], width: int, lanes: int) -> list[tuple[int, int, int]]:
    """(first vector, vectors of a block, blocks) of blocks of `width` vectors that are alike, whole ones first.

    >>> block_runs((16, 16, 16, 16, 16, 8), 2, 16)
    [(0, 2, 2), (4, 2, 1)]
    """
    whole = counts.count(lanes) // width
    rest = len(counts) - whole * width
    return [run for run in ((0, width, whole), (whole * width, rest, 1)) if all(run[1:])]


def vector_counts(channels: int, lanes: int) -> tuple[int, ...]:
    """How many lanes of each vector are used: 40 channels in vectors of 16 are (16, 16, 8).

    >>> vector_counts(40, 16)
    (16, 16, 8)
    """
    full, rest = divmod(channels, lanes)
    return (lanes,) * full + ((rest,) if rest else ())
