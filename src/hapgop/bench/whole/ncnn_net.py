"""A graph as ncnn's net: its text of layers, and their weights one after another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from math import prod
from typing import Any, Final

import numpy as np
import torch

from hapgop.bench.peers.peer import Entry, library
from hapgop.errors import InputError
from hapgop.program import Node, fold
from hapgop.program.sizes import Size, conv_shape, pool_shape, result_sizes

_FLOAT32 = bytes(4)  # the mark before weights that are float32


def ncnn_net(task: Any, threads: int) -> Entry:
    """A task's net, ready to run image by image. Raises InputError for a node that it has no word for."""
    graph, tensors = fold(task.graph, task.tensors)
    writer = _Writer(result_sizes(graph), tensors, Counter(name for node in graph.nodes for name in node.inputs))
    writer.made(graph.input, "Input", [], "")
    for node in graph.nodes:
        if node.op not in _WORDS:
            raise InputError(f"{node.name!r} ({node.op}): bench nets has no ncnn layer for it")
        _WORDS[node.op](writer, node)
    ncnn = library("ncnn")
    net = ncnn.Net()
    net.opt.num_threads = threads
    for name in dir(net.opt):
        if name.startswith(("use_fp16", "use_bf16")):
            setattr(net.opt, name, False)
    head = f"7767517\n{len(writer.lines)} {writer.blobs}\n"
    net.load_param_mem(head + "\n".join(writer.lines) + "\n")
    bits = b"".join(writer.weights)
    net.load_model_mem(bits)
    images = [ncnn.Mat(image.numpy()).clone() for image in task.x]

    def run() -> Any:
        results = []
        for image in images:
            extractor = net.create_extractor()
            extractor.input(graph.input, image)
            results.append(extractor.extract(graph.output)[1])
        return results

    def tensor(results: Any) -> torch.Tensor:
        assert bits  # the net may read its weights from there for as long as it lives
        return torch.from_numpy(np.stack([np.array(result).ravel() for result in results]))

    return Entry(run, tensor)


class _Writer:
    def __init__(
        self, sizes: Mapping[str, Size], tensors: Mapping[str, np.ndarray[Any, Any]], readers: Counter[str]
    ) -> None:
        self.sizes, self.tensors, self.readers = sizes, tensors, readers
        self.lines: list[str] = []
        self.weights: list[bytes] = []
        self.blobs = 0
        self.copies: dict[str, list[str]] = {}

    def made(self, name: str, kind: str, inputs: list[str], words: str) -> None:
        """A layer; where several layers read its result, one that makes copies follows."""
        sources = [self.copies[source].pop() if self.copies.get(source) else source for source in inputs]
        self.lines.append(" ".join([kind, f"layer:{name}", str(len(sources)), "1", *sources, name, words]).strip())
        self.blobs += 1
        count = self.readers[name]
        if count > 1:
            self.copies[name] = [f"{name}:{i}" for i in range(count)]
            self.lines.append(" ".join(["Split", f"split:{name}", "1", str(count), name, *self.copies[name]]))
            self.blobs += count

    def conv(self, node: Node) -> None:
        s = conv_shape(node, self.sizes[node.inputs[0]])
        top, bottom, left, right = s.padding
        words = f"0={s.oc} 1={s.kw} 11={s.kh} 2={s.dilation[1]} 12={s.dilation[0]} 3={s.stride[1]} 13={s.stride[0]}"
        words += f" 4={left} 14={top} 15={right} 16={bottom}" + (f" 7={s.groups}" if s.groups > 1 else "")
        self.sum(node, "Convolution" if s.groups == 1 else "ConvolutionDepthWise", words, 6)

    def linear(self, node: Node) -> None:
        self.sum(node, "InnerProduct", f"0={node.attrs['out_features']}", 2)

    def sum(self, node: Node, kind: str, words: str, size_key: int) -> None:
        weight, bias = self.tensors[node.params["weight"]], node.params.get("bias")
        bias_key = 5 if size_key == 6 else 1
        words += f" {bias_key}={int(bias is not None)} {size_key}={weight.size}"
        words += f" 9={int(node.attrs['activation'] == 'relu')}"
        self.weights += [_FLOAT32, np.ascontiguousarray(weight, np.float32).tobytes()]
        if bias is not None:
            self.weights.append(np.ascontiguousarray(self.tensors[bias], np.float32).tobytes())
        self.made(node.name, kind, [*node.inputs], words)

    def pool(self, node: Node) -> None:
        size, s = self.sizes[node.inputs[0]], pool_shape(node, self.sizes[node.inputs[0]])
        if s is None:
            raise InputError(f"{node.name!r}: bench nets has no ncnn layer for windows of unequal size")
        average = int(node.op != "max_pool2d")
        if average and (s.kh, s.kw) == size[1:]:
            self.mean(node)
            return
        top, bottom, left, right = s.padding
        words = (
            f"0={average} 1={s.kw} 11={s.kh} 2={s.stride[1]} 12={s.stride[0]} 3={left} 13={top} 14={right} 15={bottom}"
        )
        full = int(bool(node.attrs.get("ceil_mode", False)))
        words += f" 5={0 if full else 1} 6={int(bool(node.attrs.get('count_include_pad', True)))}"
        self.made(node.name, "Pooling", [*node.inputs], words)

    def mean(self, node: Node) -> None:
        self.made(node.name, "Pooling", [*node.inputs], "0=1 4=1")

    def flatten(self, node: Node) -> None:
        self.made(node.name, "Reshape", [*node.inputs], f"0={prod(self.sizes[node.name])}")


def _as(kind: str, words: str = "") -> Callable[[_Writer, Node], None]:
    return lambda writer, node: writer.made(node.name, kind, [*node.inputs], words)


_WORDS: Final[Mapping[str, Callable[[_Writer, Node], None]]] = {
    "conv2d": _Writer.conv,
    "linear": _Writer.linear,
    "max_pool2d": _Writer.pool,
    "avg_pool2d": _Writer.pool,
    "adaptive_avg_pool2d": _Writer.pool,
    "mean": _Writer.mean,
    "flatten": _Writer.flatten,
    "relu": _as("ReLU"),
    "relu6": _as("Clip", "0=0 1=6"),
    "silu": _as("Swish"),
    "hardswish": _as("HardSwish", "0=0.16666667 1=0.5"),
    "hardsigmoid": _as("HardSigmoid", "0=0.16666667 1=0.5"),
    "sigmoid": _as("Sigmoid"),
    "tanh": _as("TanH"),
    "softmax": _as("Softmax", "0=0"),
    "add": _as("BinaryOp", "0=0"),
    "mul": _as("BinaryOp", "0=2"),
    "concat": _as("Concat", "0=0"),
}
