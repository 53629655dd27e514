"""`hapgop serve RUN|FILE.onnx`"""

from typing import Annotated

import typer

from hapgop.cli import console
from hapgop.cli.computing import briefly, use_precision
from hapgop.cli.opening import opened_net
from hapgop.cli.options import (
    ClassesOption,
    MeanOption,
    NetArgument,
    PortOption,
    PrecisionOption,
    StdOption,
    ThreadsOption,
)
from hapgop.engine import set_threads
from hapgop.serve import application
from hapgop.web import HOST, address, free_socket, is_local, serve_until_stopped


def command(
    run: NetArgument,
    port: PortOption = None,
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Who is answered: this machine alone; by 0.0.0.0 whoever can reach it."),
    ] = HOST,
    mean: MeanOption = None,
    std: StdOption = None,
    classes: ClassesOption = None,
    threads: ThreadsOption = None,
    precision: PrecisionOption = None,
) -> None:
    """Answer pictures that come in by HTTP with their labels, as JSON; needs no PyTorch.

    Pictures that wait at the same time are computed together. Ctrl-C ends it.
    """
    if threads is not None:
        set_threads(threads)
    use_precision(precision)
    briefly()
    place = free_socket(port, host)
    predictor = opened_net(run, mean, std, classes)
    local = is_local(place)
    app = application(predictor, run.resolve().name, local=local)
    here = address(place, "/predict")

    def ready() -> None:
        if not local:
            console.note(f"whoever can reach {host} is answered, without a password and without encryption.")
        console.write(f"{here} answers (Ctrl-C ends it). Try:\n  curl --data-binary @picture.jpg {here}")

    serve_until_stopped(app, place, ready)
