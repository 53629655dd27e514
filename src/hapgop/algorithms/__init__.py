"""The algorithms, one file each; `ALL` is the list that dispatch, tests and benchmark read."""

from hapgop.algorithms.problem import Problem

__all__ = ["Problem"]
