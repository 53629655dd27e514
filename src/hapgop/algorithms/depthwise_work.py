"""How the depthwise kernels share out their work: strips of rows, groups of channels, and what memory does to them."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from hapgop.algorithms import costs
from hapgop.algorithms.layout import vector_counts
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.registers import balanced
from hapgop.algorithms.track import Track, column_tracks, row_tracks
from hapgop.machine import Machine
from hapgop.shape import ConvShape
from hapgop.tile import Affine, Buffer, Builder

_ITEMS = 16  # enough for any usual number of cores to share out evenly
# Rates of these kernels as a whole; see `costs`.
_STEPS = 3.5e9  # multiplications of whole vectors a second, on one core
_CACHED = 60e9  # bytes a second of one core, from its caches
_MEMORY = 24e9  # and from memory


def refusal(problem: Problem) -> str | None:
    """Why a problem is not a depthwise convolution."""
    s = problem.shape
    if not isinstance(s, ConvShape) or s.groups != s.ic or s.ic == 1:
        return "takes one input channel a group, and more than one group"
    if s.oc != s.groups:
        return f"takes one output channel a group, not {s.oc // s.groups}"
    return None


@dataclass(frozen=True, slots=True)
class Work:
    """The images that go in and out, as the kernels see them: always channels last, whole vectors of channels.

    rows, cols   the tracks along the two axes; more than one for the input gradient with a stride
    strip        rows of each track that a work item goes through, for one vector of channels after the other
    strips       strips of an image
    groups       groups of channels that are shared out
    per_group    vectors of channels in a group
    far          more than the caches hold: the next strip is prefetched
    past         results are stored past the caches: they are far, and vectors are whole lines (half of one, and later
                 the other half with the next vector of channels, would each be written to memory by itself)
    """

    shape: ConvShape
    lanes: int
    rows: tuple[Track, ...]
    cols: tuple[Track, ...]
    strip: int
    groups: int
    far: bool
    past: bool

    @classmethod
    def of(cls, problem: Problem, machine: Machine) -> Work:
        s = problem.conv
        rows, cols = tuple(row_tracks(s, problem.op)), tuple(column_tracks(s, problem.op))
        lanes = machine.lanes(problem.dtype)
        count, vectors = max(t.count for t in rows), ceil(s.ic / lanes)
        size = problem.itemsize * s.ic * (s.ih * s.iw + s.oh * s.ow)
        wanted = ceil(_ITEMS / max(s.n, 1))
        far = _far(s.n * size, machine)
        if far:
            # Few rows, and the next strip on its way while this one is worked on: both lie in the second cache.
            strip = balanced(count, min(count, max(2, machine.l2 // 8 * count // size)))
            groups = min(vectors, ceil(wanted / ceil(count / strip)))
        else:
            # A strip reads its neighbours' rows too: split along the channels first.
            groups = min(vectors, wanted)
            strip = ceil(count / ceil(wanted / groups))
        past = far and lanes * problem.itemsize % costs.LINE == 0
        return cls(s.with_batch(1), lanes, rows, cols, strip, groups, far, past)

    @property
    def counts(self) -> tuple[int, ...]:
        """Lanes used by each vector of channels."""
        return vector_counts(self.shape.ic, self.lanes)

    @property
    def height(self) -> int:
        """Rows of the longest track."""
        return max(t.count for t in self.rows)

    @property
    def width(self) -> int:
        return max(t.count for t in self.cols)

    @property
    def strips(self) -> int:
        return ceil(self.height / self.strip)

    @property
    def per_group(self) -> int:
        return ceil(len(self.counts) / self.groups)

    @property
    def channel_groups(self) -> int:
        return ceil(len(self.counts) / self.per_group)

    @property
    def taps(self) -> int:
        return self.shape.kh * self.shape.kw

    def fetch(self, k: Builder, buffer: Buffer, row: Affine, tile: Affine, lines: int) -> None:
        """Prefetches a tile's share of the rows that begin at an address: `tile` counts the lines before it.

        A strip is worked on by vectors of channels, but fetched in the order in which it lies: then the CPU sees what
        is coming and fetches more than the few lines that a core can ask for at a time.
        """
        for i in range(lines):
            k.prefetch(buffer, row + (tile + i) * self.lanes)

    @property
    def packed(self) -> int:
        """Elements of the weights, or of their gradient, as [vector of channels][tap][lane]."""
        return len(self.counts) * self.taps * self.lanes


def seconds(problem: Problem, machine: Machine) -> float:
    """The time on one core: the taps inside by whole vectors of channels, or every byte once, whichever is longer."""
    s = problem.conv
    lanes = machine.lanes(problem.dtype)
    vectors = s.n * len(vector_counts(s.ic, lanes))
    (rows,), (cols,) = row_tracks(s), column_tracks(s)
    # A result costs two and a half multiplications more: its store, and what a loop around it costs.
    steps = vectors * (rows.hits * cols.hits + 2.5 * s.oh * s.ow)
    x, y = s.ih * s.iw, s.oh * s.ow
    turned = (problem.x_layout == "nchw") * x + (problem.y_layout == "nchw") * y
    size = problem.itemsize * s.n * s.ic
    rate = _MEMORY if _far(size * (x + y), machine) else _CACHED
    return max(steps / _STEPS, size * (x + y) / rate) + 3 * size * turned / rate + 1e-6


def _far(size: int, machine: Machine) -> bool:
    """Whether so many bytes are more than the caches keep: others use the last one too."""
    return size > machine.l3 // 3


def channels_first(
    k: Builder, label: str, images: Affine, source: Buffer, target: Buffer, channels: int, pixels: int
) -> None:
    """The stage that writes `target` (image, channel, pixel) from `source` (image, pixel, channel)."""
    lanes = k.lanes
    counts = vector_counts(channels, lanes)

    def square(start: Affine, pixel: Affine, channel: Affine, count: int, used: int) -> None:
        at = start + pixel * channels + channel
        columns = k.transpose([k.load(source, at + i * channels, used) for i in range(count)])
        for i, column in enumerate(columns[:used]):
            k.store(column, target, start + (channel + i) * pixels + pixel, count)

    with k.stage(label, ("image", images), ("vector", len(counts))) as (image, vector):
        start = image * (channels * pixels)
        for low, high, used in ((0, channels // lanes, lanes), (channels // lanes, len(counts), channels % lanes)):
            if low == high:
                continue
            with k.loop("this", [vector, low], [vector + 1, high]) as v:
                done = pixels - pixels % lanes
                with k.loop("pixel", 0, done, lanes) as pixel:
                    square(start, pixel, v * lanes, lanes, used)
                if done < pixels:
                    square(start, Affine(done), v * lanes, pixels - done, used)
