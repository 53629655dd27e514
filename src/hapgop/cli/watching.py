"""`hapgop train --look`: the page of the training, and then of what was trained."""

import webbrowser
from pathlib import Path
from typing import Any

from hapgop import train
from hapgop.cli import console, looking
from hapgop.predict import Predictor
from hapgop.studio.look import Live, Subject, Watched
from hapgop.web import free_socket


class Page:
    """Serves from the moment that it is made; says its address."""

    def __init__(self, title: str, browser: bool) -> None:
        self._watched = Watched(title)
        self._live = Live(self._watched, free_socket(None))
        console.say(f"The training can be watched at {self._live.address}")
        if browser:
            webbrowser.open(self._live.address)

    def listener(self, progress: train.Progress) -> Any:
        """For `hapgop.cli.training.fitted`: what it tells goes to the page too."""
        self._watched.progress = progress
        return self._watched

    def stay(self, run: Path) -> None:
        """The page of the run, in its place, until Ctrl-C."""
        predictor = Predictor(run)
        samples = looking.samples(predictor)
        self._live.become(Subject.of(run.resolve().name, predictor, samples, lambda: looking.lessons(predictor)))
        console.write(f"The net can be looked into at {self._live.address} (Ctrl-C ends it).")
        self._live.stay()
