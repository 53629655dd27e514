"""ncnn, an image at a time, packed at both ends as its layers hand on their results."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hapgop.bench.case import Case
from hapgop.bench.peers.peer import Entry, Peer, is_layer, library
from hapgop.bench.work import Work

# A Clip that clips nothing: ncnn packs what goes into it, and unpacks what is taken out after it.
_CLIP = "0=-3.4e38 1=3.4e38"


class Ncnn(Peer):
    """A net of one layer in float32, with ncnn's Winograd where it uses it."""

    name = "ncnn"
    packages = ("ncnn",)
    prepacked = True

    def computes(self, case: Case, op: str) -> bool:
        return is_layer(case, op) and (case.kind == "conv" or case.groups == 1)

    def entry(self, work: Work, threads: int) -> Entry:
        net, bits = _net(work, threads)
        # Cloned, since a Mat that only borrows memory has neither ncnn's alignment nor an owner.
        images = [library("ncnn").Mat(image.numpy()).clone() for image in work.x]
        packed = [_extracted(net, "in", image, "packed", raw=True) for image in images]

        def run() -> Any:
            return [_extracted(net, "packed", image, "out", raw=True) for image in packed]

        def tensor(results: Any) -> torch.Tensor:
            assert bits  # the net may read its weights from there for as long as it lives
            planes = [_extracted(net, "out", result, "plain", raw=False).numpy() for result in results]
            return torch.from_numpy(np.stack(planes).reshape(work.g.shape).copy())

        return Entry(run, tensor)


def _extracted(net: Any, source: str, image: Any, result: str, *, raw: bool) -> Any:
    """One blob of the net from another; raw: packed as it is there."""
    extractor = net.create_extractor()
    extractor.input(source, image)
    return extractor.extract(result, 1 if raw else 0)[1]


def _net(work: Work, threads: int) -> tuple[Any, bytes]:
    net = library("ncnn").Net()
    net.opt.num_threads = threads
    for name in dir(net.opt):
        if name.startswith(("use_fp16", "use_bf16")):
            setattr(net.opt, name, False)
    s, case, weights = work.conv, work.case, work.w.numpy()
    (top, left), outputs = work.pads, len(work.bias)
    kind = "Convolution" if s.groups == 1 else "ConvolutionDepthWise"
    if case.kind == "transposed":
        # Output channels come first in ncnn, as in its other layers.
        kind, weights = "Deconvolution", weights.swapaxes(0, 1)
    setting = {
        0: outputs, 1: s.kw, 11: s.kh, 2: s.dilation[1], 12: s.dilation[0], 3: s.stride[1], 13: s.stride[0],
        4: left, 14: top, 5: 1, 6: weights.size, 9: int(case.activation == "relu"),
    }  # fmt: skip
    if s.groups > 1:
        setting[7] = s.groups
    words = " ".join(f"{key}={value}" for key, value in setting.items())
    layers = ["Input in 0 1 in", f"Clip pack 1 1 in packed {_CLIP}", f"{kind} conv 1 1 packed {{}} {words}"]
    if case.pool is None:
        layers[-1] = layers[-1].format("out")
    else:
        layers[-1] = layers[-1].format("conv")
        kh, kw = case.pool
        layers.append(f"Pooling pool 1 1 conv out 0=0 1={kw} 11={kh} 2={kw} 12={kh} 5=1")
    layers.append(f"Clip unpack 1 1 out plain {_CLIP}")
    net.load_param_mem("\n".join(["7767517", f"{len(layers)} {len(layers)}", *layers, ""]))
    tag = bytes(4)  # the weights that follow are float32
    bits = tag + np.ascontiguousarray(weights).tobytes() + work.bias.numpy().tobytes()
    net.load_model_mem(bits)
    return net, bits
