"""Speed, measured fairly: the same operation on both sides, interleaved in one process, outputs checked."""

import importlib
from typing import TYPE_CHECKING, Any

from hapgop.bench.allocator import ALLOCATORS, use_allocator
from hapgop.bench.case import OPS, Case
from hapgop.bench.choosing import Job, Wanted, cases
from hapgop.bench.in_pytorch import in_pytorch
from hapgop.bench.layers import Run, bench_layers, plan
from hapgop.bench.reading import from_text
from hapgop.bench.rows import BenchResult, ClassMean, Match, Row, class_means, from_json
from hapgop.bench.starting import Start, bench_start, start_json
from hapgop.bench.surveys import OPS as SURVEY_OPS
from hapgop.bench.surveys import SurveyRow, SurveySummary, survey, survey_json
from hapgop.bench.table import table
from hapgop.bench.training import TrainResult, TrainRow, TrainRun, bench_train, plan_train, train_table
from hapgop.bench.whole import NetRun, bench_nets, plan_nets

if TYPE_CHECKING:
    from hapgop.bench.picture import draw

__all__ = [
    "ALLOCATORS",
    "OPS",
    "SURVEY_OPS",
    "BenchResult",
    "Case",
    "ClassMean",
    "Job",
    "Match",
    "NetRun",
    "Row",
    "Run",
    "Start",
    "SurveyRow",
    "SurveySummary",
    "TrainResult",
    "TrainRow",
    "TrainRun",
    "Wanted",
    "bench_layers",
    "bench_nets",
    "bench_start",
    "bench_train",
    "cases",
    "class_means",
    "draw",
    "from_json",
    "from_text",
    "in_pytorch",
    "plan",
    "plan_nets",
    "plan_train",
    "start_json",
    "survey",
    "survey_json",
    "table",
    "train_table",
    "use_allocator",
]


def __getattr__(name: str) -> Any:
    # Matplotlib takes half a second to import, also of a training whose time is measured.
    if name != "draw":
        raise AttributeError(f"module 'hapgop.bench' has no attribute {name!r}")
    return importlib.import_module("hapgop.bench.picture").draw
