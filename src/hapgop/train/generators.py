"""The global generators of random numbers: borrowed, seeded, given back."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def borrowed() -> Iterator[None]:
    """Inside, the global generators of Python, NumPy and PyTorch may be seeded; afterwards they are as before."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def seed(value: int) -> None:
    """Seeds all three; whatever a module draws from then follows from `value` (63 bits)."""
    random.seed(value)
    np.random.seed(value & 0xFFFFFFFF)
    torch.default_generator.manual_seed(value)
