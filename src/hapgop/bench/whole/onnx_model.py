"""A graph as an ONNX model, for the peers that read those."""

from __future__ import annotations

from typing import Any

import numpy as np

from hapgop.export import Value, Writer, write_graph
from hapgop.program.sizes import result_sizes


def onnx_model(task: Any) -> Any:
    """The model of a task, from `x` to `y`, in standard operators."""
    graph = task.graph
    writer = Writer()
    writer.add("Identity", [write_graph(writer, graph)], "y")
    takes = Value(graph.input, np.float32, (task.batch, *graph.input_shape))
    gives = Value("y", np.float32, (task.batch, *result_sizes(graph)[graph.output]))
    tensors = {name: task.tensors[name] for name in graph.tensor_names()}
    return writer.model(task.name, takes, gives, tensors)
