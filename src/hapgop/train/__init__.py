"""Training and judging: data, recipes, the loop, and what came of it."""

from hapgop.train.budget import Fitting, fitting
from hapgop.train.calibration import Calibration, calibration
from hapgop.train.data import SPLITS, Data, Skipped, Split
from hapgop.train.distributed import ALONE, WorkerLost, Workers, joined
from hapgop.train.evaluation import Evaluation, PerClass, evaluate, wilson
from hapgop.train.fit import Result, finished_run, fit
from hapgop.train.load import load, load_for, loaded_as
from hapgop.train.loop import Diverged, Unwritable
from hapgop.train.pretrained import load_pretrained
from hapgop.train.progress import EpochDone, Event, Formed, Progress, Reading, Step, Validating
from hapgop.train.recipe import Recipe
from hapgop.train.run import load_filters, load_model
from hapgop.train.scan import Finding, scan
from hapgop.train.suggestion import suggested_net, suggested_recipe

__all__ = [
    "ALONE",
    "SPLITS",
    "Calibration",
    "Data",
    "Diverged",
    "EpochDone",
    "Evaluation",
    "Event",
    "Finding",
    "Fitting",
    "Formed",
    "PerClass",
    "Progress",
    "Reading",
    "Recipe",
    "Result",
    "Skipped",
    "Split",
    "Step",
    "Unwritable",
    "Validating",
    "WorkerLost",
    "Workers",
    "calibration",
    "evaluate",
    "finished_run",
    "fit",
    "fitting",
    "joined",
    "load",
    "load_filters",
    "load_for",
    "load_model",
    "load_pretrained",
    "loaded_as",
    "scan",
    "suggested_net",
    "suggested_recipe",
    "wilson",
]
