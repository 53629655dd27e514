"""What is wrong with a data set, before any time is spent on it: one row for each kind of trouble."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hapgop.train.data import Data
from hapgop.train.duplicates import Pair, duplicates

# A class with fewer training images is hardly learnt.
_FEW_IMAGES = 20
_UNBALANCED = 10
_NAMED = 3
_MODES = {"L": "grey", "RGB": "colour", "RGBA": "colour with transparency", "P": "palette", "CMYK": "print colours",
          "1": "black and white", "LA": "grey with transparency", "PA": "palette with transparency",
          "F": "floating-point grey"}  # fmt: skip
_WHITE = 65_535


@dataclass(frozen=True)
class Finding:
    """One kind of trouble: what, how often, examples or details, and what is done about it."""

    what: str
    count: int
    examples: str
    done: str


def scan(data: Data) -> list[Finding]:
    """All findings on a data set, none where all is well; nothing is changed.

    >>> from hapgop.train import load
    >>> [finding.what for finding in scan(load("digits"))]
    []
    """
    found = [*_files(data), *_classes(data), *_pairs(data, duplicates(data))]
    return [finding for finding in found if finding.count]


def _files(data: Data) -> list[Finding]:
    unreadable = [f"{skipped.path} ({skipped.reason.rstrip('.')})" for skipped in data.skipped]
    stray = [words for words in data.passed_over if not words.startswith("Skipped")]
    usual = "grey" if data.input_shape[0] == 1 else "colour"
    others = Counter[str]()
    for mode, count in data.modes.items():
        others[_kind(mode)] += count
    del others[usual]
    return [
        Finding("unreadable files", len(unreadable), _some(unreadable), "skipped"),
        *(Finding("passed over", 1, words, "not used") for words in stray),
        Finding(
            "other channels",
            others.total(),
            ", ".join(f"{count:,} {kind}" for kind, count in others.most_common()),
            f"made {usual}",
        ),
        *_dark(data),
    ]


def _dark(data: Data) -> list[Finding]:
    """Deep grey that looks as if another white was meant: each file alone cannot tell, all together may."""
    found = [(int(mode[2:]), count) for mode, count in data.modes.items() if mode[:2] == "I;" and mode[2:].isdigit()]
    return [
        Finding(
            f"deep grey using only {bits} of 16 bits",
            count,
            f"hardly a value is above {2**bits - 1:,}, and white is {_WHITE:,}: times {2 ** (16 - bits)}, all is used",
            "read as nearly black",
        )
        for bits, count in found
        if bits < 16
    ]


def _kind(mode: str) -> str:
    return "deep grey" if mode.startswith("I") else _MODES.get(mode, mode)


def _classes(data: Data) -> list[Finding]:
    counts = np.bincount(data.train.labels, minlength=len(data.classes))
    few = [f"{data.classes[label]} ({counts[label]})" for label in np.argsort(counts) if counts[label] < _FEW_IMAGES]
    least, most = int(counts.argmin()), int(counts.argmax())
    unbalanced = counts[most] >= _UNBALANCED * counts[least]
    words = f"{data.classes[most]} has {counts[most]:,} to train on, {data.classes[least]} {counts[least]:,}"
    return [
        Finding(f"classes with fewer than {_FEW_IMAGES} images", len(few), _some(few), "more images would help"),
        Finding("unbalanced classes", int(unbalanced), words, "weighted (balance)"),
    ]


def _pairs(data: Data, pairs: Sequence[Pair]) -> list[Finding]:
    def row(what: str, chosen: list[Pair], done: str) -> Finding:
        return Finding(what, len(chosen), _some([_said(pair, data) for pair in chosen]), done)

    def rows(where: str, chosen: list[Pair], done: str, nearly: str) -> list[Finding]:
        return [
            row(f"the same image {where}", [pair for pair in chosen if pair.exact], done),
            row(f"nearly the same image {where}", [pair for pair in chosen if not pair.exact], nearly),
        ]

    rest = [pair for pair in pairs if not pair.contrary]
    flatters = "the accuracy measured flatters"
    # Images that only look alike may well differ in what they show.
    wrong = "one label is wrong", "look whether one label is wrong"
    return [
        *rows("in two classes", [pair for pair in pairs if pair.contrary], *wrong),
        *rows("in two splits", [pair for pair in rest if pair.across], flatters, flatters),
        *rows("twice in a split", [pair for pair in rest if not pair.across], "counts twice", "counts nearly twice"),
    ]


def _said(pair: Pair, data: Data) -> str:
    def one(number: int) -> str:
        in_class = f" ({data.classes[pair.labels[number]]})" if pair.contrary else ""
        return f"{pair.names[number]}{in_class}"

    return f"{one(0)} = {one(1)}"


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - _NAMED:,} more" if len(words) > _NAMED else ""
    return ", ".join(words[:_NAMED]) + more
