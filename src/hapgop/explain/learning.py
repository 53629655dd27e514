"""A filter that learns: from examples of what it should have answered, by going downhill."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from hapgop.explain.opened import Array


@dataclass(frozen=True, eq=False)
class Learning:
    """What one filter was after some of its steps. filters: float32 (kept, kh, kw); steps, losses: one for each."""

    steps: tuple[int, ...]
    filters: Array
    losses: tuple[float, ...]


def learn_filter(image: Array, target: Array, steps: int = 200, rate: float = 0.5, keep: int = 25) -> Learning:
    """A filter that starts at random and learns to answer to `image` (h, w) as the filter `target` (kh, kw) does.

    Each step moves the filter against the derivative of the mean squared difference. `keep` states are kept, the
    first and the last among them.

    >>> edge = np.array([[-1, 0, 1]] * 3, np.float32)
    >>> learned = learn_filter(np.random.default_rng(0).random((12, 12)).astype(np.float32), edge)
    >>> bool(np.abs(learned.filters[-1] - edge).max() < 0.1)
    True
    """
    x = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    # Of equal strength whatever the image: one rate then fits all.
    x = (x - x.mean()) / x.std().clamp_min(1e-6)
    wanted = F.conv2d(x, torch.from_numpy(np.ascontiguousarray(target))[None, None])
    kh, kw = target.shape
    w = torch.from_numpy(np.random.default_rng(0).normal(0, 0.5, (1, 1, kh, kw)).astype(np.float32)).requires_grad_()
    # Neighbouring pixels say nearly the same, so that the steepest direction would need another rate than the others.
    optimizer = torch.optim.Adam([w], lr=0.1 * rate)
    kept = sorted({round(k) for k in np.linspace(0, steps, keep)})
    numbers, filters, losses = [], [], []
    for step in range(steps + 1):
        loss = F.mse_loss(F.conv2d(x, w), wanted)
        if step in kept:
            numbers.append(step)
            filters.append(w.detach()[0, 0].numpy().copy())
            losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Learning(tuple(numbers), np.stack(filters), tuple(losses))
