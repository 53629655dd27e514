"""From a subject to a page in the browser."""

import socket
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from threading import Thread

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from hapgop.studio.look.app import application, watching
from hapgop.studio.look.subject import Subject
from hapgop.studio.look.watched import Watched
from hapgop.web import address, free_socket, serve_until_stopped, settings


class Live:
    """A page of a training, in a thread of its own, that becomes the page of what was trained.

    Serves until the process ends; Ctrl-C belongs to the training.
    """

    def __init__(self, watched: Watched, place: socket.socket) -> None:
        self.address = address(place)
        self._watched = watched
        self._watching: ASGIApp = watching(watched)
        self._net: ASGIApp | None = None
        self._server = uvicorn.Server(settings(self._answer))
        self._thread = Thread(target=self._server.run, kwargs={"sockets": [place]}, daemon=True)
        self._thread.start()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A page that still watches is told that there is more to see now.
        asked = self._watching if self._net is None or scope.get("path") == "/api/watch" else self._net
        await asked(scope, receive, send)

    def become(self, subject: Subject) -> None:
        """From now on, the page of this net."""
        subject.answer(subject.sample(0))
        self._net = application(subject)
        self._watched.finish()

    def stay(self) -> None:
        """Answers until Ctrl-C."""
        with suppress(KeyboardInterrupt):
            while self._thread.is_alive():
                self._thread.join(1.0)
        self.end()

    def end(self) -> None:
        """Answers no more."""
        self._server.should_exit = True
        self._thread.join()


def serve(subject: Subject, place: socket.socket, ready: Callable[[str], None], path: str = "/") -> None:
    """Answers until Ctrl-C. `ready` is called with the page's address once it can be opened."""
    # The first visitor does not wait for kernels to be made.
    subject.answer(subject.sample(0))

    serve_until_stopped(application(subject), place, lambda: ready(address(place, path)))


def show(subject: Subject, port: int | None = None) -> None:
    """The page, from Python: says its address, opens it in the browser, and answers until Ctrl-C."""

    def ready(address: str) -> None:
        print(f"The page is at {address} (Ctrl-C ends it).")
        webbrowser.open(address)

    serve(subject, free_socket(port), ready)
