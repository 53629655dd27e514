"""PyTorch at its best: what its compiler makes of a convolution with frozen weights, oneDNN's packed and fused one."""

import torch
import torch.nn.functional as F

from hapgop.bench.case import Case
from hapgop.bench.peers.peer import Entry, Peer, is_layer
from hapgop.bench.work import Work, channels_last


class TorchPrepacked(Peer):
    """`mkldnn._convolution_pointwise` on weights that `_reorder_convolution_weight` has laid out for this input."""

    name = "torch prepacked"
    packages = ("torch",)
    prepacked = True

    def available(self) -> str | None:
        if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
            return "this PyTorch has no oneDNN"
        return None

    def computes(self, case: Case, op: str) -> bool:
        return is_layer(case, op)

    def entry(self, work: Work, threads: int) -> Entry:
        # How the weights are laid out depends on the number of threads.
        torch.set_num_threads(threads)
        s, x, case = work.conv, channels_last(work.x), work.case
        pads, stride, dilation = [*work.pads], [*s.stride], [*s.dilation]
        nothing: list[float] = []
        after = (case.activation or "none", nothing, "")
        if case.kind == "transposed":
            of = (pads, [0, 0], stride, dilation, s.groups)
            w = torch.ops.mkldnn._reorder_convolution_transpose_weight(work.w, *of, list(x.shape))
            return Entry(lambda: torch.ops.mkldnn._convolution_transpose_pointwise(x, w, work.bias, *of, *after))
        w = torch.ops.mkldnn._reorder_convolution_weight(work.w, pads, stride, dilation, s.groups, list(x.shape))

        def conv() -> torch.Tensor:
            y: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
                x, w, work.bias, pads, stride, dilation, s.groups, *after
            )
            return y

        if case.pool is None:
            return Entry(conv)
        pool = case.pool
        return Entry(lambda: F.max_pool2d(conv(), pool))
