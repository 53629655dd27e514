"""The moving average of a net's weights: what is validated and kept where the recipe asks for it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class Average:
    """The exponential moving average of everything a net holds, batch norm's statistics included.

    Source: Polyak and Juditsky (1992) for averaging; the growing decay of the first steps is TensorFlow's
    (`ExponentialMovingAverage`, num_updates), so that the first weights are forgotten soon.

    >>> net = torch.nn.Linear(1, 1); average = Average(net, 0.9)
    >>> before = net.weight.item()
    >>> _ = net.weight.data.add_(1); average.update(0)  # at first, (1 + 0) / (10 + 0) of the past is kept
    >>> round(average.tensors["weight"].item() - before, 3)
    0.9
    """

    def __init__(self, net: torch.nn.Module, decay: float) -> None:
        self.net, self.decay = net, decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after `step`, which counts from 0 over the whole training."""
        new = 1 - min(self.decay, (1 + step) / (10 + step))
        state = self.net.state_dict()
        real = [name for name, tensor in state.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.tensors[name] for name in real], [state[name] for name in real], new)
        for name, tensor in state.items():
            if not tensor.is_floating_point():
                self.tensors[name].copy_(tensor)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts the average back as a checkpoint has kept it."""
        for name, mine in self.tensors.items():
            mine.copy_(tensors[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the net holds the average; afterwards its own weights again, the same bits."""
        own = {name: tensor.detach().clone() for name, tensor in self.net.state_dict().items()}
        self.net.load_state_dict(self.tensors)
        try:
            yield
        finally:
            self.net.load_state_dict(own)
