"""What each layer costs: multiplications, memory, time, and who does the work."""

from dataclasses import dataclass
from math import prod
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from hapgop import program
from hapgop.explain.algorithm import Algorithm, algorithm
from hapgop.explain.opened import Array, Opened


@dataclass(frozen=True)
class Cost:
    """One layer on one image: `macs`, multiplications with an addition; `memory`, bytes of its result;
    `parameters`, bytes of its tensors; `seconds`, the median of some runs; `algorithm`, where a kernel runs."""

    layer: str
    macs: int
    memory: int
    parameters: int
    seconds: float
    algorithm: Algorithm | None


def costs(net: Opened, x: Array, repeats: int = 5) -> tuple[Cost, ...]:
    """Every layer in running order. Times are of layers run one by one; a whole net in one call is faster."""
    times: dict[str, list[float]] = {name: [] for name in net.nodes}

    def once() -> None:
        last = perf_counter()

        def observe(name: str, _: NDArray[np.float32]) -> None:
            nonlocal last
            now = perf_counter()
            times[name].append(now - last)
            last = now

        program.run(net.graph, net.tensors, x[np.newaxis], observe=observe)

    for _ in range(repeats + 1):
        once()
    return tuple(
        Cost(
            name,
            layer.macs,
            4 * prod(layer.output_shape),
            4 * sum(net.tensors[key].size for key in net.nodes[name].params.values()),
            # The first run makes kernels.
            median(times[name][1:]),
            algorithm(net, name),
        )
        for name, layer in net.layers.items()
    )
