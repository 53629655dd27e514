"""From a subject to a page in the browser."""

import socket
import webbrowser
from collections.abc import Callable

import uvicorn

from hapgop.errors import InputError
from hapgop.studio.look.app import application
from hapgop.studio.look.subject import Subject

HOST = "127.0.0.1"
PORT = 7007
_TRIES = 20


def free_socket(port: int | None) -> socket.socket:
    """A listening place on this machine: `port`, or, where None, the first free one from 7007 on.

    Raises InputError where the port is taken.
    """
    wanted = range(PORT, PORT + _TRIES) if port is None else (port,)
    for number in wanted:
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((HOST, number))
        except OSError:
            one.close()
            continue
        return one
    if port is None:
        raise InputError(f"The ports {PORT} to {PORT + _TRIES - 1} are all taken. --port 0 takes any free one.")
    raise InputError(
        f"Port {port} is taken or not allowed; perhaps another page is open there. "
        "Without --port a free one is found; --port 0 takes any."
    )


def serve(subject: Subject, place: socket.socket, ready: Callable[[str], None], path: str = "/") -> None:
    """Answers until Ctrl-C. `ready` is called with the page's address once it can be opened."""
    # The first visitor does not wait for kernels to be made.
    subject.answer(subject.sample(0))

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready(f"http://{HOST}:{place.getsockname()[1]}{path}")

    config = uvicorn.Config(application(subject), log_level="warning", access_log=False, lifespan="off", ws="none")
    Server(config).run(sockets=[place])


def show(subject: Subject, port: int | None = None) -> None:
    """The page, from Python: says its address, opens it in the browser, and answers until Ctrl-C."""

    def ready(address: str) -> None:
        print(f"The page is at {address} (Ctrl-C ends it).")
        webbrowser.open(address)

    serve(subject, free_socket(port), ready)
