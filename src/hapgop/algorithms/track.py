"""One axis of a gather: which inputs feed which output, for a convolution, its input gradient, or a pool.

Output number q lies at `out_first + q * out_step` and reads tap t at `q * in_step + in_first + t * in_tap`, where that
is inside; tap t is element `tap_first + t * tap_step` of the filter. A convolution is one track an axis. Its input
gradient with stride S is S of them: the outputs of one residue class mod S all meet the same taps, at stride 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from hapgop.shape import ConvShape, PoolShape
from hapgop.tile import Affine


@dataclass(frozen=True, slots=True)
class Track:
    count: int
    out_first: int
    out_step: int
    in_size: int
    in_step: int
    in_first: int
    in_tap: int
    taps: int
    tap_first: int
    tap_step: int

    @property
    def interior(self) -> tuple[int, int]:
        """[first, last) of the outputs for which every tap is inside."""
        first = max(0, -(self.in_first // self.in_step))
        room = self.in_size - 1 - self.in_first - max(self.taps - 1, 0) * self.in_tap
        last = min(self.count, room // self.in_step + 1) if room >= 0 else 0
        return (first, last) if first < last else (0, 0)

    @property
    def always_inside(self) -> bool:
        return self.interior == (0, self.count)

    @property
    def hits(self) -> int:
        """How many (output, tap) pairs are inside."""
        return sum(last - first for first, last in map(self.reached, range(self.taps)))

    def reached(self, t: int) -> tuple[int, int]:
        """[first, last) of the outputs for which tap t is inside."""
        offset = self.in_first + t * self.in_tap
        first = max(0, -(offset // self.in_step))
        last = min(self.count, (self.in_size - 1 - offset) // self.in_step + 1)
        return (first, last) if first < last else (0, 0)

    def valid(self, q: int, t: int) -> bool:
        """Whether tap t of output q is inside."""
        return 0 <= q * self.in_step + self.in_first + t * self.in_tap < self.in_size

    def tap_range(self, q: Affine) -> tuple[tuple[Affine, ...], tuple[Affine, ...]]:
        """(lows, highs) of the taps of output q that are inside."""
        if self.always_inside:
            return (Affine(0),), (Affine(self.taps),)
        first = q * self.in_step + self.in_first
        low = -(first // self.in_tap)
        high = (self.in_size - first + (self.in_tap - 1)) // self.in_tap
        return (Affine(0), low), (Affine(self.taps), high)

    def outputs(self, tap: Affine) -> tuple[list[Affine], list[Affine]]:
        """(lows, highs) of the outputs for which a tap is inside."""
        if self.always_inside:
            return [Affine(0)], [Affine(self.count)]
        offset = tap * self.in_tap + self.in_first
        low = -(offset // self.in_step)
        high = (self.in_size - offset + (self.in_step - 1)) // self.in_step
        return [Affine(0), low], [Affine(self.count), high]

    def source(self, q: Affine | int, t: Affine | int) -> Affine:
        """Where tap t of output q reads."""
        return Affine.of(q) * self.in_step + Affine.of(t) * self.in_tap + self.in_first


def row_tracks(s: ConvShape | PoolShape, op: str = "conv") -> list[Track]:
    """Of an operation's rows: of grad_x what its output's gradient is gathered into, of others what reads the input."""
    axis = (s.ih, s.kh, s.stride[0], s.padding[0], s.dilation[0], s.oh)
    return backward(*axis) if op == "grad_x" else [forward(*axis)]


def column_tracks(s: ConvShape | PoolShape, op: str = "conv") -> list[Track]:
    """Of its columns."""
    axis = (s.iw, s.kw, s.stride[1], s.padding[2], s.dilation[1], s.ow)
    return backward(*axis) if op == "grad_x" else [forward(*axis)]


def forward(size: int, kernel: int, stride: int, before: int, dilation: int, out: int) -> Track:
    """The outputs of a convolution or a pool: one track.

    >>> forward(size=5, kernel=3, stride=2, before=1, dilation=1, out=3).interior
    (1, 2)
    """
    return Track(out, 0, 1, size, stride, -before, dilation, kernel, 0, 1)


def backward(size: int, kernel: int, stride: int, before: int, dilation: int, out: int) -> list[Track]:
    """The inputs of a convolution, as what its outputs' gradient is gathered into: one track a residue mod stride.

    Input i = q * stride + r receives tap k from output (i + before - k * dilation) / stride, where that is whole.
    Ascending outputs are descending taps.
    """
    tracks = []
    step = stride // gcd(stride, dilation)
    for r in range(min(stride, size)):
        hits = [k for k in range(kernel) if (r + before - k * dilation) % stride == 0]
        count = (size - r + stride - 1) // stride
        if hits:
            last = hits[-1]
            first_in = (r + before - last * dilation) // stride
            tracks.append(Track(count, r, stride, out, 1, first_in, step * dilation // stride, len(hits), last, -step))
        else:
            tracks.append(Track(count, r, stride, out, 1, 0, 1, 0, 0, 1))
    return tracks
