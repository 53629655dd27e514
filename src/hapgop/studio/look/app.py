"""The server behind the page: plain answers to plain questions, for this machine alone."""

import json
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from hapgop.errors import InputError
from hapgop.studio.look import answers
from hapgop.studio.look.packing import packed
from hapgop.studio.look.subject import Subject
from hapgop.studio.look.watched import Watched
from hapgop.web import HANDLERS, Json, LocalOnly, body, picture, pixels

_POLICY = "default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
_STATIC = resources.files(__package__) / "static"

Handler = Callable[[Request], Awaitable[Response]]


def application(subject: Subject) -> Starlette:
    """The page and its questions, as an ASGI application.

    Answers only to requests whose Host is this machine, serves nothing outside its folder, and takes no upload over
    its limit. What cannot be used is answered with status 400 and {"error": a sentence}.
    """

    async def index(_: Request) -> Response:
        return Response((_STATIC / "index.html").read_bytes(), media_type="text/html")

    async def show(request: Request) -> Response:
        data = await body(request)
        name = request.query_params.get("name", "")[:200]
        return Json(await run_in_threadpool(lambda: answers.shown(subject, subject.show(picture(data), name))))

    async def live(request: Request) -> Response:
        data, ask = await body(request), request.query_params

        def answer() -> bytes:
            h, w, c = (_number(ask.get(name)) for name in ("h", "w", "c"))
            one = subject.frame(pixels(data, h, w, c))
            return packed(*answers.maps(subject, one, _names(ask.get("layers"))))

        return _binary(await run_in_threadpool(answer))

    async def play(request: Request) -> Response:
        wanted = _json(await body(request))
        return _binary(await run_in_threadpool(lambda: packed(*answers.play(subject, wanted))))

    def asked(answer: Callable[[Subject, Any], Any]) -> Handler:
        async def handler(request: Request) -> Response:
            return _told(await run_in_threadpool(answer, subject, request.query_params))

        return handler

    routes = [
        Route("/", index),
        *(Route(f"/api/{name}", asked(answer)) for name, answer in answers.QUESTIONS.items()),
        Route("/api/show", show, methods=["POST"]),
        Route("/api/live", live, methods=["POST"]),
        Route("/api/play", play, methods=["POST"]),
    ]
    return _for_this_machine(routes)


def watching(watched: Watched) -> Starlette:
    """The page of a training that goes on, as an ASGI application; it answers this machine alone, too."""

    async def index(_: Request) -> Response:
        return Response((_STATIC / "watch.html").read_bytes(), media_type="text/html")

    async def watch(request: Request) -> Response:
        return Json(watched.told(_number(request.query_params.get("since"))))

    async def filters(_: Request) -> Response:
        return _binary(packed({}, watched.filters()))

    return _for_this_machine([Route("/", index), Route("/api/watch", watch), Route("/api/filters", filters)])


def _for_this_machine(routes: Sequence[BaseRoute]) -> Starlette:
    static = Mount("/static", StaticFiles(packages=[(__package__, "static")]))
    local = Middleware(LocalOnly, policy=_POLICY)
    return Starlette(routes=[*routes, static], middleware=[local], exception_handlers=dict(HANDLERS))


def _told(found: Any) -> Response:
    try:
        return _binary(packed(*found)) if isinstance(found, tuple) else Json(found)
    except ValueError as error:  # JSON has no NaN
        raise InputError("A number in this answer is NaN or infinite; the net's weights cannot be right.") from error


def _binary(data: bytes) -> Response:
    return Response(data, media_type="application/octet-stream")


def _number(text: str | None) -> int:
    if text is None or not text.isdigit():
        raise InputError(f"A whole number is wanted, not {text!r}.")
    return int(text)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name for name in text.split(",") if name]


def _json(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise InputError(f"JSON is wanted ({error}).") from error
    if not isinstance(value, dict):
        raise InputError("A JSON object is wanted.")
    return value
