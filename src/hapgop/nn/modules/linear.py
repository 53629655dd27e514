"""The fully connected layer."""

from typing import Any

from torch import Tensor, nn

from hapgop.nn import functional
from hapgop.nn.functional.arguments import checked_activation


class Linear(nn.Linear):
    """`torch.nn.Linear`, computed by hapgop; `activation="relu"` fuses a ReLU into it.

    >>> Linear(3, 4, activation="relu")(torch.ones(2, 3)).shape
    torch.Size([2, 4])
    """

    def __init__(self, *args: Any, activation: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.activation = checked_activation(activation)

    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input, self.weight, self.bias, activation=self.activation)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.activation is None else f", activation={self.activation!r}")
