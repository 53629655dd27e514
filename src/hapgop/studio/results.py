"""The sections about the answer: accuracy, mistakes, confusions, classes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hapgop.studio.markup import Html, fill, join, part
from hapgop.studio.pictures import heat, png, rendering
from hapgop.studio.words import Section, count, percent, several

if TYPE_CHECKING:  # a page needs no PyTorch
    from hapgop.train import Evaluation

MISTAKES = 24
# A table of numbers up to this many classes, a picture of them beyond.
READABLE = 20
# A wider table has the list of confusions below it, not beside it.
BESIDE = 14
CONFUSIONS = 10
LOWEST = 40
# What the images of a split are called, and what may be asked about them.
UNSEEN = "How often is it right about images that it has not seen?"
SPLITS = {
    "test": (UNSEEN, "test image", "test images"),
    "validation": (UNSEEN, "validation image", "validation images"),
    "train": ("How often is it right about the images that it has learnt from?", "training image", "training images"),
    "all": ("How often is it right?", "image, seen or unseen", "images, seen and unseen"),
}


def answer(evaluation: "Evaluation") -> Section:
    """How often it is right: the figure, its interval, and what that is to be compared with."""
    correct, total, _, _ = (np.asarray(column) for column in evaluation.per_class)
    n, right = int(total.sum()), int(correct.sum())
    low, high = evaluation.interval
    most = int(np.argmax(total))
    question, *images = SPLITS[evaluation.split]
    floor = int(total[most]) / n
    body = part(
        "answer",
        accuracy=percent(evaluation.accuracy, n),
        images=several(n, *images),
        right=count(right),
        wrong=count(n - right),
        low=percent(low, n),
        high=percent(high, n),
        most=evaluation.classes[most],
        floor=percent(floor, n),
        floor_at=f"{100 * floor:.2f}",
        **_places(evaluation.accuracy, low, high),
    )
    return Section("answer", "Answer", question, body)


def mistakes(evaluation: "Evaluation") -> Section:
    """The wrong answers with the highest losses, the highest first."""
    worst = [int(index) for index in evaluation.top_losses(MISTAKES)]
    cards = join(_mistake(evaluation, index) for index in worst)
    body = part("mistakes", cards=cards) if worst else part("no mistake")
    return Section("mistakes", "Mistakes", "Where is it most sure, and wrong?", body)


def _mistake(evaluation: "Evaluation", index: int) -> Html:
    probabilities = evaluation.probabilities[index]
    pixels = np.asarray(evaluation.images(index))
    return part(
        "mistake",
        kind=rendering(pixels),
        uri=png(pixels),
        given=evaluation.classes[int(evaluation.labels[index])],
        called=evaluation.classes[int(np.argmax(probabilities))],
        sure=percent(float(np.max(probabilities))),
        own=percent(float(probabilities[int(evaluation.labels[index])])),
        name=evaluation.names[index],
    )


def confusion(evaluation: "Evaluation") -> Section:
    """Which class is taken for which: the matrix, and its largest mistakes in words."""
    matrix = np.asarray(evaluation.confusion)
    k = len(matrix)
    body = part(
        "confusion",
        frame="above" if BESIDE < k <= READABLE else "beside",
        matrix=_table(evaluation.classes, matrix) if k <= READABLE else _picture(evaluation.classes, matrix),
        pairs=_pairs(evaluation.classes, matrix),
    )
    return Section("confusion", "Confusions", "Which classes does it confuse?", body)


def _strengths(matrix: NDArray[Any]) -> NDArray[np.float64]:
    """The share of its row, by its root: a single stray image is to be seen beside forty right ones."""
    shares: NDArray[np.float64] = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    return np.sqrt(shares)


def _table(classes: Sequence[str], matrix: NDArray[Any]) -> Html:
    strengths = _strengths(matrix)
    rows = []
    for row, name in enumerate(classes):
        cells = (
            fill(
                '<td class="$kind" style="--v:$strength">$number</td>',
                kind="hit" if row == column else "miss",
                strength=f"{strengths[row, column]:.3f}",
                number=matrix[row, column] or "",
            )
            for column in range(len(classes))
        )
        rows.append(fill('<tr><th scope="row">$name</th>$cells</tr>', name=name, cells=join(cells, "")))
    heads = join((fill('<th scope="col"><span>$name</span></th>', name=name) for name in classes), "")
    heads_are = "tall" if max(map(len, classes)) > 3 else "flat"
    return part("matrix", heads_are=heads_are, heads=heads, rows=join(rows))


def _picture(classes: Sequence[str], matrix: NDArray[Any]) -> Html:
    strengths = _strengths(matrix)
    signs = np.where(np.eye(len(matrix), dtype=bool), -1, 1)
    return part("heat", uri=heat(signs * strengths), k=len(classes), first=classes[0], last=classes[-1])


def _pairs(classes: Sequence[str], matrix: NDArray[Any]) -> Html:
    totals = matrix.sum(axis=1)
    wrong = np.where(np.eye(len(matrix), dtype=bool), 0, matrix)
    largest = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    pairs = (divmod(int(flat), len(matrix)) for flat in largest)
    found = [
        part("pair", given=classes[row], called=classes[column], times=wrong[row, column], total=totals[row])
        for row, column in pairs
        if wrong[row, column]
    ]
    return join(found) if found else fill("<li>None with any other.</li>")


def classes(evaluation: "Evaluation") -> Section:
    """Accuracy class by class with its interval, the lowest first."""
    correct, total, low, high = (np.asarray(column) for column in evaluation.per_class)
    shares = correct / np.maximum(total, 1)
    measured = total > 0
    # The lowest first; what no image tells of stands at the end.
    order = np.lexsort((shares, ~measured))
    fewest = int(total[measured].min()) if measured.any() else None
    rows = [
        part(
            "class",
            name=evaluation.classes[index],
            share=percent(float(shares[index]), fewest) if measured[index] else "no image",
            correct=int(correct[index]),
            total=int(total[index]),
            marks=part("measured", **_places(float(shares[index]), float(low[index]), float(high[index])))
            if measured[index]
            else "",
        )
        for index in order
    ]
    body = part("classes", many="many" if len(rows) > READABLE else "few", lowest=join(rows[:LOWEST]))
    if len(rows) > LOWEST:
        unfolds = several(len(rows) - LOWEST, "other class", "other classes")
        others = part("other classes", unfolds=f"the {unfolds}", others=join(rows[LOWEST:]))
        body = join([body, others])
    return Section("classes", "Classes", "Is it weaker on some class?", body)


def _places(share: float, low: float, high: float) -> dict[str, str]:
    """Where a measured share and its interval lie on a line from 0 to 100 %."""
    return {"at": f"{100 * share:.2f}", "left": f"{100 * low:.2f}", "width": f"{100 * (high - low):.2f}"}
