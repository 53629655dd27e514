"""`hapgop look RUN|FILE.onnx [IMAGE]`"""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from hapgop.cli import console, looking
from hapgop.cli.opening import opened_net
from hapgop.cli.options import BrowserOption, ClassesOption, MeanOption, NetArgument, PortOption, StdOption
from hapgop.errors import InputError
from hapgop.files import write_whole
from hapgop.studio.look import Sample, Subject, serve, single_file
from hapgop.web import free_socket


def command(
    run: NetArgument,
    image: Annotated[Path | None, typer.Argument(metavar="IMAGE", help="A picture to begin with.")] = None,
    port: PortOption = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the page about one picture into FILE, and serve nothing.")
    ] = None,
    mean: MeanOption = None,
    std: StdOption = None,
    classes: ClassesOption = None,
    browser: BrowserOption = True,
) -> None:
    """Look inside a trained net, in the browser: why this label, and every number behind it.

    The page is served to this machine alone, until Ctrl-C. Other pictures can be dropped on it.
    """
    predictor = opened_net(run, mean, std, classes)
    samples = looking.samples(predictor)
    if image is not None:
        samples = [Sample(image.name, looking.checked(image)), *samples]
    subject = Subject.of(run.resolve().name, predictor, samples, lambda: looking.lessons(predictor))
    if html is not None:
        try:
            page = single_file(subject, subject.sample(0))
            write_whole(html, page)
        except OSError as error:
            raise InputError(f"{html}: cannot be written ({error.strerror}).") from error
        console.write(f"Wrote {html} ({len(page) / 1e6:.1f} MB). It needs no server.")
        return
    serve(subject, free_socket(port), lambda address: opened(address, browser))


def opened(address: str, browser: bool) -> None:
    """Says where the page is, and opens it where that is wanted."""
    console.write(f"The page is at {address} (Ctrl-C ends it).")
    if browser:
        webbrowser.open(address)
