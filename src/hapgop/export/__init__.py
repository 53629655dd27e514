"""Trained nets for other runtimes: one ONNX file with everything in it, from the pixels to the probabilities."""

from hapgop.export.model import Exported, to_onnx
from hapgop.export.parity import Parity, compared
from hapgop.export.words import write_graph
from hapgop.export.writer import Value, Writer

__all__ = ["Exported", "Parity", "Value", "Writer", "compared", "to_onnx", "write_graph"]
