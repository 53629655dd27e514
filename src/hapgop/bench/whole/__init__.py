"""Whole nets, measured as layers are: every installed peer in turn, same weights, outputs compared."""

from hapgop.bench.whole.run import NetRun, bench_nets, plan_nets

__all__ = ["NetRun", "bench_nets", "plan_nets"]
