"""`hapgop evaluate RUN DATA`"""

from pathlib import Path
from typing import Annotated

import typer

from hapgop import train
from hapgop.cli import console, training
from hapgop.cli.bars import Bar
from hapgop.cli.computing import briefly, use_precision
from hapgop.cli.options import PrecisionOption, ThreadsOption
from hapgop.predict import Predictor


def command(
    run: Annotated[
        Path, typer.Argument(metavar="RUN|FILE.onnx", help="The folder of a trained net, or what was exported of it.")
    ],
    source: Annotated[str, typer.Argument(metavar="DATA", help="Labelled pictures: those of its training, or new.")],
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="train, validation, test or all; test otherwise, or all of new pictures that have no test/.",
        ),
    ] = None,
    threads: ThreadsOption = None,
    precision: PrecisionOption = None,
    json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    """Measure how often a trained net is right, and how surely that is known.

    Of the pictures that it was trained on, those that were held back judge it; of new ones, which may be of some of its
    classes only, all do, or their test/.
    """
    training.use_threads(threads)
    use_precision(precision)
    briefly()
    predictor = Predictor(run)
    with Bar() as bar:
        data = train.load_for(predictor, source, progress=bar.training)
    training.notes(data)
    with Bar() as bar:
        evaluation = train.evaluate(predictor, data, split, progress=lambda done, n: bar.count("judging", done, n))
    correct, total, low, high = evaluation.per_class
    columns = zip(evaluation.classes, correct.tolist(), total.tolist(), low.tolist(), high.tolist(), strict=True)
    if json:
        console.write_json(
            {
                "run": str(run),
                "data": source,
                "split": evaluation.split,
                "images": len(evaluation.labels),
                "correct": evaluation.correct,
                "accuracy": evaluation.accuracy,
                "interval": list(evaluation.interval),
                "classes": [
                    {"name": name, "correct": c, "images": n, "interval": [a, b]} for name, c, n, a, b in columns
                ],
                "confusion": evaluation.confusion.tolist(),
            }
        )
        return
    rows = [[name, f"{c} of {n}", f"{c / n:.1%}" if n else "", f"{a:.1%} to {b:.1%}"] for name, c, n, a, b in columns]
    console.show(console.table(["class", "right", "share", "95 % interval"], rows, right=["right", "share"]))
    n, part = len(evaluation.labels), "all of them" if evaluation.split == "all" else f"the {evaluation.split} split"
    console.write(f"Judged by {n:,} image{'' if n == 1 else 's'} of {data.source}: {part}.")
    console.write(training.accuracy(evaluation))
    for position in evaluation.mistakes(5).tolist():
        wrong = evaluation.classes[evaluation.predictions[position]]
        sure = evaluation.probabilities[position].max()
        truth = evaluation.classes[evaluation.labels[position]]
        console.write(f"wrong: {evaluation.names[position]} is {truth}, was called {wrong} ({sure:.1%} sure)")
