"""Batch norms in a training step."""

from __future__ import annotations

from hapgop.algorithms import Problem
from hapgop.algorithms.maps import MapProblem
from hapgop.program.graph import Node
from hapgop.program.training.tape import Place, Spot, Tape
from hapgop.shape import PoolShape


class Norm:
    """A batch norm with the sum and the ReLU behind it."""

    def __init__(
        self, tape: Tape, shape: PoolShape, node: Node, x: Place, beside: Place | None, relu: bool, momentum: float
    ) -> None:
        self.tape, self.shape, self.node, self.x, self.beside = tape, shape, node, x, beside
        self.activation, self.momentum = "relu" if relu else None, momentum
        self.weight, self.bias = (Place("tensor", node.params[role]) for role in ("weight", "bias"))

    def forward(self, y: Place) -> None:
        tape, beside = self.tape, self.beside
        statistics = tape.new("statistics", self.node.name, 3 * self.shape.c)
        problem = Problem(
            "batch_norm", self.shape, activation=self.activation, residual=beside is not None,
            eps=float(self.node.attrs["eps"]),
        )  # fmt: skip
        tape.call(problem, self.x, self.weight, self.bias, beside, y, statistics)
        self.run_on(statistics)
        wanted = tape.wants(self.x) or tape.learns(self.weight.name, self.bias.name)
        wanted = wanted or (beside is not None and tape.wants(beside))
        tape.back(y, lambda g: self.back(g, y, statistics), of=wanted)

    def run_on(self, statistics: Place) -> None:
        """The running statistics move towards those of the batch; the variance is that of a sample, as in PyTorch."""
        mean, variance = (Place("tensor", self.node.params[role]) for role in ("running_mean", "running_var"))
        momentum, c = self.momentum, self.shape.c
        count = self.tape.elements[self.x] // c
        for number, (running, share) in enumerate(((mean, momentum), (variance, momentum * count / (count - 1)))):
            problem = MapProblem("blend", 1, 1, c, alpha=1 - momentum, beta=share)
            self.tape.call(problem, running, Spot(statistics, number * c), running)

    def back(self, g: Place, y: Place, statistics: Place) -> None:
        tape, c = self.tape, self.shape.c
        # Without a residual, what the ReLU let through is seen from x.
        masked = self.beside is not None and self.activation is not None
        learned = tape.learns(self.weight.name, self.bias.name)
        both = tape.new("derivative", self.weight.name, 2 * c) if learned else tape.between(2 * c)
        wants_x = tape.wants(self.x)
        dx = tape.gradient_for(self.x) if wants_x else tape.between(tape.elements[self.x])
        beside = tape.between(tape.elements[y]) if masked else None
        problem = Problem("batch_norm_grad", self.shape, activation=self.activation, residual=masked)
        seen = y if masked else None
        tape.call(problem, g, self.x, self.weight, self.bias, statistics, seen, dx, beside, both)
        if wants_x:
            tape.send(self.x, dx)
        if self.beside is not None:
            tape.send(self.beside, g if beside is None else beside, own=beside is not None)
