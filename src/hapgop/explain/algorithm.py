"""Who computed a layer: the algorithm that the engine takes for it, and what that means for its sums."""

from dataclasses import dataclass

from hapgop.algorithms import Problem
from hapgop.engine import Refused, plan_for
from hapgop.engine.precision import at_precision
from hapgop.explain.opened import Opened
from hapgop.program import Node
from hapgop.program.sizes import conv_shape, pool_shape, transposed_shape
from hapgop.shape import ConvShape


@dataclass(frozen=True)
class Algorithm:
    """`name`; `plan`, the whole choice as text, with every loser's reason; `forms_products`: does the kernel
    multiply the window's values by the filter's? A fast algorithm multiplies transformed ones instead."""

    name: str
    plan: str
    forms_products: bool

    @property
    def note(self) -> str:
        """In a sentence, for people."""
        if self.forms_products:
            return "The kernel multiplies exactly these values; it may add the products in another order."
        return (
            "This kernel never forms these products: it multiplies sums and differences of the window's values by "
            "sums and differences of the filter's, fewer times, and gets the same result up to rounding."
        )


def algorithm(net: Opened, layer: str) -> Algorithm | None:
    """What the engine takes for one image; None for a layer that needs no kernel."""
    node = net.node(layer)
    problem = _problem(node, net.sizes[node.inputs[0]])
    if problem is None:
        return None
    try:
        plan = plan_for(at_precision(problem))
    except Refused as refused:
        return Algorithm("definition", f"computed by its definition: {refused.reason}", True)
    return Algorithm(plan.algorithm.name, str(plan), "winograd" not in plan.algorithm.name)


def _problem(node: Node, size: tuple[int, ...]) -> Problem | None:
    """As `hapgop.program` poses it, for a batch of one."""
    if node.op == "linear":
        shape = ConvShape(1, size[0], 1, 1, node.attrs["out_features"], 1, 1)
        return Problem("conv", shape, bias="bias" in node.params, activation=node.attrs["activation"])
    if node.op == "pointwise":
        shape = ConvShape(1, size[0], size[1], size[2], node.attrs["out_features"], 1, 1)
        return Problem("conv", shape, bias="bias" in node.params, activation=node.attrs["activation"])
    if node.op == "conv2d":
        shape = conv_shape(node, size)
        if node.attrs["padding_mode"] != "zeros" and any(shape.padding):
            top, bottom, left, right = shape.padding
            padded = (1, shape.ic, shape.ih + top + bottom, shape.iw + left + right)
            shape = ConvShape.of(
                padded, shape.w_shape, stride=shape.stride, dilation=shape.dilation, groups=shape.groups
            )
        return Problem("conv", shape, bias="bias" in node.params, activation=node.attrs["activation"])
    if node.op == "conv_transpose2d":
        shape = transposed_shape(node, size)
        return Problem("grad_x", shape, bias="bias" in node.params, activation=node.attrs["activation"])
    if not node.op.endswith("pool2d"):
        return None
    pool = pool_shape(node, size)
    if pool is None:
        return None
    if node.op.endswith("max_pool2d"):
        return Problem("max_pool", pool, winners=False)
    return Problem("avg_pool", pool, count_include_pad=bool(node.attrs.get("count_include_pad", True)))
