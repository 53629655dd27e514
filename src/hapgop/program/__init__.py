"""A whole net as data, and its execution without PyTorch."""

from hapgop.program.folding import fold
from hapgop.program.graph import Graph, Node
from hapgop.program.layers import LayerInfo, layers
from hapgop.program.running import check_tensors, refusals, run

__all__ = ["Graph", "LayerInfo", "Node", "check_tensors", "fold", "layers", "refusals", "run"]
