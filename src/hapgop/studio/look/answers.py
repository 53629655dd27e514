"""The page's questions and their answers: `explain` asked by plain functions, the answers as plain values.

An answer is a value for JSON, or a pair (head, arrays) for `packed`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hapgop import explain
from hapgop.errors import InputError
from hapgop.explain.window import filters_of
from hapgop.program.sizes import pool_shape
from hapgop.studio.look.facts import net_facts
from hapgop.studio.look.subject import Shown, Subject

Packed = tuple[dict[str, Any], dict[str, NDArray[Any]]]
Ask = Mapping[str, str]
# So many coverings are tried before the page hears of it.
_COVERED = 16
_MOST_FILTERS = 64
_MOST_SIDE = 31


def net(subject: Subject, _: Ask) -> dict[str, Any]:
    """What is known before any picture; of an average pooling also where the padding ends that it counts."""
    facts = net_facts(subject)
    for layer in facts["layers"]:
        node = subject.net.nodes[layer["name"]]
        if node.op == "avg_pool2d" and node.attrs.get("count_include_pad", True):
            pool = pool_shape(node, tuple(layer["input"]))
            assert pool is not None, "only adaptive windows differ in size"
            layer["counted"] = [pool.ih + pool.padding[1], pool.iw + pool.padding[3]]
    return facts


def shown(subject: Subject, one: Shown) -> dict[str, Any]:
    """A picture's id, name and answer."""
    return {"image": one.id, "name": one.name, "truth": one.truth, "probabilities": subject.answer(one)}


def sample(subject: Subject, ask: Ask) -> dict[str, Any]:
    return shown(subject, subject.sample(whole(ask, "n")))


def picture(subject: Subject, ask: Ask) -> dict[str, Any]:
    return shown(subject, subject.picture(text(ask, "image")))


def maps(subject: Subject, one: Shown, layers: list[str] | None) -> Packed:
    """Pixels, and the maps of some layers (None: of all), as the engine made them."""
    found = subject.maps(one)
    names = list(found) if layers is None else layers
    for name in names:
        if name not in found:
            subject.net.node(name)
    return shown(subject, one), {"pixels:": one.pixels} | {name: found[name] for name in names}


def maps_of(subject: Subject, ask: Ask) -> Packed:
    layers = ask.get("layers")
    return maps(subject, subject.picture(text(ask, "image")), None if layers is None else layers.split(","))


def pixels_of(subject: Subject, ask: Ask) -> Packed:
    one = subject.sample(whole(ask, "n"))
    return shown(subject, one), {"pixels:": one.pixels}


def larger(subject: Subject, ask: Ask) -> Packed:
    """The picture before it was made to fit the net."""
    one = subject.picture(text(ask, "image"))
    return {}, {"pixels:": one.larger}


def weights(subject: Subject, ask: Ask) -> Packed:
    node = subject.net.node(text(ask, "layer"))
    roles = [role for role in ("bias", "running_mean", "running_var") if role in node.params]
    found = {"weight": filters_of(subject.net, node)} if "weight" in node.params else {}
    found |= {role: subject.net.tensors[node.params[role]] for role in roles}
    return {}, {role: np.asarray(tensor, np.float32) for role, tensor in found.items()}


def field(subject: Subject, ask: Ask) -> Packed:
    unit = whole(ask, "c"), whole(ask, "y"), whole(ask, "x")
    found = explain.receptive_field(
        subject.net, np.zeros(subject.net.graph.input_shape, np.float32), text(ask, "layer"), unit[1], unit[2], unit[0]
    )
    return {"box": found.box, "span": found.span, "padding": found.padding}, {"mask": found.mask}


def effective(subject: Subject, ask: Ask) -> Packed:
    one = subject.picture(text(ask, "image"))
    unit = whole(ask, "c"), whole(ask, "y"), whole(ask, "x")
    return {}, {"heat": explain.effective_field(subject.net, one.x, text(ask, "layer"), *unit)}


def evidence(subject: Subject, ask: Ask) -> Packed:
    """Heat over the image."""
    one = subject.picture(text(ask, "image"))
    label = whole(ask, "label") if ask.get("label") else None
    found = explain.evidence(subject.net, one.x, label, ask.get("method") or None)
    head = {"method": found.method, "label": found.label, "layer": found.layer, "patch": found.patch}
    return head, {"heat": found.heat}


def mattered(subject: Subject, ask: Ask) -> dict[str, Any]:
    one = subject.picture(text(ask, "image"))
    label = whole(ask, "label") if ask.get("label") else None
    found = explain.channels_that_mattered(subject.net, one.x, label)
    return {"channels": [{"layer": m.layer, "channel": m.channel, "share": m.share} for m in found]}


def change(subject: Subject, ask: Ask) -> dict[str, Any]:
    """The first covering that changes the answer, of some places from `first` on: all of them take long in a large
    net, and nobody waits for them while they are looked through in parts."""
    one = subject.picture(text(ask, "image"))
    first, every = whole(ask, "first"), len(explain.coverings(*one.x.shape[1:]))
    found = explain.what_changes(subject.net, one.x, first, _COVERED, subject.mirror)[:1]
    looked = min(first + _COVERED, every)
    return {
        "looked": looked,
        "all": every,
        "change": {"top": found[0].top, "left": found[0].left, "patch": found[0].patch, "label": found[0].label}
        if found
        else None,
    }


