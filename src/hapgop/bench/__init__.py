"""Speed, measured fairly: the same operation on both sides, interleaved in one process, outputs checked."""

from hapgop.bench.layers import BenchResult, Row, bench_layers

__all__ = ["BenchResult", "Row", "bench_layers"]
