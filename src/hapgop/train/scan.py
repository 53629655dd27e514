"""What is wrong with a data set, before any time is spent on it: one row for each kind of trouble."""

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
          "I": "deep grey", "I;16": "deep grey", "I;16B": "deep grey", "F": "floating-point grey"}  # fmt: skip


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
    kinds = sorted(data.modes.items(), key=lambda item: -item[1])
    usual = "grey" if data.input_shape[0] == 1 else "colour"
    others = [(mode, count) for mode, count in kinds if _MODES.get(mode, mode) != usual]
    stray = [words for words in data.passed_over if not words.startswith("Skipped")]
    return [
        Finding("unreadable files", len(unreadable), _some(unreadable), "skipped"),
        *(Finding("passed over", 1, words, "not used") for words in stray),
        Finding(
            "other channels",
            sum(count for _, count in others),
            ", ".join(f"{count:,} {_MODES.get(mode, mode)}" for mode, count in others),
            f"made {usual}",
        ),
    ]


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

    contrary = [pair for pair in pairs if pair.contrary]
    rest = [pair for pair in pairs if not pair.contrary]
    flatters = "the accuracy measured flatters"
    return [
        row("the same image in two classes", contrary, "one label is wrong"),
        row("the same image in two splits", [pair for pair in rest if pair.across and pair.exact], flatters),
        row("nearly the same image in two splits", [pair for pair in rest if pair.across and not pair.exact], flatters),
        row("the same image twice in a split", [pair for pair in rest if not pair.across], "counts twice"),
    ]


def _said(pair: Pair, data: Data) -> str:
    def one(number: int) -> str:
        in_class = f" ({data.classes[pair.labels[number]]})" if pair.contrary else ""
        return f"{pair.names[number]}{in_class}"

    return f"{one(0)} = {one(1)}"


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - _NAMED:,} more" if len(words) > _NAMED else ""
    return ", ".join(words[:_NAMED]) + more
