"""A plan: what was chosen for a problem and why, as text that people read."""

from __future__ import annotations

from dataclasses import dataclass

from hapgop.algorithms import Algorithm, Problem, Recipe
from hapgop.machine import Machine
from hapgop.shape import ConvShape


@dataclass(frozen=True, slots=True)
class Lost:
    """An algorithm that was not taken, and the reason."""

    algorithm: str
    reason: str

    @property
    def elsewhere(self) -> bool:
        """Whether it computes other operations than the one asked for, as its reason then says, and so lost nothing."""
        return self.reason.startswith("computes ")


@dataclass(frozen=True)
class Plan:
    """The algorithm for a problem on a machine; `print(plan)` tells the whole choice, but for the algorithms of other
    operations.

    seconds: the predicted time on one core. losers: every other algorithm, with its reason. measured: seconds that a
    call took when the engine compared the candidates, with all the threads that it had; None where prediction decided.
    """

    problem: Problem
    machine: Machine
    algorithm: Algorithm
    recipe: Recipe
    seconds: float
    losers: tuple[Lost, ...]
    measured: float | None = None

    def __str__(self) -> str:
        p, s = self.problem, self.problem.shape
        x, y = " x ".join(map(str, s.x_shape)), " x ".join(map(str, s.y_shape))
        what = f"{p.op} {x} -> {y}, filter {s.kh} x {s.kw}, {p.dtype}"
        extra = [p.activation] if p.activation else []
        lines = [
            ", ".join([what, *extra]),
            f"  on {self.machine.name} ({self.machine.isa}, {self.machine.cores} cores)",
            f"  takes {self.algorithm.name}: tiles of {self.recipe.tiles}, {self.recipe.items} work items, "
            f"predicted {_time(self.seconds)} on one core{self._rate()}",
        ]
        if self.measured is not None:
            lines.append(f"  measured {_time(self.measured)} a call, when the candidates were compared")
        growth = self.algorithm.growth(p)
        if growth > 1:
            lines.append(f"  error at most {growth:g} times the bound of plain sums, which precision='exact' keeps to")
        lines += [f"  not {lost.algorithm}: {lost.reason}" for lost in self.losers if not lost.elsewhere]
        return "\n".join(lines)

    def _rate(self) -> str:
        s = self.problem.shape
        return f" ({s.flops / self.seconds / 1e9:.0f} GFLOP/s)" if isinstance(s, ConvShape) else ""


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"
