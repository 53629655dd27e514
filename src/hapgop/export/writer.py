"""An ONNX model while it is written: its nodes, its constants, and what goes in and comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from hapgop._version import __version__
from hapgop.errors import InputError
from hapgop.predict.onnx_file import library

# Of 2022: reductions take their axes as an input since then, and every runtime of today reads it.
OPSET: Final = 18
_IR: Final = 8
_MOST: Final = 2**31 - 2**20  # bytes that one message of protobuf can hold, with some for what is no tensor


class Value(NamedTuple):
    """What goes into a model or comes out: sides are numbers, or names of what is known when it runs."""

    name: str
    dtype: DTypeLike
    sides: Sequence[int | str]


class Writer:
    """Collects nodes, each on the names of values that came before."""

    def __init__(self) -> None:
        self.onnx: Any = library("ONNX files are written")
        self.nodes: list[Any] = []
        self._constants: dict[tuple[bytes, tuple[int, ...], str], str] = {}
        self._arrays: dict[str, NDArray[Any]] = {}
        self._made = 0

    def add(self, op: str, inputs: Sequence[str], output: str | None = None, **attrs: Any) -> str:
        """One node; returns the name of what it gives."""
        if output is None:
            self._made += 1
            output = f"hapgop:{self._made}"
        self.nodes.append(self.onnx.helper.make_node(op, [*inputs], [output], name=output, **attrs))
        return output

    def constant(self, value: ArrayLike, dtype: DTypeLike = np.float32) -> str:
        """The name of a constant; equal ones are written once."""
        array = np.asarray(value, dtype)
        key = (array.tobytes(), array.shape, array.dtype.str)
        name = self._constants.setdefault(key, f"hapgop:constant {len(self._constants)}")
        self._arrays[name] = array
        return name

    def sliced(self, x: str, axis: int, start: int, end: int, step: int = 1) -> str:
        """Part of a value along one axis."""
        return self.add("Slice", [x, *(self.constant([one], np.int64) for one in (start, end, axis, step))])

    def model(
        self,
        name: str,
        takes: Value,
        gives: Value,
        tensors: Mapping[str, NDArray[Any]],
        told: Mapping[str, str] | None = None,
    ) -> Any:
        """The whole model; tensors: the weights that its nodes name, told: its metadata.

        Raises InputError where it would be larger than such a file can be.
        """
        size = sum(array.nbytes for array in tensors.values())
        if size > _MOST:
            raise InputError(f"{name}: its weights are {size / 1e9:.1f} GB; an ONNX file holds less than 2.")
        helper = self.onnx.helper
        weights = {**tensors, **self._arrays}
        graph = helper.make_graph(
            self.nodes,
            name,
            [self._info(takes)],
            [self._info(gives)],
            [self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), key) for key, array in weights.items()],
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=_IR,
            producer_name="hapgop",
            producer_version=__version__,
        )
        helper.set_model_props(model, dict(told or {}))
        return model

    def _info(self, value: Value) -> Any:
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
        return self.onnx.helper.make_tensor_value_info(value.name, kind, list(value.sides))
