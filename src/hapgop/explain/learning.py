"""A filter that learns: from examples of what it should have answered, by going downhill."""

from dataclasses import dataclass

import numpy as np

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
    x = np.asarray(image, np.float64)
    # Of equal strength whatever the image: one rate then fits all.
    x = (x - x.mean()) / max(float(x.std(ddof=1)), 1e-6)
    windows = np.lib.stride_tricks.sliding_window_view(x, target.shape).reshape(-1, target.size)
    wanted = windows @ target.ravel().astype(np.float64)
    w = np.random.default_rng(0).normal(0, 0.5, target.size)
    # Neighbouring pixels say nearly the same, so that the steepest direction would need another rate than the others:
    # hence Adam (Kingma and Ba, 2015), written out, as it is short and PyTorch's takes seconds to import.
    mean, square = np.zeros_like(w), np.zeros_like(w)
    kept = sorted({round(k) for k in np.linspace(0, steps, keep)})
    numbers, filters, losses = [], [], []
    for step in range(steps + 1):
        error = windows @ w - wanted
        if step in kept:
            numbers.append(step)
            filters.append(w.reshape(target.shape).astype(np.float32))
            losses.append(float(np.mean(error**2)))
        gradient = 2 / len(error) * (error @ windows)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        unbiased, spread = mean / (1 - 0.9 ** (step + 1)), np.sqrt(square / (1 - 0.999 ** (step + 1)))
        w -= 0.1 * rate * unbiased / (spread + 1e-8)
    return Learning(tuple(numbers), np.stack(filters), tuple(losses))
