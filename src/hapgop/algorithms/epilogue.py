"""What is done to a result before it is stored: the activations, written once for all algorithms."""

from __future__ import annotations

from hapgop.algorithms.problem import Problem
from hapgop.tile import Builder, Register


def activated(k: Builder, value: Register, activation: str | None) -> Register:
    """The activation of a vector of results; NaN stays NaN.

    relu6 is min(max(v, 0), 6); hardswish is v relu6(v + 3) / 6 (Howard et al., "Searching for MobileNetV3", 2019).
    """
    # The constant comes first: then the comparison with NaN is the constant's, and each bound is one instruction.
    match activation:
        case None:
            return value
        case "relu":
            return k.max(k.const(0.0), value)
        case "relu6":
            above = activated(k, value, "relu")
            return k.min(k.const(6.0), above)
        case "hardswish":
            gate = activated(k, k.add(value, k.const(3.0)), "relu6")
            return k.mul(k.mul(value, gate), k.const(1 / 6))
    raise ValueError(f"no activation {activation!r}")


def unfused(problem: Problem, *able: str) -> str | None:
    """Why an algorithm that fuses no more than `able` ("residual", "pooled") cannot do a problem, in words."""
    if problem.residual and "residual" not in able:
        return "does not add a residual"
    if problem.pooled and "pooled" not in able:
        return "does not pool what it computed"
    return None
