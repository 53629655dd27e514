"""What fast algorithms do not take, in words."""

from __future__ import annotations

from hapgop.algorithms.epilogue import unfused
from hapgop.algorithms.problem import Problem
from hapgop.machine import Machine

_LEAST = 8  # channels of a group: with fewer, most of the time would go into transforms


def refusal(problem: Problem, machine: Machine, m: int, r: int, stride: int) -> str | None:
    """Why F(m x m, r x r) cannot do a problem, whatever the operation."""
    s = problem.conv
    if problem.precision == "exact" and r > 1:
        return "is no plain sum, which precision='exact' asks for"
    if (s.kh, s.kw) != (r, r):
        return f"is made for filters of {r} x {r}, not {s.kh} x {s.kw}"
    if s.stride != (stride, stride):
        return f"is made for stride {stride}, not {s.stride}"
    if s.dilation != (1, 1) and (stride > 1 or problem.pooled):
        return "has no dilation with a stride or a pool"
    if problem.pooled and m % 2:
        return f"pools within its tiles, and windows of 2 x 2 do not fill those of {m} x {m}"
    if problem.y_layout != "nhwc" and (problem.residual or problem.pooled):
        return "adds and pools channels last"
    channels = min(s.ic, s.oc) // s.groups
    if channels < _LEAST:
        return f"takes {_LEAST} channels a group or more, not {channels}"
    if m + r - 1 >= machine.registers // 2:
        return f"needs more than {machine.registers} registers"
    return unfused(problem, "residual", "pooled")
