"""Nets by name, as graphs; apart, because it imports PyTorch."""

from hapgop.nn import capture, nets
from hapgop.program import Graph


def graph(name: str, shape: tuple[int, int, int], classes: int) -> Graph:
    """The graph of a net of `hapgop.nn.nets`. Raises InputError on an unknown name or a size that does not fit."""
    return capture(nets.build(name, classes=classes, input_shape=shape), shape)
