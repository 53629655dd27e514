"""What the server answers, and what it refuses."""

import asyncio
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hapgop._version import __version__
from hapgop.errors import InputError
from hapgop.predict import Predictor
from hapgop.serve.together import Busy, Together
from hapgop.web import HANDLERS, Json, LocalOnly, body, picture

# Pictures decoded at the same time: each can take some hundred megabytes.
_DECODING: Final = 4
# Requests at the same time: each can hold an upload of the largest size.
_MOST: Final = 128


def application(predictor: Predictor, title: str, *, local: bool = True) -> Starlette:
    """`POST /predict` with the bytes of a picture, `GET /` and `GET /health`, as an ASGI application.

    local: only requests whose Host is this machine are answered. What cannot be used is answered with status 400 or
    413, too much at a time with 503, and {"error": a sentence}. The net is planned, and its kernels are made, here.
    """
    together = Together(predictor)
    together.prepare()
    decoding = asyncio.Semaphore(_DECODING)
    inside = 0

    async def about(_: Request) -> Response:
        height, width = predictor.preprocessing.size
        return Json(
            {
                "net": title,
                "hapgop": __version__,
                "classes": list(predictor.classes),
                "size": [height, width],
                "ask": "POST /predict with the bytes of a picture; ?top=K for the K likeliest labels alone.",
            }
        )

    async def health(_: Request) -> Response:
        return Json({"status": "ready"})

    async def predict(request: Request) -> Response:
        nonlocal inside
        if inside >= _MOST:
            raise Busy
        inside += 1
        try:
            top = _top(request.query_params.get("top"), len(predictor.classes))
            data = await body(request)
            async with decoding:
                x = await run_in_threadpool(lambda: predictor.prepare(picture(data, predictor.preprocessing.size)))
            try:
                row = await together.probabilities(x)
            except InputError as error:  # the picture was good
                return Json({"error": str(error)}, 500)
            return Json(_answer(predictor.classes, row, top))
        finally:
            inside -= 1

    return Starlette(
        routes=[Route("/", about), Route("/health", health), Route("/predict", predict, methods=["POST"])],
        middleware=[Middleware(LocalOnly)] if local else [],
        exception_handlers={**HANDLERS, Busy: _busy},
    )


def _answer(classes: tuple[str, ...], row: NDArray[np.float32], top: int) -> dict[str, Any]:
    order = np.argsort(-row, kind="stable")[:top]
    return {
        "label": classes[order[0]],
        "confidence": float(row[order[0]]),
        "probabilities": {classes[i]: float(row[i]) for i in order},
    }


def _top(text: str | None, classes: int) -> int:
    if text is None:
        return classes
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise InputError(f"top is {text!r}; how many labels are wanted, 1 or more?")
    return int(text)


async def _busy(_: Request, __: Exception) -> Response:
    return Json({"error": "Too many pictures at a time. Ask again in a second."}, 503, {"Retry-After": "1"})
