"""HTML from templates, in which everything is escaped unless it is HTML already."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from html import escape
from importlib import resources
from string import Template


class Html(str):
    """Text that is markup already. Only templates and the makers of pictures make it."""

    __slots__ = ()


def fill(template: str, /, **values: object) -> Html:
    """The template with its `$names` replaced; a value that is no `Html` is escaped, quotes too.

    >>> fill('<td title="$hint">$name</td>', hint='"', name="<b>")
    '<td title="&quot;">&lt;b&gt;</td>'
    """
    return Html(Template(template).substitute({name: _safe(value) for name, value in values.items()}))


def part(name: str, /, **values: object) -> Html:
    """The piece of that name in parts.html, filled."""
    return fill(parts()[name], **values)


def join(pieces: Iterable[Html], between: str = "\n") -> Html:
    """One piece of HTML from many."""
    return Html(between.join(pieces))


def stored(name: str) -> Html:
    """A file of this package, as it is."""
    return Html(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))


@cache
def parts() -> Mapping[str, str]:
    """Every piece of parts.html by its name."""
    _preface, *pieces = re.split(r"^<!-- ([a-z ]+) -->\n", stored("parts.html"), flags=re.MULTILINE)
    return {name: piece.strip() for name, piece in zip(pieces[::2], pieces[1::2], strict=True)}


def _safe(value: object) -> str:
    return value if isinstance(value, Html) else escape(str(value), quote=True)
