"""A training step of a graph in TensorFlow. Run as a program of its own, by a Python that has TensorFlow:

    python as_tensorflow.py net.json data.npz THREADS

It answers each line of standard input with one of JSON: "step" with {"loss": ..., "seconds": ...}. In between it waits
for the next, so that it takes no core from who is measured meanwhile. It knows nothing of hapgop but the files.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

# Of the other Python: here it need not be.
tf: Any = importlib.import_module("tensorflow")

Attrs = Mapping[str, Any]

_RATE, _MOMENTUM, _KEPT = 0.01, 0.9, 0.9  # the last: of the running statistics


class Step:
    """Forward, loss, backward and SGD with Nesterov's momentum, as one graph of TensorFlow; channels last."""

    def __init__(self, graph: Mapping[str, Any], arrays: dict[str, Any]) -> None:
        self.graph = graph
        self.x = tf.constant(arrays.pop("/x").transpose(0, 2, 3, 1))
        self.y = tf.constant(arrays.pop("/y"))
        self.values: dict[str, Any] = {}
        self.learned: list[Any] = []
        # PyTorch flattens (c, h, w), TensorFlow (h, w, c): the first linear layer's columns change their order.
        self.order: dict[str, tuple[int, int, int]] = {}
        self._place()
        for name, array in arrays.items():
            if array.ndim == 4:
                array = array.transpose(2, 3, 1, 0)
            elif array.ndim == 2:
                if name in self.order:
                    c, h, w = self.order[name]
                    array = array.reshape(-1, c, h, w).transpose(0, 2, 3, 1).reshape(len(array), -1)
                array = array.T
            self.values[name] = tf.Variable(np.ascontiguousarray(array))
            if "running" not in name:
                self.learned.append(self.values[name])
        self.speeds = [tf.Variable(tf.zeros_like(v)) for v in self.learned]
        self.run = tf.function(self._step)

    def _place(self) -> None:
        """Finds the linear layers that read a flattened image, and the image's size."""
        sizes = {self.graph["input"]: (self.x.shape[3], self.x.shape[1], self.x.shape[2])}
        flattened: dict[str, tuple[int, int, int]] = {}
        for node in self.graph["nodes"]:
            name, op, a = node["name"], node["op"], node["attrs"]
            before = sizes[node["inputs"][0]]
            source = flattened.get(node["inputs"][0])
            if op in ("conv2d", "max_pool2d"):
                kernel, stride, padding = (
                    _pair(v) for v in (a["kernel_size"], a["stride"] or a["kernel_size"], a["padding"])
                )
                rows, columns = ((before[1 + i] + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i in (0, 1))
                before = (a.get("out_channels", before[0]), rows, columns)
            elif op == "adaptive_avg_pool2d":
                before = (before[0], *_pair(a["output_size"]))
            elif op == "flatten":
                flattened[name] = source = before
            elif op == "linear":
                if source is not None:
                    self.order[node["params"]["weight"]] = source
                source = None
            sizes[name] = before
            if source is not None:
                flattened[name] = source

    def _step(self) -> Any:
        with tf.GradientTape() as tape:
            logits = self._forward()
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(self.y, logits))
        gradients = tape.gradient(loss, self.learned)
        for value, speed, g in zip(self.learned, self.speeds, gradients, strict=True):
            speed.assign(_MOMENTUM * speed + g)
            value.assign_sub(_RATE * (g + _MOMENTUM * speed))
        return loss

    def _forward(self) -> Any:
        values = {self.graph["input"]: self.x}
        for node in self.graph["nodes"]:
            own = {role: self.values[name] for role, name in node["params"].items()}
            inputs = [values[name] for name in node["inputs"]]
            values[node["name"]] = getattr(self, "_" + node["op"])(node["attrs"], *inputs, **own)
        return values[self.graph["output"]]

    def _conv2d(self, a: Attrs, x: Any, weight: Any, bias: Any = None) -> Any:
        if _pair(a["dilation"]) != (1, 1) or a["groups"] != 1:
            raise SystemExit("groups and dilation are not known here")
        (top, left), stride = _pair(a["padding"]), _pair(a["stride"])
        pads = [(0, 0), (top, top), (left, left), (0, 0)]
        y = tf.nn.conv2d(x, weight, stride, pads)
        y = y if bias is None else tf.nn.bias_add(y, bias)
        return tf.nn.relu(y) if a["activation"] == "relu" else y

    def _linear(self, a: Attrs, x: Any, weight: Any, bias: Any) -> Any:
        y = tf.nn.bias_add(tf.matmul(x, weight), bias)
        return tf.nn.relu(y) if a["activation"] == "relu" else y

    def _batch_norm2d(self, a: Attrs, x: Any, running_mean: Any, running_var: Any, weight: Any, bias: Any) -> Any:
        y, mean, var = tf.compat.v1.nn.fused_batch_norm(x, weight, bias, epsilon=a["eps"], is_training=True)
        running_mean.assign(_KEPT * running_mean + (1 - _KEPT) * mean)
        running_var.assign(_KEPT * running_var + (1 - _KEPT) * var)
        return y

    def _max_pool2d(self, a: Attrs, x: Any) -> Any:
        kernel, stride = _pair(a["kernel_size"]), _pair(a["stride"] or a["kernel_size"])
        top, left = _pair(a["padding"])
        if top or left:
            x = tf.pad(x, [(0, 0), (top, top), (left, left), (0, 0)], constant_values=-np.inf)
        return tf.nn.max_pool2d(x, kernel, stride, "VALID")

    def _adaptive_avg_pool2d(self, a: Attrs, x: Any) -> Any:
        rows, columns = _pair(a["output_size"])
        if x.shape[1] % rows or x.shape[2] % columns:
            raise SystemExit("adaptive pools whose windows differ in size are not known here")
        window = (x.shape[1] // rows, x.shape[2] // columns)
        if (rows, columns) == (1, 1):
            return tf.reduce_mean(x, (1, 2), keepdims=True)
        return x if window == (1, 1) else tf.nn.avg_pool2d(x, window, window, "VALID")

    def _relu(self, a: Attrs, x: Any) -> Any:
        return tf.nn.relu(x)

    def _add(self, a: Attrs, x: Any, y: Any) -> Any:
        return x + y

    def _flatten(self, a: Attrs, x: Any) -> Any:
        return tf.reshape(x, (x.shape[0], -1))

    def _dropout(self, a: Attrs, x: Any) -> Any:
        return x

    _identity = _dropout


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def main() -> None:
    net, data, threads = sys.argv[1:]
    tf.config.threading.set_intra_op_parallelism_threads(int(threads))
    tf.config.threading.set_inter_op_parallelism_threads(1)
    with open(net) as file:
        graph = json.load(file)
    with np.load(data) as arrays:
        step = Step(graph, dict(arrays))
    print(json.dumps({"ready": tf.__version__}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        loss = float(step.run())
        print(json.dumps({"loss": loss, "seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main()
