"""Muon: momentum whose direction is made orthogonal, for the weights of convolutions and hidden layers."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# Of the quintic polynomial that drives all singular values towards 1 (Jordan et al., 2024): the slope at zero is as
# steep as it can be, at the price of values that end anywhere from about 0.7 to 1.2. Three rounds, as in
# cifar10-airbench: five cost a CPU two fifths of a training step of 250 images, and train no better there.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ROUNDS = 3


class Muon(torch.optim.Optimizer):
    """SGD with momentum whose update of each weight (oc, ...) is the nearest orthogonal matrix (oc, rest).

    The update is scaled by sqrt(max(1, oc / rest)), so that one learning rate serves all shapes, and weight decay is
    decoupled, as in AdamW. All parameters need two dimensions or more.

    Source: Jordan, Jin, Boza, You, Cesista, Newhouse and Bernstein, "Muon: an optimizer for hidden layers in neural
    networks", 2024 (kellerjordan.github.io/posts/muon); the polynomial iteration is that of Björck and Bowie (1971)
    and Kovarik (1970) with their coefficients.

    >>> w = torch.nn.Parameter(torch.eye(3))
    >>> optimizer = Muon([w], lr=0.5, momentum=0.0, nesterov=False, weight_decay=0.0)
    >>> (2 * w).sum().backward(); optimizer.step()
    >>> bool((w.diagonal() < 1).all())
    True
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float, nesterov: bool, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update; a closure is not called."""
        for group in self.param_groups:
            momentum, rate = group["momentum"], group["lr"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                memory = state["momentum_buffer"]
                memory.mul_(momentum).add_(parameter.grad)
                direction = parameter.grad.add(memory, alpha=momentum) if group["nesterov"] else memory
                matrix = direction.reshape(len(direction), -1)
                update = orthogonal(matrix) * max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                parameter.mul_(1 - rate * group["weight_decay"])
                parameter.add_(update.view(direction.shape), alpha=-rate)


def orthogonal(matrix: Tensor, rounds: int = _ROUNDS) -> Tensor:
    """Nearly U V^T of the matrix (m, n) = U S V^T, by products of matrices alone; zero stays zero.

    >>> found = orthogonal(torch.tensor([[3.0, 0.0], [0.0, 0.2]]))
    >>> bool(((found.diagonal() > 0.6) & (found.diagonal() < 1.3)).all())
    True
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    # The iteration converges from singular values of at most 1, which the norm bounds.
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=_B, alpha=_C), x, beta=_A)
    return x.T if tall else x
