"""The sides of the comparison, each a training step to be called; all start from the same weights."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hapgop.bench.training import as_torch
from hapgop.bench.training.nets import TrainedNet
from hapgop.errors import InputError
from hapgop.nn import TrainingProgram, capture, settle
from hapgop.nn.optim import SGD

OURS: Final = "hapgop"
EAGER: Final = "torch eager, contiguous"
EAGER_LAST: Final = "torch eager, channels last"
COMPILED: Final = "torch.compile"
TENSORFLOW: Final = "tensorflow graph"
PEERS: Final = (EAGER_LAST, EAGER, COMPILED, TENSORFLOW)

RATE, MOMENTUM = 0.01, 0.9


class Lost(InputError):
    """A side whose process has ended."""

    def __init__(self, side: str, words: str) -> None:
        super().__init__(words)
        self.side = side


class Side:
    """A step of a PyTorch module on a batch that lies in memory."""

    def __init__(
        self, name: str, module: nn.Module, x: Tensor, y: Tensor, *, last: bool,
        descent: type[torch.optim.SGD] = torch.optim.SGD,
    ) -> None:  # fmt: skip
        self.name, self.y = name, y
        order = torch.channels_last if last else torch.contiguous_format
        # Of ours, as `hapgop train` settles and calls it.
        laid_out: nn.Module = settle(module) if name == OURS else module.to(memory_format=order)  # type: ignore[call-overload]
        self.module = laid_out.train()
        self.called: Callable[[Tensor], Tensor] = TrainingProgram(module) if name == OURS else module
        # A single channel lies the same in both orders; only this way do the strides say which is meant.
        self.x = torch.empty_like(x, memory_format=order).copy_(x)
        self.optimizer = descent(module.parameters(), RATE, MOMENTUM, nesterov=True, fused=True)
        self.parts = (self._forward, self._backward, self._update)
        self._loss = y

    def step(self) -> Tensor:
        """One step; its loss."""
        for part in self.parts:
            part()
        return self._loss

    def close(self) -> None:
        """Nothing is held beyond this object."""

    def _forward(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self._loss = F.cross_entropy(self.called(self.x), self.y)

    def _backward(self) -> None:
        self._loss.backward()

    def _update(self) -> None:
        self.optimizer.step()
        self._loss = self._loss.detach()


class TensorFlow:
    """TensorFlow in a process of its own, which waits while others are measured."""

    name = TENSORFLOW

    def __init__(self, python: str, net: TrainedNet, batch: int, threads: int, allocator: str) -> None:
        self._seconds = 0.0
        self._folder = tempfile.TemporaryDirectory()
        module, (x, y) = net.made(), net.images(batch)
        graph = as_torch.checked(capture(module, net.input_shape))
        folder = Path(self._folder.name)
        (folder / "net.json").write_text(json.dumps(graph.to_json()))
        state = module.state_dict()
        arrays: Any = {name: state[name].contiguous().numpy() for name in graph.tensor_names()}
        arrays |= {"/x": x.numpy(), "/y": y.numpy()}
        np.savez(folder / "data.npz", **arrays)
        script = Path(__file__).with_name("as_tensorflow.py")
        self._process = subprocess.Popen(
            [python, str(script), str(folder / "net.json"), str(folder / "data.npz"), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "errors").open("w"),
            text=True,
            env={**_clean(os.environ), "TF_CPP_MIN_LOG_LEVEL": "3", **(_TUNED if allocator == "tuned" else {})},
        )
        try:
            self.version = self._answer()["ready"]
        except BaseException:
            self.close()
            raise

    def step(self) -> float:
        """One step; its loss. Raises Lost where the process has ended."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # that there is no answer tells it, and why
            self._process.stdin.write("step\n")
            self._process.stdin.flush()
        answer = self._answer()
        self._seconds += answer["seconds"]
        return float(answer["loss"])

    def clock(self) -> float:
        """Seconds that all its steps took by its own clock, without the way to it and back."""
        return self._seconds

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # a step may still wait in it for a process that has ended
            self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def _answer(self) -> Mapping[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            words = (Path(self._folder.name) / "errors").read_text().strip().splitlines()
            raise Lost(self.name, f"TensorFlow's process ended: {words[-1] if words else 'without a word'}")
        answer: Mapping[str, Any] = json.loads(line)
        return answer


# What `engine.tune_allocator` sets, for a process in which it cannot be called.
_TUNED = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name != "PYTHONPATH"}


def ours(net: TrainedNet, batch: int) -> Side:
    """hapgop's own step."""
    return Side(OURS, net.made(), *net.images(batch), last=True, descent=SGD)


def made(
    name: str, net: TrainedNet, batch: int, threads: int, tensorflow: str | None, allocator: str
) -> Side | TensorFlow:
    """The side of that name; this process has the allocator already.

    Raises InputError where it cannot take part, with the reason.
    """
    if name == TENSORFLOW:
        if tensorflow is None:
            raise InputError("no Python with TensorFlow was named: --tensorflow PYTHON")
        return TensorFlow(tensorflow, net, batch, threads, allocator)
    module = net.made()
    twin: Any = as_torch.GraphNet(as_torch.checked(capture(module, net.input_shape)), module.state_dict())
    if name != COMPILED:
        return Side(name, twin, *net.images(batch), last=name == EAGER_LAST)
    side = Side(name, twin, *net.images(batch), last=True)
    compiled: Any = torch.compile(side.module)
    side.called = compiled
    try:
        side._forward()
        side._backward()
    except Exception as error:  # whatever stops a compiler
        raise InputError(f"torch.compile: {type(error).__name__}: {str(error).splitlines()[0]}") from None
    side.optimizer.zero_grad(set_to_none=True)
    return side
