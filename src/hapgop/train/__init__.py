"""Training and judging: data, recipes, the loop, and what came of it."""

from hapgop.train.data import SPLITS, Data, Skipped, Split
from hapgop.train.evaluation import Evaluation, PerClass, evaluate, wilson
from hapgop.train.fit import Result, fit, suggested_net
from hapgop.train.load import load
from hapgop.train.loop import Diverged
from hapgop.train.progress import EpochDone, Event, Progress, Reading, Step, Validating
from hapgop.train.recipe import Recipe
from hapgop.train.run import load_model

__all__ = [
    "SPLITS",
    "Data",
    "Diverged",
    "EpochDone",
    "Evaluation",
    "Event",
    "PerClass",
    "Progress",
    "Reading",
    "Recipe",
    "Result",
    "Skipped",
    "Split",
    "Step",
    "Validating",
    "evaluate",
    "fit",
    "load",
    "load_model",
    "suggested_net",
    "wilson",
]
