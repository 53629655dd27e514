"""A graph as TorchDynamo hands it over, read as a net of ours: one image in, one result out, the rest its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import statically_known_true

from hapgop.errors import InputError
from hapgop.nn.layout import suggests_channels_last
from hapgop.nn.translation import Translation
from hapgop.program import Graph, Node, check_tensors

Values = Mapping[str, NDArray[Any]]

_WORK = ("conv2d", "conv_transpose2d", "linear", "pointwise", "max_pool2d", "avg_pool2d")
# What else than tensors a call may make.
_SIZES: Final = (int, float, torch.SymInt, torch.SymFloat, torch.SymBool)
# Calls that make nothing and change no number.
_MODES: Final = (
    torch._C._set_grad_enabled,
    torch.autograd.grad_mode._enter_inference_mode,
    torch.autograd.grad_mode._exit_inference_mode,
)


@dataclass(frozen=True)
class Net:
    """A net without its weights. `image` and `weights` are places among the graph's inputs.

    tensors: for each key where it lies, an input's place or a constant, and whether it is read as a vector.
    channels_last: how the result lies in memory.
    """

    nodes: tuple[Node, ...]
    output: str
    image: int
    tensors: Mapping[str, tuple[int | Tensor, bool]]
    channels_last: bool

    @property
    def weights(self) -> tuple[int, ...]:
        """The places of the inputs that are weights, each once."""
        return tuple(dict.fromkeys(at for at, _ in self.tensors.values() if isinstance(at, int)))

    def graph(self, shape: tuple[int, int, int]) -> Graph:
        """For images of this shape."""
        return Graph(shape, self.nodes, self.output)

    def values(self, inputs: Sequence[Any]) -> dict[str, NDArray[Any]]:
        """The weights as they are now."""
        found = {}
        for key, (at, as_vector) in self.tensors.items():
            tensor: Tensor = inputs[at] if isinstance(at, int) else at
            tensor = tensor.detach()
            found[key] = (tensor.reshape(-1) if as_vector else tensor).numpy()
        return found


def read(module: fx.GraphModule, inputs: Sequence[Any]) -> Net:
    """Raises InputError with the reason where the graph is no such net."""
    return _Reading(module).net(inputs)


class _Reading(Translation):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__({})
        self.module = module
        self.tensors: dict[str, tuple[int | Tensor, bool]] = {}

    def net(self, inputs: Sequence[Any]) -> Net:
        places = [node for node in self.module.graph.nodes if node.op == "placeholder"]
        images = [at for at, node in enumerate(places) if isinstance(inputs[at], Tensor) and _varies(node, inputs[at])]
        if len(images) != 1:
            raise InputError(f"{len(images)} tensors go in; a graph has one")
        image = images[0]
        self.check_image(inputs[image])
        for at, node in enumerate(places):
            if at == image:
                self.add_input(node)
            elif isinstance(inputs[at], Tensor):
                self.add_tensor(node, node.name, at, inputs[at])
        result = self.translate()
        fake = result.meta["example_value"]
        if fake.requires_grad:
            raise InputError("the result wants a gradient, which a program does not give")
        last = fake.dim() == 4 and suggests_channels_last(fake.shape, fake.stride())
        net = Net(tuple(self.nodes), self.names[result], image, self.used_tensors(), last)
        if not any(node.op in _WORK for node in net.nodes):
            raise InputError("no convolution, linear layer or pool")
        shape = inputs[image].shape
        sizes = check_tensors(net.graph((int(shape[1]), int(shape[2]), int(shape[3]))), net.values(inputs))
        self.check(sizes)
        return net

    def check_image(self, image: Tensor) -> None:
        if image.dim() != 4 or image.dtype is not torch.float32 or image.device.type != "cpu":
            raise InputError(f"{image.dtype} of {image.dim()} dimensions on {image.device} goes in; images are wanted")

    def add_tensor(self, node: fx.Node, key: str, at: int | Tensor, tensor: Tensor) -> None:
        if tensor.device.type != "cpu" or type(tensor) not in (Tensor, torch.nn.Parameter):
            raise InputError(f"{key} is no plain tensor on the CPU")
        self.keys[node] = key
        self.shapes[key] = tuple(tensor.shape)
        self.tensors[key] = (at, False)

    def translate(self) -> fx.Node:
        """All calls; the node of the result."""
        for node in self.module.graph.nodes:
            if node.op == "get_attr":
                tensor = getattr(self.module, node.target)
                if not isinstance(tensor, Tensor):
                    raise InputError(f"{node.target} is no tensor")
                self.add_tensor(node, node.name, tensor, tensor)
            elif node.op in ("call_function", "call_method"):
                if node.target not in _MODES and not isinstance(node.meta.get("example_value"), _SIZES):
                    self.add_call(node)
            elif node.op == "output":
                results = node.args[0]
                results = results if isinstance(results, tuple | list) else (results,)
                if len(results) != 1 or results[0] not in self.names or results[0] in self.turned:
                    raise InputError("a graph returns one tensor")
                found: fx.Node = results[0]
                return found
            elif node.op == "call_module":
                raise InputError(f"{node.target} is a module")
        raise InputError("nothing is returned")

    def add_call(self, node: fx.Node) -> None:
        made = node.meta.get("example_value")
        if isinstance(made, Tensor) and made.dtype is not torch.float32:
            raise InputError(f"{node.name!r} makes {made.dtype}; a program computes in torch.float32")
        if node.target in ("view", "reshape", torch.reshape) and _flattens(node):
            self.add(node, node.name, "flatten", [node.args[0]], {}, {})
            return
        super().add_call(node)

    def overwrite(self, before: fx.Node, node: fx.Node) -> None:
        if self.memory[self.names[before]] == "input":
            raise InputError("the image is overwritten")
        super().overwrite(before, node)

    def scaling(self, key: str, image: Any) -> str:
        shape = self.shapes[key]
        along = shape[-1:] if image in self.turned else shape[-3:-2]
        if not along or max(shape, default=0) != along[0] or np.prod(shape) != along[0]:
            raise InputError(f"{key} of shape {shape} is no scale of channels")
        vector = f"{key}:vector"
        self.tensors[vector] = (self.tensors[key][0], True)
        self.shapes[vector] = along
        return vector

    def used_tensors(self) -> dict[str, tuple[int | Tensor, bool]]:
        used = {key for node in self.nodes for key in node.params.values()}
        return {key: value for key, value in self.tensors.items() if key in used}


def _varies(node: fx.Node, tensor: Tensor) -> bool:
    """Whether it is an input rather than a parameter or a buffer of a module."""
    static = (node.meta.get("tensor_dict") or {}).get("_dynamo_static_input_type")
    return static is None and not isinstance(tensor, torch.nn.Parameter)


def _flattens(node: fx.Node) -> bool:
    given = node.args[0]
    if not isinstance(given, fx.Node):
        return False
    before, after = given.meta["example_value"], node.meta["example_value"]
    return after.dim() == 2 and before.dim() > 1 and statically_known_true(before.shape[0] == after.shape[0])
