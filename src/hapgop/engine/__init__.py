"""The engine: plans become calls on memory. The only room that knows plans and pointers both."""

from hapgop.engine.address import address
from hapgop.engine.allocator import release_memory, tune_allocator
from hapgop.engine.arrays import avg_pool2d, conv2d, linear, max_pool2d
from hapgop.engine.changes import on_change
from hapgop.engine.describe import describe
from hapgop.engine.kept import Kept
from hapgop.engine.many import prepare_many
from hapgop.engine.mapped import PreparedMap, prepare_map
from hapgop.engine.memory import ALIGN, Block, empty, rounded
from hapgop.engine.pixels import numbers
from hapgop.engine.precision import at_precision, get_precision, set_precision
from hapgop.engine.prepared import Prepared
from hapgop.engine.ready import Refused, plan_for, prepare, prepare_by, prepare_candidates
from hapgop.engine.runnable import Runnable
from hapgop.engine.sequence import Call, Outside, Sequence
from hapgop.engine.small import prepare_cross_entropy, prepare_descent
from hapgop.engine.team import get_threads, most_threads, set_threads, use_openmp
from hapgop.engine.tuning import compare, get_tuning, keep, may_measure, measured, set_tuning, spend, unmeasured, usual

__all__ = [
    "ALIGN",
    "Block",
    "Call",
    "Kept",
    "Outside",
    "Prepared",
    "PreparedMap",
    "Refused",
    "Runnable",
    "Sequence",
    "address",
    "at_precision",
    "avg_pool2d",
    "compare",
    "conv2d",
    "describe",
    "empty",
    "get_precision",
    "get_threads",
    "get_tuning",
    "keep",
    "linear",
    "max_pool2d",
    "may_measure",
    "measured",
    "most_threads",
    "numbers",
    "on_change",
    "plan_for",
    "prepare",
    "prepare_by",
    "prepare_candidates",
    "prepare_cross_entropy",
    "prepare_descent",
    "prepare_many",
    "prepare_map",
    "release_memory",
    "rounded",
    "set_precision",
    "set_threads",
    "set_tuning",
    "spend",
    "tune_allocator",
    "unmeasured",
    "use_openmp",
    "usual",
]
