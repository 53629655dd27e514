"""A whole net as data, and its execution without PyTorch."""

from hapgop.program.folding import fold
from hapgop.program.graph import Graph, Node
from hapgop.program.layers import LayerInfo, layers
from hapgop.program.program import Program
from hapgop.program.running import check_tensors, refusals, run
from hapgop.program.schedule import Schedule, schedule

__all__ = [
    "Graph",
    "LayerInfo",
    "Node",
    "Program",
    "Schedule",
    "check_tensors",
    "fold",
    "layers",
    "refusals",
    "run",
    "schedule",
]
