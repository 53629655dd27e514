"""How the page says numbers and names, and the frame of a section."""

import json
from dataclasses import dataclass
from typing import Any

from hapgop.studio.markup import Html


@dataclass(frozen=True)
class Section:
    """A part of the page: where links to it lead, what they are called, and the question that it answers."""

    anchor: str
    name: str
    question: str
    body: Html


def percent(share: float, n: int | None = None) -> str:
    """A share as per cent, with as many digits as n cases can tell apart.

    >>> percent(0.98333, 360), percent(0.98, 50), percent(1.0), percent(0.99996)
    ('98.3 %', '98 %', '100 %', '99.9 %')
    >>> percent(0.97), percent(0.0001, 400), percent(0.9, 30_000)
    ('97.0 %', '0.1 %', '90.00 %')
    """
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    digits = 1 if n is None else 0 if n < 100 else 1 if n < 20_000 else 2
    least = 10.0**-digits
    # Not quite all is not all, and hardly any is not none.
    return f"{min(max(100 * share, least), 100 - least):.{digits}f} %"


def count(number: int) -> str:
    """A whole number with its thousands apart.

    >>> count(61706)
    '61,706'
    """
    return f"{number:,}"


def several(number: int, one: str, many: str = "") -> str:
    """A whole number and what it counts, which is `one`, or else `many` ("...s", where that is not given).

    >>> several(1, "filter"), several(1200, "filter"), several(2, "class", "classes")
    ('1 filter', '1,200 filters', '2 classes')
    """
    return f"{count(number)} {one if number == 1 else many or f'{one}s'}"


def large(number: int) -> str:
    """A large number, short.

    >>> large(416520), large(1_814_073_344), large(840), large(999_700)
    ('417 k', '1.81 G', '840', '1 M')
    """
    for size, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        # From here on, three figures round up to the unit.
        if 10_000 * number >= 9_995 * size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def said(value: Any) -> str:
    """A setting in words; what is nested is written as JSON."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple) and all(isinstance(item, int | float | str) for item in value):
        return ", ".join(said(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
