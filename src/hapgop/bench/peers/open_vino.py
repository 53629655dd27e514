"""OpenVINO, channels last at both ends, which is how its layers hand on their results."""

from functools import cache
from typing import Any

import numpy as np
import torch

from hapgop.bench.case import Case
from hapgop.bench.peers.peer import Entry, Peer, is_layer, library
from hapgop.bench.work import Work

_TO_FIRST, _TO_LAST = np.array([0, 3, 1, 2]), np.array([0, 2, 3, 1])


class OpenVino(Peer):
    """A compiled model of one layer.

    Its ends are transposes between channels last and OpenVINO's logical order: to its planner they only name the
    layout, and its profile shows them as not run.
    """

    name = "openvino"
    packages = ("openvino",)
    prepacked = True

    def computes(self, case: Case, op: str) -> bool:
        return is_layer(case, op) and (case.kind == "conv" or case.groups == 1)

    def entry(self, work: Work, threads: int) -> Entry:
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        x = work.x.permute(0, 2, 3, 1).contiguous().numpy()
        request = _core().compile_model(_model(work), "CPU", settings).create_infer_request()
        request.set_input_tensor(library("openvino").Tensor(x, shared_memory=True))

        def run() -> Any:
            request.infer(share_outputs=True)
            return x  # held here, since the request reads it and does not own it

        def tensor(_: Any) -> torch.Tensor:
            return torch.from_numpy(request.get_output_tensor().data.copy()).permute(0, 3, 1, 2)

        return Entry(run, tensor)


@cache
def _core() -> Any:
    return library("openvino").Core()


def _model(work: Work) -> Any:
    op, s, case = library("openvino.opset8"), work.conv, work.case
    n, c, h, w = work.x.shape
    source = op.parameter([n, h, w, c], np.float32)
    x = op.transpose(source, _TO_FIRST)
    weights, pads = work.w.numpy(), [*work.pads]
    if s.groups > 1:
        weights = weights.reshape(s.groups, -1, *weights.shape[1:])
    setting = ([*s.stride], pads, pads, [*s.dilation])
    if case.kind == "transposed":
        y = op.convolution_backprop_data(
            x, op.constant(weights), strides=setting[0], pads_begin=pads, pads_end=pads, dilations=setting[3]
        )
    elif s.groups > 1:
        y = op.group_convolution(x, op.constant(weights), *setting)
    else:
        y = op.convolution(x, op.constant(weights), *setting)
    y = op.add(y, op.constant(work.bias.numpy().reshape(1, -1, 1, 1)))
    if case.activation == "relu":
        y = op.relu(y)
    if case.pool is not None:
        y = op.max_pool(y, [*case.pool], [1, 1], [0, 0], [0, 0], [*case.pool]).output(0)
    return library("openvino").Model([op.transpose(y, _TO_LAST)], [source])
