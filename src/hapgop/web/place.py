"""Where a server listens, and for how long."""

import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import uvicorn

from hapgop.errors import InputError

HOST = "127.0.0.1"
PORT = 7007
_TRIES = 20


def free_socket(port: int | None, host: str = HOST) -> socket.socket:
    """A place that is listened on: `port`, or, where None, the first free one from 7007 on; host: who can reach it.

    From now on it is nobody else's, and who asks there waits until a server answers. Raises InputError where the port
    is taken, or the host is none of this machine's.
    """
    wanted = range(PORT, PORT + _TRIES) if port is None else (port,)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in wanted:
        one = socket.socket(family, socket.SOCK_STREAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((host, number))
            one.listen()  # a port that is bound alone, two processes can have
        except OSError as error:
            one.close()
            if host != HOST and not _is_here(host, family):
                raise InputError(f"{host!r} is no address of this machine ({error.strerror or error}).") from error
            continue
        return one
    if port is None:
        raise InputError(f"The ports {PORT} to {PORT + _TRIES - 1} are all taken. --port 0 takes any free one.")
    raise InputError(
        f"Port {port} is taken or not allowed; perhaps another page is open there. "
        "Without --port a free one is found; --port 0 takes any."
    )


def address(place: socket.socket, path: str = "/") -> str:
    """What a browser on this machine opens."""
    host, port = place.getsockname()[:2]
    host = {"0.0.0.0": HOST, "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"


def is_local(place: socket.socket) -> bool:
    """Whether only this machine can reach it: every address that begins with 127, and ::1."""
    return ip_address(place.getsockname()[0]).is_loopback


def settings(app: Any) -> uvicorn.Config:
    """How every server here is run: what it answers is its own affair, and it says nothing on the way."""
    return uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", ws="none", interface="asgi3")


def serve_until_stopped(app: Any, place: socket.socket, ready: Callable[[], None]) -> None:
    """Answers until Ctrl-C; `ready` is called once it does."""

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    Server(settings(app)).run(sockets=[place])


def _is_here(host: str, family: int) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as one:
        try:
            one.bind((host, 0))
        except OSError:
            return False
    return True
