"""Random layers: what anyone might ask, and nobody tuned for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from random import Random
from typing import Final

from hapgop.shape import ConvShape

_CHANNELS: Final = (1, 3, 4, 8, 12, 16, 24, 32, 40, 48, 64, 72, 96, 100, 128, 160, 192, 256, 384, 512)
_SIZES: Final = (1, 4, 5, 7, 8, 10, 13, 14, 16, 19, 20, 28, 32, 33, 40, 56, 64, 75, 96, 112)
_BATCHES: Final = (1, 1, 1, 2, 3, 4, 8, 16, 32)
_KERNELS: Final = (1, 1, 2, 3, 3, 3, 3, 4, 5, 5, 6, 7)
_GROUPS: Final = (2, 3, 4, 8, 16)
_FLOPS: Final = 5e4, 6e8  # enough to be more than the call, and not more than some milliseconds
_BYTES: Final = 24 << 20  # of the three tensors


@dataclass(frozen=True, slots=True)
class Drawn:
    """One layer: its shape, and whether activations and weights lie channels last."""

    shape: ConvShape
    last: bool
    w_last: bool
    bias: bool

    @property
    def kind(self) -> str:
        """The group of shapes that it belongs to."""
        s = self.shape
        if s.groups > 1:
            return "depthwise" if s.groups == s.ic else "grouped"
        if s.dilation != (1, 1):
            return "dilated"
        size = f"{s.kh}x{s.kw}"
        return size if s.stride == (1, 1) else f"{size} strided"

    def __str__(self) -> str:
        s = self.shape
        words = [f"{s.n}x{s.ic}x{s.ih}x{s.iw} -> {s.oc}", f"{s.kh}x{s.kw}"]
        words += [f"stride {_short(s.stride)}"] if s.stride != (1, 1) else []
        words += [f"padding {_short(s.padding)}"] if any(s.padding) else []
        words += [f"dilation {_short(s.dilation)}"] if s.dilation != (1, 1) else []
        words += [f"groups {s.groups}"] if s.groups > 1 else []
        return " ".join([*words, "last" if self.last else "first", "w last" if self.w_last else "w first"])


def draw(count: int, seed: int) -> list[Drawn]:
    """So many layers; the same for the same seed.

    >>> len(draw(3, seed=0)), draw(3, seed=0) == draw(3, seed=0)
    (3, True)
    """
    layers = _layers(Random(seed))
    return [next(layers) for _ in range(count)]


def _layers(random: Random) -> Iterator[Drawn]:
    while True:
        shape = _shape(random)
        if shape is None or not _FLOPS[0] <= shape.flops <= _FLOPS[1]:
            continue
        if 4 * (prod(shape.x_shape) + prod(shape.w_shape) + prod(shape.y_shape)) > _BYTES:
            continue
        yield Drawn(shape, random.random() < 0.6, random.random() < 0.6, random.random() < 0.5)


def _shape(random: Random) -> ConvShape | None:
    """None where the filter does not fit into the image."""
    ic, oc, groups = random.choice(_CHANNELS), random.choice(_CHANNELS), 1
    ih = iw = random.choice(_SIZES)
    kh = kw = random.choice(_KERNELS)
    stride = random.choice((1, 1, 1, 1, 2, 2, 3))
    dilation = 1
    kind = random.random()
    if kind < 0.17:
        groups, oc = ic, ic * random.choice((1, 1, 1, 2))
    elif kind < 0.3:
        groups = random.choice(_GROUPS)
        ic, oc = groups * max(ic // groups, 1), groups * max(oc // groups, 1)
    elif kind < 0.4:
        dilation = random.choice((2, 2, 3))
    if random.random() < 0.15:
        iw = random.choice(_SIZES)
    if random.random() < 0.1:
        kw = random.choice(_KERNELS)
    reach = (kh - 1) * dilation // 2, (kw - 1) * dilation // 2
    padding = random.choice((reach, reach, reach, (0, 0), (min(1, reach[0]), min(1, reach[1]))))
    if ih + 2 * padding[0] <= (kh - 1) * dilation or iw + 2 * padding[1] <= (kw - 1) * dilation:
        return None
    return ConvShape(random.choice(_BATCHES), ic, ih, iw, oc, kh, kw, stride, padding, dilation, groups)


def _short(values: tuple[int, ...]) -> str:
    return str(values[0]) if len(set(values)) == 1 else "(" + ", ".join(map(str, values)) + ")"
