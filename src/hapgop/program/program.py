"""A whole net that runs in one native call."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hapgop.engine import Prepared, get_precision, get_threads, get_tuning, prepare_many
from hapgop.errors import InputError
from hapgop.program.folding import fold
from hapgop.program.graph import Graph
from hapgop.program.in_place import chosen_in_place
from hapgop.program.ready import Ready
from hapgop.program.running import check_tensors
from hapgop.program.schedule import Schedule, schedule
from hapgop.program.weights import Weights
from hapgop.program.wording import told

_PLANS = 8  # batch sizes that are kept ready
_KINDS = 64  # of shape, strides and type that are recognized

Array = NDArray[np.float32]


class Program:
    """A net with its weights, planned once for each batch size and run in one native call.

    Call it with images, floats of shape (n, c, h, w), dense in either memory order (channels last is the faster one);
    it gives float32 (n, ...). The tensors are read when a batch size is planned, and are not to be changed. `print`
    tells every step, its algorithm, and its time once `measure` was called. Safe to call from several threads.

    Raises InputError where tensors or images do not fit the graph.

    >>> from hapgop.program import Graph, Node
    >>> net = Program(Graph((3, 8, 8), (Node("relu", "relu", ("input",)),), "relu"), {})
    >>> net(np.zeros((2, 3, 8, 8), np.float32)).shape
    (2, 3, 8, 8)
    """

    def __init__(
        self, graph: Graph, tensors: Mapping[str, NDArray[Any]], *, threads: int | None = None, fuse: bool = True
    ) -> None:
        self._sizes = check_tensors(graph, tensors)
        self.graph, self._tensors = fold(graph, tensors) if fuse else (graph, dict(tensors))
        self._weights = Weights(self._tensors)
        self._threads, self._fuse = threads, fuse
        self._ready: OrderedDict[tuple[int, str, int, str, str], Ready] = OrderedDict()
        self._planning = threading.Lock()
        self._orders: dict[tuple[object, ...], str] = {}

    def __call__(self, x: NDArray[Any]) -> Array:
        # Images of a kind that was seen before go straight to their plan.
        kind = (x.shape, x.strides, x.dtype)
        layout = self._orders.get(kind)
        if layout is None:
            return self._first(x, kind)
        return self.ready(kind[0][0], layout)(x)

    def _first(self, x: NDArray[Any], kind: tuple[object, ...]) -> Array:
        if x.ndim != 4 or x.shape[1:] != self.graph.input_shape or x.dtype.kind != "f":
            wanted = ", ".join(map(str, self.graph.input_shape))
            raise InputError(f"The net reads floats of shape (n, {wanted}), not {x.dtype} of {x.shape}.")
        if x.shape[0] == 0:
            return np.zeros((0, *self._sizes[self.graph.output]), np.float32)
        dense, layout = _dense(x)
        if dense is x:
            if len(self._orders) >= _KINDS:
                self._orders.clear()
            self._orders[kind] = layout
        return self.ready(x.shape[0], layout)(dense)

    def plan(self, batch: int = 1, layout: str = "nhwc") -> Schedule:
        """What is done for batches of so many images."""
        return self.ready(batch, layout).plan

    def measure(self, x: NDArray[Any], repeats: int = 20) -> str:
        """The plan's text for a batch such as x, each step with its time within the call."""
        x, layout = _dense(x)
        ready = self.ready(x.shape[0], layout)
        return told(ready.plan, ready.seconds(x, repeats), ready.weight_bytes)

    def ready(self, batch: int, layout: str = "nhwc") -> Ready:
        """Everything that batches of one size and memory order need, made at the first use."""
        key = (batch, layout, self._threads or get_threads(), get_precision(), get_tuning())
        found = self._ready.get(key)
        if found is not None:
            return found
        with self._planning:
            found = self._ready.get(key)
            if found is None:
                settled = self._settled(batch, layout, key[2])
                found = Ready(settled, self._weights, self._tensors, chosen_in_place(settled, self._tensors))
                self._ready[key] = found
                if len(self._ready) > _PLANS:
                    self._ready.popitem(last=False)
        return found

    def _settled(self, batch: int, layout: str, threads: int) -> Schedule:
        """The plan, with what was measured on the way: kernels whose predictions are close are compared when made."""
        plan = schedule(self.graph, batch, layout, threads, self._fuse)
        made = prepare_many([step.problem for step in plan.steps if step.problem is not None])
        predicted = [cost.algorithm for cost in plan.costs if cost is not None]
        chosen = [one.plan.algorithm.name if isinstance(one, Prepared) else "map" for one in made]
        return plan if predicted == chosen else schedule(self.graph, batch, layout, threads, self._fuse)

    def __str__(self) -> str:
        ready = next(reversed(self._ready.values()), None) or self.ready(1)
        return told(ready.plan, None, ready.weight_bytes)


def _dense(x: NDArray[Any]) -> tuple[Array, str]:
    """The images as dense float32, and their memory order; no copy where they are so already."""
    if x.dtype == np.float32:
        if x.flags.c_contiguous and x.shape[1] > 1:
            return x, "nchw"
        if x.transpose(0, 2, 3, 1).flags.c_contiguous:
            return x, "nhwc"
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1), np.float32).transpose(0, 3, 1, 2), "nhwc"
