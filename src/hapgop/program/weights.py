"""Weights laid out ahead of the calls: once for all batch sizes that take them alike, in one block of memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from hapgop.algorithms import Problem
from hapgop.algorithms.maps import MapProblem
from hapgop.engine import Block, Prepared, rounded
from hapgop.program.elementwise import scale_and_shift
from hapgop.program.steps import Step

Array = NDArray[Any]


class Weights:
    """The parameters of a net as kernels read them."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self._tensors = tensors
        self._known: WeakValueDictionary[tuple[object, ...], Array] = WeakValueDictionary()

    def packed(self, steps: Sequence[tuple[Step, Prepared]]) -> list[Array]:
        """The packed weights of sums, aligned; those that are not known yet come to lie in one block."""
        keys = [self._key(step, prepared) for step, prepared in steps]
        found: dict[object, Array] = {key: array for key in keys if (array := self._known.get(key)) is not None}
        missing = {key: pair for key, pair in zip(keys, steps, strict=True) if key not in found}
        sizes = {key: rounded(4 * prepared.packed_size) for key, (_, prepared) in missing.items()}
        if missing:
            block = Block(sum(sizes.values()))
            start = block.offset
            for key, (step, prepared) in missing.items():
                array = np.frombuffer(block.memory, np.float32, prepared.packed_size, start)
                weight = self._laid_out(step)
                prepared.pack(weight.ctypes.data, array.ctypes.data)
                self._known[key] = found[key] = array
                start += sizes[key]
        return [found[key] for key in keys]

    def others(self, step: Step) -> list[Array]:
        """What a step reads beside values and packed weights: a bias, or a norm's scale and shift."""
        node = step.node
        if isinstance(step.problem, Problem):
            return [self._plain(node.params["bias"])] if step.problem.bias else []
        roles = {role: self._tensors[name] for role, name in node.params.items()}
        if isinstance(step.problem, MapProblem) and node.op in ("scale", "layer_norm"):
            c = step.problem.channels
            weight, bias = roles.get("weight", np.ones(c)), roles.get("bias", np.zeros(c))
            return [np.ascontiguousarray(one.reshape(-1), np.float32) for one in (weight, bias)]
        if node.op == "number" and isinstance(step.problem, MapProblem):
            c = step.problem.channels
            return [np.full(c, node.attrs[name], np.float32) for name in ("factor", "term")]
        if node.op != "batch_norm2d":
            return []
        mean, var = roles["running_mean"], roles["running_var"]
        both = scale_and_shift(mean, var, roles.get("weight"), roles.get("bias"), node.attrs["eps"])
        return [np.ascontiguousarray(one, np.float32) for one in both]

    def _key(self, step: Step, prepared: Prepared) -> tuple[object, ...]:
        pack = prepared.plan.recipe.pack
        return step.node.params["weight"], step.image, pack.key if pack is not None else None

    def _plain(self, name: str) -> Array:
        return np.ascontiguousarray(self._tensors[name], np.float32)

    def _laid_out(self, step: Step) -> Array:
        """The weights as the problem has them; of a linear layer on an image that lies channels last, in its order."""
        weight = self._tensors[step.node.params["weight"]]
        if step.image is not None:
            c, h, w = step.image
            weight = weight.reshape(-1, c, h * w).transpose(0, 2, 1).reshape(-1, prod(step.image))
        return np.ascontiguousarray(weight, np.float32)
