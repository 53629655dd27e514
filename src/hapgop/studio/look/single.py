"""One file that still answers hovering: the page, its numbers and its pictures, with no server behind it."""

import base64
import json
import re
import zlib
from collections.abc import Mapping
from contextlib import suppress
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hapgop.errors import InputError
from hapgop.studio.look import answers
from hapgop.studio.look.fitting import everything, fitting
from hapgop.studio.look.packing import packed
from hapgop.studio.look.subject import Shown, Subject

MOST_BYTES = 4_500_000
_METHODS = ("occlusion", "gradcam", "integrated")


def single_file(subject: Subject, shown: Shown) -> bytes:
    """HTML about one picture. Of a net that does not fit into some 4.5 MB, whole windows are kept: those of the first
    convolution, of the last layers, and of others, each for the channels that vary most."""
    static = resources.files(__package__) / "static"
    modules = {
        entry.name: re.sub(r'from "\./', 'from "look/', entry.read_text(encoding="utf-8"))
        for entry in static.iterdir()
        if entry.name.endswith(".js")
    }
    imports = {
        f"look/{name}": "data:text/javascript;base64," + base64.b64encode(code.encode()).decode()
        for name, code in modules.items()
    }
    data = _script(json.dumps(_data(subject, shown), allow_nan=False))
    page = (static / "index.html").read_text(encoding="utf-8")
    page = page.replace(
        '<link rel="stylesheet" href="/static/look.css">',
        f"<style>{(static / 'look.css').read_text(encoding='utf-8')}</style>",
    )
    scripts = (
        f'<script type="application/json" id="data">{data}</script>\n'
        f'<script type="importmap">{_script(json.dumps({"imports": imports}))}</script>\n'
        '<script type="module">import "look/main.js";</script>'
    )
    return page.replace('<script type="module" src="/static/main.js"></script>', scripts).encode()


def _data(subject: Subject, shown: Shown) -> dict[str, str]:
    """Answers by their question, compressed, in base64; of maps and weights as much as there is room for."""
    # Of the label that is shown, which need not be the picture's own where its mirror image has a say.
    ask = {"image": shown.id, "label": str(int(np.argmax(subject.answer(shown))))}
    found: dict[str, str] = {}

    def keep(question: str, value: Any) -> None:
        data = packed(*value) if isinstance(value, tuple) else json.dumps(value, allow_nan=False).encode()
        kind = "b" if isinstance(value, tuple) else "j"
        found[question] = kind + base64.b64encode(zlib.compress(data, 9)).decode()

    keep("sample", answers.shown(subject, shown))
    liked: dict[str, list[int]] = {}
    # Not every net has a map of which Grad-CAM could speak; the page then says so.
    with suppress(InputError):
        mattered = answers.mattered(subject, ask)
        keep("mattered", mattered)
        for one in mattered["channels"]:
            liked.setdefault(one["layer"], []).append(one["channel"])
    for method in _METHODS:
        with suppress(InputError):
            keep(f"evidence {method}", answers.evidence(subject, ask | {"method": method}))
    keep("change", _change(subject, ask))
    facts = answers.net(subject, {})
    facts["samples"] = []
    keep("maps " + facts["input"], answers.maps(subject, shown, [facts["input"]]))

    net, maps = subject.net, subject.maps(shown)
    weighted = [name for name in net.layers if net.nodes[name].weighted]
    liked[net.graph.output] = np.argsort(-maps[net.graph.output].ravel(), kind="stable").tolist()
    first = list(dict.fromkeys([*weighted[:1], *liked, *weighted[-1:]]))
    room = MOST_BYTES - sum(map(len, found.values())) - len(json.dumps(facts)) // 3
    kept = fitting(net, maps, room, [name for name in first if name in net.layers], liked)
    for name, channels in kept.maps.items():
        keep(f"maps {name}", _some(channels, len(maps[name]), {name: maps[name]}))
    for name, channels in kept.weights.items():
        keep(f"weights {name}", _some(channels, net.sizes[name][0], answers.weights(subject, {"layer": name})[1]))
    for name in kept.windows:
        if net.nodes[name].op == "batch_norm2d":
            keep(f"weights {name}", answers.weights(subject, {"layer": name}))
    if kept != everything(net):
        facts["windows"] = kept.windows
    keep("net", facts)
    return found


def _some(channels: list[int], count: int, arrays: Mapping[str, NDArray[Any]]) -> answers.Packed:
    """Some channels, or rows, of arrays that have `count` of them, and which they are."""
    if len(channels) == count:
        return {}, dict(arrays)
    return {"channels": channels, "count": count}, {name: array[channels] for name, array in arrays.items()}


def _change(subject: Subject, ask: dict[str, str]) -> dict[str, Any]:
    """The answer to the last of the questions by which the page looks for it."""
    found: dict[str, Any] = {"looked": 0, "all": 1, "change": None}
    while found["change"] is None and found["looked"] < found["all"]:
        found = answers.change(subject, ask | {"first": str(found["looked"])})
    return found


def _script(text: str) -> str:
    """So that no name of a class or a file ends the script early."""
    return text.replace("<", "\\u003c")
