"""One operation of a case with its tensors, and what PyTorch makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from hapgop.bench.case import Case
from hapgop.errors import InputError
from hapgop.shape import ConvShape, PoolShape

Call = Callable[[], Tensor]
_aten = torch.ops.aten
_UNDECIDED = 1e-4  # of the largest value: more than any side's error


@dataclass(frozen=True, slots=True)
class Work:
    """Seeded normal data for one operation; all contiguous float32 on the CPU.

    x: the input; w, bias: of a pool, empty; g: the gradient of the result.
    """

    case: Case
    op: str
    x: Tensor
    w: Tensor
    bias: Tensor
    g: Tensor

    @property
    def conv(self) -> ConvShape:
        """The shape, of what is no pool."""
        assert isinstance(self.case.shape, ConvShape)
        return self.case.shape

    @property
    def pads(self) -> tuple[int, int]:
        """Rows above and columns left, which are also those below and right."""
        top, _, left, _ = self.case.shape.padding
        return top, left

    @property
    def flops(self) -> int:
        """Of the definition; of a convolution's backward, by input and weights."""
        twice = self.op == "backward" and isinstance(self.case.shape, ConvShape)
        return self.case.flops * (2 if twice else 1)

    def ends(self) -> Work:
        """Only the first and the last image, where images do not meet: what a reference in float64 need not redo."""
        if self.op in ("grad_w", "backward") or self.case.kind == "linear" or self.case.batch <= 2:
            return self
        return replace(self, case=self.case.at(2), x=self.x[[0, -1]], g=self.g[[0, -1]])

    def ends_of(self, result: Tensor) -> Tensor:
        """Of a result, the part that `ends` computes."""
        whole = self.ends().case.batch == self.case.batch
        return result if whole else result[[0, -1]]


def work(case: Case, op: str) -> Work:
    """The data for one operation of a case. Raises InputError for a padding that PyTorch does not have."""
    generator, s = torch.Generator().manual_seed(1), case.shape
    top, bottom, left, right = s.padding
    if (top, left) != (bottom, right):
        raise InputError(f"{case.name}: padding {s.padding} differs from side to side, which PyTorch does not have")

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    if isinstance(s, PoolShape):
        return Work(case, op, normal(*s.x_shape), torch.empty(0), torch.empty(0), normal(*s.y_shape))
    if case.kind == "linear":
        tensors = normal(s.iw, s.ic), normal(s.oc, s.ic), normal(s.oc), normal(s.iw, s.oc)
        return Work(case, op, *tensors)
    x_shape, y_shape, outputs = s.x_shape, s.y_shape, s.oc
    if case.kind == "transposed":
        x_shape, y_shape, outputs = s.y_shape, s.x_shape, s.ic
    if case.pool is not None:
        y_shape = (*y_shape[:2], y_shape[2] // case.pool[0], y_shape[3] // case.pool[1])
    made = Work(case, op, normal(*x_shape), normal(*s.w_shape), normal(outputs), normal(*y_shape))
    return replace(made, g=_decided(made)) if case.pool is not None and op == "backward" else made


def _decided(work: Work) -> Tensor:
    """The gradient of the result, without the windows whose winner rounding may decide.

    There the gradient goes to one input or to another, or to none, and both are right: nothing could be compared.
    """
    assert work.case.pool is not None
    kh, kw = work.case.pool
    y = _layer(replace(work, case=replace(work.case, pool=None, activation=None)))(
        work.x.double(), work.w.double(), work.bias.double()
    )
    windows = y.unfold(2, kh, kh).unfold(3, kw, kw).flatten(-2)
    best, second = windows.topk(2).values.unbind(-1)
    margin = _UNDECIDED * float(y.abs().max())
    return work.g.where((best - second > margin) & (best.abs() > margin), 0.0)


def channels_last(tensor: Tensor) -> Tensor:
    """A copy with the channels as the last axis in memory; what has no channels stays."""
    if tensor.dim() != 4:
        return tensor
    # A single channel lies the same in both orders; only this way do the strides say which is meant.
    return torch.empty_like(tensor, memory_format=torch.channels_last).copy_(tensor)


def eager(work: Work, bring: Callable[[Tensor], Tensor]) -> Call:
    """The operation by PyTorch's own operators, on tensors brought into the form in which they are compared."""
    x, w, bias, g = map(bring, (work.x, work.w, work.bias, work.g))
    layer = _layer(work)
    if work.op == "forward":
        return lambda: layer(x, w, bias)
    if work.op == "backward":
        return gradients(layer, [x] if isinstance(work.case.shape, PoolShape) else [x, w, bias], g)
    s, which = work.conv, 0 if work.op == "grad_x" else 1
    transposed = work.case.kind == "transposed"
    setting = ([*s.stride], [*work.pads], [*s.dilation], transposed, [0, 0], s.groups, [which == 0, which == 1, False])

    def backward() -> Tensor:
        result: Tensor = _aten.convolution_backward(g, x, w, None, *setting)[which]
        return result

    return backward


def gradients(layer: Callable[..., Tensor], inputs: Sequence[Tensor], g: Tensor) -> Call:
    """The backward of a layer by all its inputs, as one vector."""
    leaves = [t.clone(memory_format=torch.preserve_format).requires_grad_() for t in inputs]
    y = layer(*leaves)

    def backward() -> Tensor:
        return torch.cat([t.reshape(-1) for t in torch.autograd.grad(y, leaves, g, retain_graph=True)])

    return backward


def _layer(work: Work) -> Callable[..., Tensor]:
    case, s, pads = work.case, work.case.shape, [*work.pads]
    if isinstance(s, PoolShape):
        pool = F.max_pool2d if case.kind == "max_pool" else F.avg_pool2d
        kernel, stride = [s.kh, s.kw], [*s.stride]
        return lambda x, *_: pool(x, kernel, stride, pads)
    stride, dilation = [*s.stride], [*s.dilation]

    def layer(x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
        if case.kind == "linear":
            y = F.linear(x, w, bias)
        elif case.kind == "transposed":
            y = F.conv_transpose2d(x, w, bias, stride, pads, 0, s.groups, dilation)
        else:
            y = F.conv2d(x, w, bias, stride, pads, dilation, s.groups)
        y = F.relu_(y) if case.activation == "relu" else y
        return y if case.pool is None else F.max_pool2d(y, case.pool)

    return layer
