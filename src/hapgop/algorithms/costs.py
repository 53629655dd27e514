"""What things cost on one core: algorithms are chosen, and threads given, by these numbers.

They are one CPU's: measured on a Zen 4 core at 3.7 GHz (118 GFLOP/s of multiply-adds in float32, whatever the vectors)
with the kernels of `bench.peak` and with the stages themselves. Nothing is scaled to the machine that a plan is for
but vectors, registers and caches: its seconds are what that core would take. Other cores differ by their clock, which
changes no choice, and by having two units for vectors of 64 bytes, which favours the same algorithms somewhat more.
Where predictions come close, what was measured on the machine itself decides (`engine.tuning`).

Not everything is here: `depthwise_work`, `bias` and `pool` have rates of their own, of their kernels as a whole, and
`registers` counts the cycles of a tile as any core of today takes them.
"""

from __future__ import annotations

from hapgop.machine import Machine

CLOCK = 3.7e9
FMA_BYTES = 64  # of vectors that are multiplied and added in a cycle
LOADS = 2  # a cycle
LATENCY = 4  # cycles from one multiply-add of a sum to the next

CALL = 1e-6  # seconds to start a kernel
STAGE = 0.5e-6  # seconds for a further stage: the threads wait for one another
PERMUTE = 0.6  # cycles for a vector whose lanes change their places, beside its multiply-add
LOOP = 3.0  # cycles of a short loop's turn beside its multiply-adds
TILE = 20.0  # cycles for a register tile's beginning and end, its stores apart
STORE = 1.5  # cycles for a vector's bias, activation and store
SCATTERED = 1.3  # cycles for a lane that is stored apart from the others
COLLIDING = 11.0  # cycles for one whose line takes another's place in the first cache
SQUARE = 5.5  # cycles for a vector that is turned with others of its square, loads and stores included
LINE = 64  # bytes of a cache line

# Bytes a second, read and written together.
CACHED = 60e9  # from the last cache
MEMORY = 13e9  # from beyond it
PACKED = 20e9  # of weights laid out anew, as much read as written


def step_cycles(pixels: int, vectors: int, vector_bytes: int) -> float:
    """Cycles of one reduction step of a register tile: its multiply-adds, its loads, or the wait for its sums."""
    return max(pixels * vectors * vector_bytes / FMA_BYTES, (pixels + vectors) / LOADS, LATENCY)


def traffic(size: float, machine: Machine) -> float:
    """Seconds to read or write so many bytes once: what the last cache cannot hold comes from memory."""
    inside = min(size, machine.l3 / 2)
    return inside / CACHED + (size - inside) / MEMORY


def turned(size: float, machine: Machine) -> float:
    """Seconds to copy so many bytes from channels first to channels last."""
    return size / machine.vector_bytes * SQUARE / CLOCK + traffic(2 * size, machine) + STAGE
