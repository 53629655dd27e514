"""Which algorithm does a problem on a machine: a pure function, and the text that explains it."""

from hapgop.plan.choose import choose
from hapgop.plan.plan import Lost, Plan

__all__ = ["Lost", "Plan", "choose"]
