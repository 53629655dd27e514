"""Which algorithm does a problem on a machine: a pure function, and the text that explains it."""

from hapgop.planning.choose import Candidate, Ranking, choose, rank
from hapgop.planning.plan import Lost, Plan

__all__ = ["Candidate", "Lost", "Plan", "Ranking", "choose", "rank"]
