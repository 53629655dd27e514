"""PyTorch as one calls it: every operator by itself, weights as they are."""

import torch
from torch import Tensor

from hapgop.bench.case import Case
from hapgop.bench.peers.peer import Entry, Peer
from hapgop.bench.work import Work, channels_last, eager


class TorchEager(Peer):
    """Convolution and ReLU (in place), or the backward; in one of PyTorch's two memory orders."""

    packages = ("torch",)
    prepacked = False

    def __init__(self, name: str, *, last: bool) -> None:
        self.name = name
        self._last = last

    def computes(self, case: Case, op: str) -> bool:
        # A matrix has no channels.
        return case.kind != "linear" or not self._last

    def entry(self, work: Work, threads: int) -> Entry:
        torch.set_num_threads(threads)
        return Entry(eager(work, channels_last if self._last else _contiguous))


def _contiguous(tensor: Tensor) -> Tensor:
    return tensor
