"""Whom a server answers, how much it takes, and in which words it refuses."""

from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import Any, Final

from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from hapgop.errors import InputError
from hapgop.web.answers import Json
from hapgop.web.uploads import MOST_BYTES


class TooLarge(Exception):
    """An upload over the limit."""


class LocalOnly(BaseHTTPMiddleware):
    """Refuses what a page from elsewhere sends here, by name (DNS rebinding) or by a form.

    policy: what pages from here may load, as a Content-Security-Policy.
    """

    def __init__(self, app: ASGIApp, policy: str | None = None) -> None:
        super().__init__(app)
        self._policy = policy

    async def dispatch(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        origin = request.headers.get("origin")
        hosts = [request.headers.get("host", "")] + ([origin.split("//", 1)[-1]] if origin else [])
        if not all(_is_local(_host(one)) for one in hosts):
            return Json({"error": "Only this machine is answered: open http://127.0.0.1 and the port."}, 403)
        response = await call_next(request)
        if self._policy is not None:
            response.headers["Content-Security-Policy"] = self._policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        return response


async def body(request: Request) -> bytes:
    """All of it, or TooLarge as soon as it is over the limit, whatever Content-Length said."""
    found = bytearray()
    async for chunk in request.stream():
        found += chunk
        if len(found) > MOST_BYTES:
            raise TooLarge
    return bytes(found)


def _host(value: str) -> str:
    """Without the port: "[::1]:8000" is "[::1]"."""
    return value.rsplit(":", 1)[0] if ":" in value.rpartition("]")[2] else value


def _is_local(host: str) -> bool:
    """Names that no foreign page can have; in a request, an IPv6 address stands in brackets."""
    try:
        return ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return host == "localhost"


async def _refused(_: Request, error: Exception) -> Response:
    return Json({"error": str(error)}, 400)


async def _too_large(_: Request, __: Exception) -> Response:
    return Json({"error": f"More than {MOST_BYTES // 2**20} MB are not taken."}, 413)


HANDLERS: Final[Mapping[Any, Any]] = {InputError: _refused, TooLarge: _too_large}
"""What cannot be used is answered with status 400, what is too much with 413, and {"error": a sentence}."""
