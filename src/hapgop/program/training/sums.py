"""Convolutions, and linear layers, which are some, in a training step.

The derivatives of a convolution are the two other members of its trilinear form; `hapgop.nn.autograd` has the same
formulas for single layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf, prod

from hapgop.algorithms import Problem
from hapgop.algorithms.problem import Op
from hapgop.program.training.tape import Place, Tape
from hapgop.program.training.ways import at_once, together
from hapgop.shape import ConvShape, PoolShape


class Sum:
    """A convolution, a linear layer, which is one, or a transposed convolution, which is the way back through one."""

    def __init__(
        self,
        tape: Tape,
        shape: ConvShape,
        weights: str,
        x: Place,
        params: Mapping[str, str],
        relu: bool,
        transposed: bool = False,
    ) -> None:
        self.tape, self.shape, self.x, self.relu, self.transposed = tape, shape, x, relu, transposed
        self.size = shape.x_shape if transposed else shape.y_shape  # of the result
        self.layouts = ("nhwc", "nhwc", weights)
        self.weight = Place("tensor", params["weight"])
        self.bias = Place("tensor", params["bias"]) if "bias" in params else None
        op: Op = "grad_x" if transposed else "conv"
        self.problem = Problem(
            op, shape, "float32", *self.layouts, bias="bias" in params, activation="relu" if relu else None
        )

    @property
    def wanted(self) -> bool:
        """Whether anything behind it is learned."""
        names = (self.weight.name, None if self.bias is None else self.bias.name)
        return self.tape.wants(self.x) or self.tape.learns(*names)

    def forward(self, y: Place) -> None:
        # A way back has no place for a bias that is not there.
        bias = () if self.transposed and self.bias is None else (self.bias,)
        self.tape.call(self.problem, self.x, self.weight, *bias, y)
        self.tape.back(y, lambda g: self.factors(self.before(g, y, self.size)), of=self.wanted)

    def forward_pooled(self, z: Place) -> None:
        winners = self.tape.new("winners", z.name, self.tape.elements[z])
        self.tape.call(replace(self.problem, pooled=True), self.x, self.weight, self.bias, z, winners)
        self.tape.back(z, lambda g: self.pooled_back(g, z, winners), of=self.wanted)

    def derivative(self, of: Place) -> Place:
        s = self.shape
        size = prod(s.w_shape) if of == self.weight else self.size[1]
        if self.tape.learns(of.name):
            return self.tape.new("derivative", of.name, size)
        return self.tape.between(size)

    def before(self, g: Place, y: Place, size: tuple[int, int, int, int]) -> Place:
        """The gradient before ReLU and bias, from that of y, (n, c, h, w); the bias' derivative is made on the way."""
        db = None if self.bias is None else self.derivative(self.bias)
        if self.relu:
            return masked(self.tape, g, y, size, db)
        if db is not None and self.tape.learns(db.name):
            # Any convolution with this result has this derivative; that by a 1x1 filter is the plainest.
            n, c, h, w = size
            self.tape.call(Problem("grad_b", ConvShape(n, 1, h, w, c, 1, 1)), g, db)
        return g

    def pooled_back(self, g: Place, z: Place, winners: Place) -> None:
        """From the gradient of the pooled map, in as few passes as there are kernels for."""
        tape, s, pool = self.tape, self.shape, PoolShape(*self.shape.y_shape, 2, 2)
        if self.relu and self.bias is not None and tape.learns(self.bias.name):
            whole = replace(self.gradient("pooled_grad_w"), activation="relu")
            once = at_once(whole, tape.wants(self.x)) if tape.learns(self.weight.name) else ""
            masked = Problem("pooled_grad", pool, activation="relu")
            left = "w" not in once or ("x" not in once and tape.wants(self.x))
            if not left or takes(masked):
                db = self.derivative(self.bias)
                if "w" in once:
                    tape.call(whole, self.x, g, z, winners, self.derivative(self.weight), db)
                    db = tape.between(s.oc)
                if "x" in once:
                    dx = tape.gradient_for(self.x)
                    tape.call(replace(whole, op="pooled_grad_x"), g, z, winners, self.weight, dx)
                    tape.send(self.x, dx)
                if left:
                    dy = tape.between(prod(s.y_shape))
                    tape.call(masked, g, z, winners, dy, db)
                    self.factors(dy, once)
                return
        dy = tape.between(prod(s.y_shape))
        # A window's winner is above zero where the window's result is: the mask is taken where the map is smallest.
        tape.call(Problem("max_pool_grad", pool), self.before(g, z, pool.y_shape), winners, dy)
        self.factors(dy)

    def gradient(self, op: Op) -> Problem:
        """One of the derivatives by the factors."""
        return Problem(op, self.shape, "float32", *self.layouts)

    def factors(self, g: Place, made: str = "") -> None:
        """The derivatives by both factors but for those already made, "w" or "x"."""
        if self.tape.wants(self.x) and "x" not in made:
            dx = self.tape.gradient_for(self.x)
            if self.transposed:
                self.tape.call(self.gradient("conv"), g, self.weight, None, dx)
            else:
                self.tape.call(self.gradient("grad_x"), g, self.weight, dx)
            self.tape.send(self.x, dx)
        if self.tape.learns(self.weight.name) and "w" not in made:
            dw = self.derivative(self.weight)
            factors = (g, self.x) if self.transposed else (self.x, g)
            self.tape.call(self.gradient("grad_w"), *factors, dw)


def masked(tape: Tape, g: Place, y: Place, size: tuple[int, int, int, int], sums: Place | None = None) -> Place:
    """g where y, (n, c, h, w), is above zero; `sums` gets its sum for each channel."""
    dx = tape.between(tape.elements[y])
    problem = Problem("relu_grad", PoolShape(*size, 1, 1), activation="relu")
    tape.call(problem, g, y, dx, sums or tape.between(size[1]))
    return dx


def takes(problem: Problem) -> bool:
    """Whether some algorithm does."""
    return together([problem]) < inf
