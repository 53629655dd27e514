"""The sizes of narrow convolution: its tracks, tiles, strips of rows and packed weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from hapgop.algorithms.layout import Count, Strides, image_strides, vector_counts, weight_strides
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Pack
from hapgop.algorithms.registers import balanced
from hapgop.algorithms.track import Track, column_tracks, row_tracks
from hapgop.machine import Machine
from hapgop.shape import ConvShape
from hapgop.tile import Buffer, Builder, Kernel

_ITEMS = 32  # enough for any usual number of cores to share out evenly


@dataclass(frozen=True, slots=True)
class Work:
    """Everything that the kernel depends on (the batch size is passed at run time).

    strip: rows of each residue class that a work item goes through.
    """

    problem: Problem
    machine: Machine
    batch: int
    strip: int

    @classmethod
    def of(cls, problem: Problem, machine: Machine) -> Work:
        n = problem.conv.n
        one = cls(replace(problem, shape=problem.conv.with_batch(1)), machine, n, 1)
        wanted = ceil(_ITEMS / max(1, min(n, _ITEMS)))
        # Every residue class reads the strip's rows: they stay in half of the second cache.
        most = max(1, machine.l2 // 2 // (problem.itemsize * max(one.source.h, 1)))
        return replace(one, strip=balanced(one.height, min(most, ceil(one.height / wanted))))

    def __repr__(self) -> str:
        m = self.machine
        return f"{self.strip} {self.problem} {m.cpu} {m.isa} {m.vector_bytes} {m.registers}"

    @property
    def shape(self) -> ConvShape:
        return self.problem.conv

    @property
    def forward(self) -> bool:
        return self.problem.op == "conv"

    @property
    def oc(self) -> int:
        """Channels that are written."""
        return self.shape.oc if self.forward else self.shape.ic

    @property
    def ic(self) -> int:
        """Channels that are read and summed."""
        return self.shape.ic if self.forward else self.shape.oc

    @property
    def lanes(self) -> int:
        return self.machine.lanes(self.problem.dtype)

    @property
    def vectors(self) -> int:
        return len(vector_counts(self.ic, self.lanes))

    @property
    def rows(self) -> list[Track]:
        return row_tracks(self.shape, self.problem.op)

    @property
    def cols(self) -> list[Track]:
        return column_tracks(self.shape, self.problem.op)

    @property
    def height(self) -> int:
        """Rows of the longest residue class."""
        return max(t.count for t in self.rows)

    @property
    def strips(self) -> int:
        return ceil(self.height / self.strip)

    @property
    def pixels(self) -> int:
        """Outputs of each residue class in a tile; 0 where even one is too many."""
        # One register holds an input, another is LLVM's, the others weights and sums.
        room = (self.machine.registers - 2 - self.held * self.oc) // self.oc // len(self.cols)
        if self.target.c > 1:
            # One channel's sums are turned, in a square of registers, while the others' wait.
            waiting = (self.oc - 1) * len(self.cols)
            room = min(room, (self.machine.registers - 2 - self.lanes) // waiting)
        return balanced(max(t.count for t in self.cols), min(room, self.lanes)) if room else 0

    @property
    def held(self) -> int:
        """Tap columns whose weights are held while the inputs of a tile stream by: all of them, or one after the other.

        In a stride's residue classes few taps share an input, and one after the other leaves more room for sums.
        """
        few = self.shape.kw * self.oc <= self.machine.registers // 2
        return self.shape.kw if few and len(self.cols) == 1 else 1

    @property
    def source(self) -> Strides:
        """Of what is read, its channels last."""
        s = self.shape
        height, width = (s.ih, s.iw) if self.forward else (s.oh, s.ow)
        return image_strides("nhwc", self.ic, height, width)

    @property
    def target(self) -> Strides:
        s, p = self.shape, self.problem
        if self.forward:
            return image_strides(p.y_layout, s.oc, s.oh, s.ow)
        return image_strides(p.x_layout, s.ic, s.ih, s.iw)

    @property
    def source_size(self) -> int:
        """Elements of an image that is read."""
        return self.source.n

    @property
    def turns(self) -> bool:
        """Whether what is read has to be laid out with its channels last."""
        layout = self.problem.x_layout if self.forward else self.problem.y_layout
        return layout == "nchw" and self.ic > 1 and self.source_size > self.ic

    @property
    def packed_size(self) -> int:
        return self.shape.kh * self.shape.kw * self.vectors * self.lanes * self.oc

    def scratch(self, n: Count) -> list[tuple[str, Count]]:
        sizes: list[tuple[str, Count]] = [] if self.problem.packed else [("packed", n * 0 + self.packed_size)]
        return sizes + ([("turned", n * self.source_size)] if self.turns else [])

    def pack(self) -> Pack:
        m, dtype = self.machine, self.problem.dtype
        s = self.shape

        def build() -> Kernel:
            k = Builder("narrow_pack", dtype, self.lanes)
            w = k.buffer("w", s.oc * s.ic * s.kh * s.kw, "in")
            self.emit_packing(k, w, k.buffer("packed", self.packed_size, "out"))
            return k.kernel()

        return Pack(
            key=f"narrow_pack {self.problem.op} {s.w_shape} {self.problem.w_layout} {dtype} {m.cpu} {m.vector_bytes}",
            build=build,
            size=self.packed_size,
            items=s.kh * self.vectors,
        )

    def emit_packing(self, k: Builder, w: Buffer, packed: Buffer) -> None:
        """Weights as [tap row][vector of input channels][tap column][output channel][lane]."""
        s = self.shape
        strides = weight_strides(self.problem.w_layout, s.ic, s.kh, s.kw)
        across, along = (strides.c, strides.n) if self.forward else (strides.n, strides.c)
        full = self.ic // self.lanes
        with k.stage("pack", ("tap", s.kh), ("vector", self.vectors)) as (t, vector):
            # Loops of one turn: for a whole vector, or for the narrower last one.
            for low, high, count in ((0, full, self.lanes), (full, self.vectors, self.ic % self.lanes)):
                if low == high:
                    continue
                with (
                    k.loop("this", [vector, low], [vector + 1, high]) as v,
                    k.loop("column", 0, s.kw) as u,
                    k.loop("channel", 0, self.oc) as c,
                ):
                    at = v * (self.lanes * across) + c * along + t * strides.h + u * strides.w
                    to = (((t * self.vectors + v) * s.kw + u) * self.oc + c) * self.lanes
                    k.store(k.load(w, at, count, across), packed, to)
