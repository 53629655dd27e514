"""The linear layer: that of torch.nn, computed by ours."""

from typing import Any

import torch
from torch import Tensor, nn

from hapgop.nn import functional
from hapgop.nn.functional.arguments import checked_activation
from hapgop.nn.modules.naming import named


class Linear(nn.Linear):
    """`torch.nn.Linear`, computed by `hapgop.nn.functional.linear`; with `activation="relu"` in the same pass.

    >>> Linear(3, 4)(torch.ones(2, 3)).shape
    torch.Size([2, 4])
    """

    activation: str | None = None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        activation: str | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self.activation = checked_activation(activation)

    @named
    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input, self.weight, self.bias, activation=self.activation)

    def extra_repr(self) -> str:
        text = super().extra_repr()
        return text if self.activation is None else f"{text}, activation={self.activation!r}"
