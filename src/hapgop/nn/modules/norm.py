"""The batch norm layer: that of torch.nn, computed by ours."""

from typing import Any

import torch
from torch import Tensor, nn

from hapgop.nn import functional
from hapgop.nn.functional.arguments import checked_activation
from hapgop.nn.modules.naming import named


class BatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d`, computed by `hapgop.nn.functional.batch_norm`.

    Beyond PyTorch's: a second input that is added (the residual), and `activation="relu"`, in the same pass.

    >>> norm = BatchNorm2d(3, activation="relu")
    >>> x = torch.randn(2, 3, 4, 4)
    >>> norm(x, x).shape, bool(norm(x).min() >= 0)
    (torch.Size([2, 3, 4, 4]), True)
    """

    activation: str | None = None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        activation: str | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        self.activation = checked_activation(activation)

    @named
    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        self._check_input_dim(input)
        share = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                # The mean of all batches.
                share = 1.0 / float(self.num_batches_tracked)
        kept = (self.running_mean, self.running_var) if not self.training or self.track_running_stats else (None, None)
        own = self.training or self.running_mean is None
        return functional.batch_norm(
            input, *kept, self.weight, self.bias, own, share, self.eps, residual=residual, activation=self.activation
        )

    def _check_input_dim(self, input: Any) -> None:
        if isinstance(input, Tensor):  # no tracer's stand-in, which has no dimensions to compare
            super()._check_input_dim(input)

    def extra_repr(self) -> str:
        text: str = super().extra_repr()
        return text if self.activation is None else f"{text}, activation={self.activation!r}"
