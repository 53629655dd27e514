"""What plain sums cost on one core, in cycles; measured as `algorithms.costs` is."""

from __future__ import annotations

from math import ceil

from hapgop.algorithms import costs, registers
from hapgop.algorithms.direct_tile import Gather
from hapgop.algorithms.layout import vector_counts
from hapgop.machine import Machine

_FETCHED = 1.2  # for an input channel of groups, which is used once


def cycles(g: Gather, machine: Machine) -> float:
    """Of a gather, for one image and group."""
    packing = g.packing
    vectors = registers.runs(len(vector_counts(packing.oc, packing.lanes)), packing.vectors)
    square = g.target.c > 1 and g.cols.out_step * g.target.w == 1
    lanes = min(packing.oc, packing.lanes)
    result = costs.STORE
    if g.target.c > 1 and lanes > 1:
        room = registers.together(g.target.c * machine.vector_bytes // packing.lanes)
        result = lanes * (costs.SCATTERED if lanes <= room else costs.COLLIDING)
    # A tile makes its steps for the taps that are inside.
    steps = g.rows.hits / max(g.rows.count, 1) * g.cols.hits / max(g.cols.count, 1) * packing.ic
    total = 0.0
    for m, pixels in registers.runs(g.cols.count, g.pixels):
        for n, block in vectors:
            store = costs.SQUARE * ceil(pixels / packing.lanes) * packing.lanes if square else result * pixels
            step = costs.step_cycles(pixels, block, machine.vector_bytes)
            if packing.bundle > 1:
                step += costs.PERMUTE * pixels / max(packing.cols.taps, 1)
            if g.fetches:
                # Inputs come from the second cache, and each is multiplied by few weights.
                step += _FETCHED * pixels / packing.ic
            total += m * n * (steps * step + block * store + costs.TILE)
    return g.rows.count * total
