"""One file that still answers hovering: the page, its numbers and its pictures, with no server behind it."""

import base64
import json
import re
from contextlib import suppress
from importlib import resources
from typing import Any

from hapgop.errors import InputError
from hapgop.studio.look import answers
from hapgop.studio.look.packing import packed
from hapgop.studio.look.subject import Shown, Subject

MOST_BYTES = 4_500_000
_METHODS = ("occlusion", "gradcam", "integrated")


def single_file(subject: Subject, shown: Shown) -> bytes:
    """HTML about one picture. What does not fit into some 4.5 MB is left out, the largest layers first."""
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
    """Answers by their question, in base64, until the room is used up."""
    ask = {"image": shown.id}
    found: dict[str, str] = {}
    room = MOST_BYTES

    def keep(question: str, value: Any) -> None:
        nonlocal room
        data = packed(*value) if isinstance(value, tuple) else json.dumps(value, allow_nan=False).encode()
        kind = "b" if isinstance(value, tuple) else "j"
        coded = kind + base64.b64encode(data).decode()
        if len(coded) <= room:
            found[question] = coded
            room -= len(coded)

    facts = answers.net(subject, {})
    facts["samples"] = []
    keep("net", facts)
    keep("sample", answers.shown(subject, shown))
    # Not every net has a map of which Grad-CAM could speak; the page then says so.
    with suppress(InputError):
        keep("mattered", answers.mattered(subject, ask))
    for method in _METHODS:
        with suppress(InputError):
            keep(f"evidence {method}", answers.evidence(subject, ask | {"method": method}))
    keep("maps " + facts["input"], answers.maps(subject, shown, [facts["input"]]))
    by_size = sorted(subject.net.layers, key=lambda name: subject.maps(shown)[name].size)
    for name in by_size:
        keep(f"maps {name}", answers.maps(subject, shown, [name]))
    for name in by_size:
        if subject.net.nodes[name].op in ("conv2d", "pointwise", "linear"):
            keep(f"weights {name}", answers.weights(subject, {"layer": name}))
    return found


def _script(text: str) -> str:
    """So that no name of a class or a file ends the script early."""
    return text.replace("<", "\\u003c")
