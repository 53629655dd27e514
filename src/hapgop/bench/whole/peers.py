"""Whom whole nets are compared with. To add one: a `NetPeer` here, and its line in `ALL`."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch

from hapgop.bench.peers.peer import Entry, library, not_installed
from hapgop.bench.whole.lite_model import lite_model
from hapgop.bench.whole.ncnn_net import ncnn_net
from hapgop.bench.whole.onnx_model import onnx_model
from hapgop.bench.whole.plain import channels_last
from hapgop.bench.whole.task import Task
from hapgop.bench.work import channels_last as images_last

_SPIN_MICROSECONDS = "1000"  # as for single layers: otherwise its threads share the cores with the next side


class NetPeer(ABC):
    """A library that runs whole nets. name: the word before the first blank chooses it. prepacked: are its weights laid
    out ahead of the calls?"""

    name: str
    packages: tuple[str, ...]
    prepacked = True

    def available(self) -> str | None:
        """Why this peer cannot take part here, or None where it can."""
        return not_installed(self.packages)

    def version(self) -> str:
        return importlib.metadata.version(self.packages[0])

    @abstractmethod
    def entry(self, task: Task, threads: int) -> Entry:
        """The call for a net, on so many threads."""


class Eager(NetPeer):
    """PyTorch as one calls it, channels last."""

    name = "torch eager, channels last"
    packages = ("torch",)
    prepacked = False

    def entry(self, task: Task, threads: int) -> Entry:
        torch.set_num_threads(threads)
        net, x = channels_last(task.plain()), images_last(task.x)
        return Entry(lambda: _inferred(net, x))


class Compiled(NetPeer):
    """PyTorch's compiler with frozen weights, channels last."""

    name = "torch.compile, channels last"
    packages = ("torch",)

    def available(self) -> str | None:
        if shutil.which(os.environ.get("CXX", "g++")) is None and shutil.which("clang++") is None:
            return "there is no C++ compiler, which torch.compile calls"
        return None

    def entry(self, task: Task, threads: int) -> Entry:
        torch.set_num_threads(threads)
        torch._dynamo.reset()
        x = images_last(task.x)
        with library("torch._inductor.config").patch(freezing=True):
            net = torch.compile(channels_last(task.plain()))
            _inferred(net, x)
        return Entry(lambda: _inferred(net, x))


def _inferred(net: Any, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        y: torch.Tensor = net(x)
        return y


class OnnxRuntime(NetPeer):
    """ONNX Runtime with all its optimizations; images channels first, as the format has them."""

    name = "onnxruntime"
    packages = ("onnxruntime", "onnx")

    def entry(self, task: Task, threads: int) -> Entry:
        runtime = library("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
        options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_MICROSECONDS)
        model = onnx_model(task).SerializeToString()
        session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        binding, x = session.io_binding(), runtime.OrtValue.ortvalue_from_numpy(task.x.numpy())
        binding.bind_ortvalue_input(task.graph.input, x)
        binding.bind_output("y")

        def run() -> Any:
            session.run_with_iobinding(binding)
            return x  # the binding reads it and does not own it

        return Entry(run, lambda _: torch.from_numpy(binding.get_outputs()[0].numpy()))


class OpenVino(NetPeer):
    """OpenVINO on the same ONNX model, in float32."""

    name = "openvino"
    packages = ("openvino", "onnx")

    def entry(self, task: Task, threads: int) -> Entry:
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        core = library("openvino").Core()
        model = core.read_model(onnx_model(task).SerializeToString())
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        x = task.x.numpy()
        request.set_input_tensor(library("openvino").Tensor(x, shared_memory=True))

        def run() -> Any:
            request.infer(share_outputs=True)
            return x

        return Entry(run, lambda _: torch.from_numpy(request.get_output_tensor().data.copy()))


class Ncnn(NetPeer):
    """ncnn, an image at a time, on the net with its batch norms folded."""

    name = "ncnn"
    packages = ("ncnn",)

    def entry(self, task: Task, threads: int) -> Entry:
        return ncnn_net(task, threads)


class LiteRt(NetPeer):
    """LiteRT, once TensorFlow Lite, whose kernels are XNNPACK's; channels last."""

    name = "litert"
    packages = ("ai-edge-litert",)

    def entry(self, task: Task, threads: int) -> Entry:
        interpreter = library("ai_edge_litert.interpreter").Interpreter(
            model_content=lite_model(task), num_threads=threads
        )
        interpreter.allocate_tensors()
        x, y = (ends[0]["index"] for ends in (interpreter.get_input_details(), interpreter.get_output_details()))
        interpreter.set_tensor(x, np.ascontiguousarray(task.x.numpy().transpose(0, 2, 3, 1)))
        return Entry(interpreter.invoke, lambda _: torch.from_numpy(interpreter.get_tensor(y)))


ALL: tuple[NetPeer, ...] = (Eager(), Compiled(), OnnxRuntime(), OpenVino(), LiteRt(), Ncnn())
