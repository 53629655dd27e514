"""What a peer is: a library that computes the same, as a call to be timed."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor

from hapgop.bench.case import Case
from hapgop.bench.work import Work


def _as_it_is(result: Any) -> Tensor:
    tensor: Tensor = result
    return tensor


@dataclass(frozen=True, slots=True)
class Entry:
    """One side of a comparison. `run` is timed; `tensor` makes its result one of PyTorch's, untimed, for the check."""

    run: Callable[[], Any]
    tensor: Callable[[Any], Tensor] = _as_it_is


def not_installed(packages: Sequence[str]) -> str | None:
    """Which of some packages are missing, and how to get them; None where all are there."""
    missing = [name for name in packages if importlib.util.find_spec(name.replace("-", "_")) is None]
    if missing:
        return f"{' and '.join(missing)} not installed: pip install 'hapgop[bench]' brings it"
    return None


class Peer(ABC):
    """A library to compare with.

    name: how its column is called; the word before the first blank chooses it on the command line.
    packages: what has to be installed, the one whose version counts first.
    prepacked: does it lay out the weights ahead of the calls?
    """

    name: str
    packages: tuple[str, ...]
    prepacked: bool

    def available(self) -> str | None:
        """Why this peer cannot take part here, or None where it can."""
        return not_installed(self.packages)

    def version(self) -> str:
        return importlib.metadata.version(self.packages[0])

    @abstractmethod
    def computes(self, case: Case, op: str) -> bool:
        """Does it have this operation?"""

    @abstractmethod
    def entry(self, work: Work, threads: int) -> Entry:
        """The call for what it computes, on so many threads.

        Inputs lie as the peer's own previous layer would have left them; bringing them there is not timed.
        """


def is_layer(case: Case, op: str) -> bool:
    """Is this the forward of a convolution, all that libraries for prediction know of this benchmark?"""
    return op == "forward" and case.kind in ("conv", "transposed")


@cache
def library(name: str) -> Any:
    """A package that only comparisons need, imported when it is first used."""
    return importlib.import_module(name)
