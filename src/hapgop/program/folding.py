"""The same net with fewer steps: batch norm inside the convolution before it, ReLU as its activation."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hapgop.program.elementwise import scale_and_shift
from hapgop.program.graph import Graph, Node

Tensors = Mapping[str, NDArray[Any]]


def fold(graph: Graph, tensors: Tensors) -> tuple[Graph, dict[str, NDArray[Any]]]:
    """A graph that computes the same in fewer nodes, and the tensors that it reads.

    Batch norm (eval mode) and a scale go into the convolution or linear layer before them, a ReLU becomes its
    activation, dropout and identity vanish. A layer whose result is read elsewhere too is left as it is. New tensors
    are computed in float64 and named after their node, so that shared weights stay untouched.

    >>> fold(graph, tensors)[0].nodes  # doctest: +SKIP
    """
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    readers[graph.output] += 1
    kept: dict[str, Node] = {}
    made: dict[str, NDArray[Any]] = {}
    now: dict[str, str] = {graph.input: graph.input}
    for node in graph.nodes:
        inputs = tuple(now[name] for name in node.inputs)
        now[node.name] = node.name
        before = kept.get(inputs[0])
        if node.op in ("dropout", "identity"):
            now[node.name] = inputs[0]
            # The readers of the vanished node now read the one before it, which loses this one.
            readers[inputs[0]] += readers[node.name] - 1
        elif (
            node.op in ("batch_norm2d", "scale", "relu")
            and before is not None
            and before.weighted
            and before.attrs["activation"] is None
            and readers[before.name] == 1
        ):
            if node.op == "relu":
                kept[before.name] = replace(before, attrs={**before.attrs, "activation": "relu"})
            else:
                kept[before.name] = _normed(before, node, tensors, made)
            now[node.name] = before.name
            readers[before.name] = readers[node.name]
        else:
            kept[node.name] = replace(node, inputs=inputs)
    folded = replace(graph, nodes=tuple(kept.values()), output=now[graph.output])
    return folded, {name: made[name] if name in made else tensors[name] for name in folded.tensor_names()}


def _normed(node: Node, norm: Node, tensors: Tensors, made: dict[str, NDArray[Any]]) -> Node:
    def tensor(owner: Node, role: str) -> NDArray[Any] | None:
        name = owner.params.get(role)
        return None if name is None else made[name] if name in made else tensors[name]

    scale: NDArray[Any]
    shift: NDArray[Any]
    if norm.op == "scale":
        scale = tensors[norm.params["weight"]].astype(np.float64)
        shift = np.zeros_like(scale)
    else:
        mean, var = tensors[norm.params["running_mean"]], tensors[norm.params["running_var"]]
        scale, shift = scale_and_shift(mean, var, tensor(norm, "weight"), tensor(norm, "bias"), norm.attrs["eps"])
    weight, bias = tensor(node, "weight"), tensor(node, "bias")
    assert weight is not None
    params = {role: f"{node.name}:folded.{role}" for role in ("weight", "bias")}
    per_filter = scale.reshape(-1, *(1,) * (weight.ndim - 1))
    if node.op == "conv_transpose2d":  # outputs are the second axis there, and each group's inputs have its own
        groups = node.attrs["groups"]
        per_filter = scale.reshape(groups, -1).repeat(weight.shape[0] // groups, axis=0)[:, :, None, None]
    made[params["weight"]] = np.multiply(  # rounded as it goes: a float64 copy of the weights would take as long again
        weight, per_filter, out=np.empty(weight.shape, np.float32), dtype=np.float64, casting="same_kind"
    )
    made[params["bias"]] = (shift if bias is None else bias * scale + shift).astype(np.float32)
    return replace(node, params=params)
