"""ONNX Runtime, its blocked layout at both ends where it uses one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from hapgop.bench.case import Case
from hapgop.bench.peers.peer import Entry, Peer, is_layer, library
from hapgop.bench.work import Work

# After a call its threads look for more work for some 40 ms, during which the next side would have to share the cores.
# Within its own turn a millisecond does the same.
_SPIN_MICROSECONDS = "1000"


class OnnxRuntime(Peer):
    """The optimized graph without its first and its last node where these only change the layout.

    Between two layers of a net there are no such nodes; here they run once, ahead of the calls and after them.
    """

    name = "onnxruntime"
    packages = ("onnxruntime", "onnx")
    prepacked = True

    def computes(self, case: Case, op: str) -> bool:
        return is_layer(case, op)

    def entry(self, work: Work, threads: int) -> Entry:
        onnx, model = library("onnx"), _model(work)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "optimized.onnx"
            _session(model.SerializeToString(), threads, optimized=str(path))
            model = onnx.load(str(path))
        nodes = list(model.graph.node)
        before = [node for node in nodes if node.op_type == "ReorderInput" and node.input[0] == "x"]
        after = [node for node in nodes if node.op_type == "ReorderOutput" and node.output[0] == "y"]
        middle = [node for node in nodes if node not in before and node not in after]
        source = before[0].output[0] if before else "x"
        result = after[0].input[0] if after else "y"
        x = work.x.numpy()
        if before:
            x = _session(_part(model, before, "x", source), threads).run(None, {"x": x})[0]
        last = _session(_part(model, after, result, "y"), threads) if after else None
        session = _session(_part(model, middle, source, result), threads)
        binding = session.io_binding()
        # Kept by the binding's closure: the binding itself does not own it.
        value = library("onnxruntime").OrtValue.ortvalue_from_numpy(x)
        binding.bind_ortvalue_input(source, value)
        binding.bind_output(result)

        def run() -> Any:
            session.run_with_iobinding(binding)
            return value

        def tensor(_: Any) -> torch.Tensor:
            y = binding.get_outputs()[0].numpy()
            return torch.from_numpy(y if last is None else last.run(None, {result: y})[0])

        return Entry(run, tensor)


def _model(work: Work) -> Any:
    """Convolution, ReLU, max pool in standard ONNX."""
    onnx = library("onnx")
    make, s, case = onnx.helper, work.conv, work.case
    top, left = work.pads
    setting = {"kernel_shape": [s.kh, s.kw], "strides": [*s.stride], "dilations": [*s.dilation], "group": s.groups}
    name = "ConvTranspose" if case.kind == "transposed" else "Conv"
    nodes = [make.make_node(name, ["x", "w", "b"], ["conv"], pads=[top, left, top, left], **setting)]
    if case.activation == "relu":
        nodes.append(make.make_node("Relu", [nodes[-1].output[0]], ["relu"]))
    if case.pool is not None:
        pool = {"kernel_shape": [*case.pool], "strides": [*case.pool]}
        nodes.append(make.make_node("MaxPool", [nodes[-1].output[0]], ["pool"], **pool))
    nodes[-1].output[0] = "y"
    weights = [onnx.numpy_helper.from_array(t.numpy(), n) for t, n in ((work.w, "w"), (work.bias, "b"))]
    ends = [
        make.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [*t.shape]) for n, t in (("x", work.x), ("y", work.g))
    ]
    graph = make.make_graph(nodes, "layer", ends[:1], ends[1:], weights)
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=9)


def _part(model: Any, nodes: Sequence[Any], source: str, result: str) -> bytes:
    """Some nodes of a model as a model of their own."""
    onnx = library("onnx")
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in (source, result)]
    read = {name for node in nodes for name in node.input}
    weights = [tensor for tensor in model.graph.initializer if tensor.name in read]
    graph = onnx.helper.make_graph(nodes, "part", ends[:1], ends[1:], weights)
    part = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    data: bytes = part.SerializeToString()
    return data


def _session(model: bytes, threads: int, optimized: str | None = None) -> Any:
    """A model ready to run: as it is, or optimized and written to a file."""
    runtime = library("onnxruntime")
    options, levels = runtime.SessionOptions(), runtime.GraphOptimizationLevel
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_MICROSECONDS)
    options.graph_optimization_level = levels.ORT_DISABLE_ALL if optimized is None else levels.ORT_ENABLE_ALL
    if optimized is not None:
        options.optimized_model_filepath = optimized
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
