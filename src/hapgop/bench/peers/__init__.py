"""Whom we are compared with. To add one: a file here with a `Peer`, and its line in `ALL`."""

from hapgop.bench.peers.ncnn import Ncnn
from hapgop.bench.peers.onnx_runtime import OnnxRuntime
from hapgop.bench.peers.open_vino import OpenVino
from hapgop.bench.peers.peer import Entry, Peer
from hapgop.bench.peers.torch_eager import TorchEager
from hapgop.bench.peers.torch_prepacked import TorchPrepacked

__all__ = ["ALL", "Entry", "Peer"]

ALL: tuple[Peer, ...] = (
    TorchEager("torch eager, contiguous", last=False),
    TorchEager("torch eager, channels last", last=True),
    TorchPrepacked(),
    OnnxRuntime(),
    OpenVino(),
    Ncnn(),
)
