"""What the page is told of a net before any picture: plain values for JSON."""

from typing import Any

from hapgop.explain import algorithm
from hapgop.explain.field import unequal
from hapgop.explain.opened import Opened
from hapgop.explain.taps import taps, windowed
from hapgop.studio.look.subject import Subject


def net_facts(subject: Subject) -> dict[str, Any]:
    """The layers in running order, with what each reads, its sizes, formula, cost, field and window places."""
    net = subject.net
    return {
        "title": subject.title,
        "classes": list(subject.classes),
        "input": net.graph.input,
        "output": net.graph.output,
        "input_shape": list(net.graph.input_shape),
        "mean": list(subject.preprocessing.mean),
        "std": list(subject.preprocessing.std),
        "mirror": subject.mirror,
        "layers": [_layer(net, name) for name in net.layers],
        "taught": subject.taught is not None,
        "samples": [{"name": one.name, "truth": one.truth} for one in subject.samples],
    }


def _layer(net: Opened, name: str) -> dict[str, Any]:
    info, node = net.layers[name], net.nodes[name]
    made = algorithm(net, name)
    field = info.receptive_field
    facts: dict[str, Any] = {
        "name": name,
        "op": info.op,
        "reads": list(node.inputs),
        "input": list(info.input_shape),
        "output": list(info.output_shape),
        "filter": info.filter,
        "formula": info.formula,
        "parameters": info.parameters,
        "macs": info.macs,
        "unread": list(info.unread),
        "field": {"size": field.size, "jump": field.jump, "start": field.start},
        "unequal": unequal(net, name),
        "activation": node.attrs.get("activation"),
        "groups": node.attrs.get("groups", 1),
        "weights": "weight" in node.params and node.weighted,
        "algorithm": None if made is None else {
            "name": made.name, "plan": _reasons(made.plan), "products": made.forms_products
        },
    }  # fmt: skip
    if info.op == "batch_norm2d":
        facts["norm"] = {"eps": node.attrs["eps"]}
    if windowed(node):
        rows, columns = taps(node, info.input_shape)
        facts["taps"] = {
            axis: {"places": t.places.tolist(), "reads": t.reads.tolist()}
            for axis, t in (("rows", rows), ("columns", columns))
        }
    return facts


def _reasons(plan: str) -> str:
    """The plan without the algorithms for other filters."""
    return "\n".join(line for line in plan.splitlines() if " is made for " not in line)
