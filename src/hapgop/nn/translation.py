"""Calls that were traced, one after the other, into the nodes of a graph."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, Final

from torch import fx

from hapgop.errors import InputError
from hapgop.nn.capture_calls import FUNCTIONS, METHODS, WITH_WINNERS, Call
from hapgop.program import Node

# What can be said of an image whose channels were turned to the end: each looks at one pixel.
_OF_PIXELS: Final = frozenset(
    (
        "layer_norm", "scale", "number", "pointwise", "relu", "relu6", "leaky_relu", "elu", "silu", "gelu",
        "hardswish", "hardsigmoid", "sigmoid", "tanh", "add", "mul", "dropout", "identity",
    )
)  # fmt: skip
# Results that lie in the memory of what they are made of.
_VIEWS: Final = frozenset(("flatten", "identity", "dropout"))
_TO_THE_END: Final = (0, 2, 3, 1)
_TO_THE_FRONT: Final = (0, 3, 1, 2)


class Translation:
    """The nodes so far, and what stands for each node of the trace: a result, or a tensor by its key.

    shapes: of the tensors that may be parameters.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.shapes = dict(shapes)
        self.nodes: list[Node] = []
        self.names: dict[fx.Node, str] = {}
        self.keys: dict[fx.Node, str] = {}
        # Those that the trace sees as (n, h, w, c): in a graph every image is (c, h, w).
        self.turned: set[fx.Node] = set()
        self.used: set[str] = set()
        # In whose memory each result lies: its own, but for a view.
        self.memory: dict[str, str] = {}
        self.features: dict[str, int] = {}
        self.vectors: set[str] = set()

    def add_input(self, node: fx.Node) -> None:
        self.names[node] = "input"
        self.used.add("input")
        self.memory["input"] = "input"

    def check(self, sizes: Mapping[str, tuple[int, ...]]) -> None:
        """Raises InputError where a reshape is no flattening after all, or a norm is not over the channels."""
        for name, wanted in self.features.items():
            if sizes[name] != (wanted,):
                raise InputError(
                    f"{name!r} makes rows of {wanted} numbers, but one image has {sizes[name][0]} there: "
                    f"a graph can only flatten. What would work: torch.flatten(x, 1), or {sizes[name][0]} for {wanted}"
                )
        for name in self.vectors:
            if len(sizes[name]) != 1:
                raise InputError(f"{name!r} norms over columns; a graph can only norm over the channels of a pixel")

    def add_call(self, node: fx.Node) -> None:
        table = FUNCTIONS if node.op == "call_function" else METHODS
        translate = table.get(node.target)  # type: ignore[arg-type]
        what = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", repr(node.target))
        if translate is None:
            raise InputError(f"the call of {what} ({node.name}) is one for which a graph has no word")
        try:
            call = translate(*node.args, **node.kwargs)
        except TypeError as error:
            raise InputError(
                f"the call of {what} ({node.name}) has arguments that a graph cannot express: {error}"
            ) from None
        if call is None:
            self.add_part(node)
            return
        if call.op == "mul":
            call = self.as_scale(call)
        attrs, params = self.with_params(call)
        self.add(node, node.name, call.op, call.inputs, attrs, params)
        if call.pool is not None:
            self.add(node, f"{node.name}.pool", "max_pool2d", [node], {"kernel_size": call.pool}, {})
        if call.inplace:
            self.overwrite(call.inputs[0], node)
        if call.features is not None:
            self.features[self.names[node]] = call.features

    def overwrite(self, before: fx.Node, node: fx.Node) -> None:
        """From here on, whoever reads `before` finds what `node` made."""
        old = self.names[before]
        for known, name in self.names.items():
            if name == old:
                self.names[known] = self.names[node]
            elif known is not node and self.memory[name] == self.memory[old] and any(node < u for u in known.users):
                raise InputError(
                    f"{node.name!r} overwrites memory that others read under another name, {known.name!r}. What would "
                    "work: not to compute in place"
                )

    def add_part(self, node: fx.Node) -> None:
        """The first of an operator's several results is the one that a graph knows; of a tensor it is an image."""
        if node.target is not operator.getitem or node.args[0] not in self.names:
            return
        whole, index = node.args
        if index != 0 or getattr(whole, "target", None) not in WITH_WINNERS:
            raise InputError(f"{node.name!r} takes [{index!r}] of {whole}; a graph has no word for parts of a batch")
        self.names[node] = self.names[whole]  # type: ignore[index]

    def as_scale(self, call: Call) -> Call:
        """A multiplication by a tensor of the net's own is a scale of the channels, or nothing that is known."""
        own = [given for given in call.inputs if given in self.keys]
        if len(own) != 1:
            return call
        if call.inplace and call.inputs[0] is own[0]:
            raise InputError(
                f"the net overwrites its own tensor {self.keys[own[0]]!r}; a graph only reads it. What would work: a "
                "product that is not in place"
            )
        image = next(given for given in call.inputs if given is not own[0])
        return Call("scale", [image], {}, params={"weight": own[0]}, inplace=call.inplace)

    def with_params(self, call: Call) -> tuple[dict[str, Any], dict[str, str]]:
        """Attributes and parameters; the former with what only the parameters' shapes tell."""
        params: dict[str, str] = {}
        for role, given in call.params.items():
            if given is None:
                continue
            key = self.keys.get(given) if isinstance(given, fx.Node) else None
            if key is None:
                raise InputError(f"the {role} of {call.op} is computed ({given!r}); in a graph it is a tensor")
            params[role] = self.scaling(key, call.inputs[0]) if call.op == "scale" else key
        attrs = dict(call.attrs)
        if call.op == "conv2d":
            oc, _, *kernel = self.shapes[params["weight"]]
            attrs |= {"out_channels": oc, "kernel_size": tuple(kernel)}
        elif call.op == "conv_transpose2d":
            _, oc, *kernel = self.shapes[params["weight"]]
            attrs |= {"out_channels": oc * attrs["groups"], "kernel_size": tuple(kernel)}
        elif call.op == "linear":
            attrs |= {"out_features": self.shapes[params["weight"]][0]}
        return attrs, params

    def scaling(self, key: str, image: Any) -> str:
        """The key under which the tensor lies as a vector, one number for each channel."""
        if len(self.shapes[key]) != 1 or image not in self.turned:
            raise InputError(f"the net reads its own tensor {key!r} outside a layer; a graph has no word for it")
        return key

    def add(
        self, node: fx.Node, name: str, op: str, inputs: Any, attrs: dict[str, Any], params: dict[str, str]
    ) -> None:
        for given in inputs:
            if given in self.keys:
                raise InputError(
                    f"the net reads its own tensor {self.keys[given]!r} outside a layer; a graph has no word for it"
                )
            if not isinstance(given, fx.Node) or given not in self.names:
                raise InputError(f"{name!r} ({op}) reads {given!r}, which is no result of an earlier layer")
        if op == "permute":
            self.turn(node, name, inputs[0], attrs["dims"])
            return
        turned = {given in self.turned for given in inputs}
        if True in turned:
            op = {"linear": "pointwise"}.get(op, op)
            if len(turned) > 1 or op not in _OF_PIXELS:
                raise InputError(f"{name!r} ({op}) reads channels at the end, which a graph cannot express")
            self.turned.add(node)
        unique, number = name, 1
        while unique in self.used:
            number += 1
            unique = f"{name}:{number}"
        self.used.add(unique)
        self.nodes.append(Node(unique, op, tuple(self.names[i] for i in inputs), attrs, params))
        self.names[node] = unique
        self.memory[unique] = self.memory[self.names[inputs[0]]] if op in _VIEWS else unique
        if op == "layer_norm" and node not in self.turned:
            self.vectors.add(unique)

    def turn(self, node: fx.Node, name: str, image: fx.Node, dims: tuple[int, ...]) -> None:
        """A permutation is only another view of the image."""
        if dims != (_TO_THE_FRONT if image in self.turned else _TO_THE_END):
            raise InputError(f"{name!r} permutes {dims}; a graph knows channels at the front or at the end only")
        self.names[node] = self.names[image]
        if image not in self.turned:
            self.turned.add(node)