def exciting(subject: Subject, ask: Ask) -> dict[str, Any]:
    """Of the samples, those that excite one channel most."""
    found = subject.peaks(text(ask, "layer")).exciting(whole(ask, "c"), top=6)
    seen = subject.looked_through()
    return {
        "samples": len(seen),
        "found": [
            {"sample": f.image, "image": seen[f.image].id, "value": f.value, "y": f.oh, "x": f.ow, "box": f.box}
            for f in found
        ],
    }


def alike(subject: Subject, ask: Ask) -> dict[str, Any]:
    """Of the pictures that the net was trained on, the patches that look to it most like one of this picture.

    The layer is that of Grad-CAM; the patch is what speaks most for the label there.
    """
    one = subject.picture(text(ask, "image"))
    layer, (y, x) = explain.strongest_place(subject.net, one.x, whole(ask, "label") if ask.get("label") else None)
    here = explain.receptive_field(subject.net, one.x, layer, y, x).box
    lessons = subject.lessons
    found = explain.alike(subject.net, one.x, [lesson.x for lesson in lessons], layer, (y, x), top=6)
    return {
        "layer": layer, "y": y, "x": x, "box": here, "looked": len(lessons),
        "found": [
            {"image": lessons[f.image].id, "truth": lessons[f.image].truth, "similarity": f.similarity, "y": f.oh,
             "x": f.ow, "box": f.box}
            for f in found
        ],
    }  # fmt: skip


def health(subject: Subject, ask: Ask) -> dict[str, Any]:
    seen = subject.looked_through() or [subject.sample(0)]
    found = explain.filter_health(subject.net, [one.x for one in seen], text(ask, "layer"))
    return {
        "dead": [one for one in found.dead if one not in found.still], "still": found.still,
        "duplicates": found.duplicates, "saturated": found.saturated, "images": found.images,
        "rectified": found.rectified,
    }  # fmt: skip


def costs(subject: Subject, ask: Ask) -> list[dict[str, Any]]:
    found = explain.costs(subject.net, subject.picture(text(ask, "image")).x, repeats=3)
    return [{"layer": c.layer, "macs": c.macs, "memory": c.memory, "seconds": c.seconds} for c in found]


def play(subject: Subject, wanted: Mapping[str, Any]) -> Packed:
    """A convolution with the visitor's own filters, on numbers given or on a picture."""
    if "numbers" in wanted:
        x = _array(wanted["numbers"], 3, "numbers")
    else:
        one = subject.picture(str(wanted.get("image")))
        x = np.ascontiguousarray(one.larger.transpose(2, 0, 1), np.float32) / np.float32(255)
    filters = _array(wanted.get("filters"), 4, "filters")
    if filters.shape[1] == 1 < x.shape[0]:
        filters = filters.repeat(x.shape[0], axis=1) / np.float32(x.shape[0])
    settings = {name: _setting(wanted, name, default) for name, default in _SETTINGS.items()}
    bias = None if wanted.get("bias") is None else _array(wanted["bias"], 1, "bias").tolist()
    found = explain.convolved(x, filters, bias, flip=bool(wanted.get("flip")), **settings)
    head = {"formula": found.formula, "unread": found.unread}
    return head, {"input": x, "maps": found.maps, "filters": found.filters}


def learning(subject: Subject, ask: Ask) -> Packed:
    """A 3x3 filter learning an edge from one picture."""
    one = subject.picture(text(ask, "image"))
    grey = one.pixels.mean(axis=2, dtype=np.float32)
    edge = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)
    found = explain.learn_filter(grey, edge)
    return {"steps": found.steps, "losses": found.losses}, {"filters": found.filters, "target": edge}


QUESTIONS: Final[Mapping[str, Callable[[Subject, Any], Any]]] = {
    "net": net,
    "sample": sample,
    "picture": picture,
    "pixels": pixels_of,
    "larger": larger,
    "maps": maps_of,
    "weights": weights,
    "field": field,
    "effective": effective,
    "evidence": evidence,
    "mattered": mattered,
    "change": change,
    "exciting": exciting,
    "alike": alike,
    "health": health,
    "costs": costs,
    "learning": learning,
}

_SETTINGS: Final = {"stride": 1, "padding": 0, "dilation": 1}


def text(ask: Ask, name: str) -> str:
    if not ask.get(name):
        raise InputError(f"The question lacks {name!r}.")
    return ask[name]


def whole(ask: Ask, name: str) -> int:
    value = text(ask, name)
    if not value.isdigit() or len(value) > 9:
        raise InputError(f"{name} is {value!r}; a whole number is wanted.")
    return int(value)


def _setting(wanted: Mapping[str, Any], name: str, default: int) -> int:
    value = wanted.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 64:
        raise InputError(f"{name} is {value!r}; a whole number from 0 to 64 is wanted.")
    return value


def _array(value: Any, dimensions: int, name: str) -> NDArray[np.float32]:
    try:
        found = np.array(value, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: numbers in rows of equal length are wanted.") from error
    limit = (_MOST_FILTERS, 4096, _MOST_SIDE, _MOST_SIDE) if dimensions == 4 else (4096, 512, 512)[:dimensions]
    if found.ndim != dimensions or found.size == 0 or any(a > b for a, b in zip(found.shape, limit, strict=True)):
        raise InputError(f"{name}: shape {found.shape}; {dimensions} dimensions of at most {limit} are wanted.")
    if not np.isfinite(found).all():
        raise InputError(f"{name}: only finite numbers can be used.")
    return found
