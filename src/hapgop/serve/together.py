"""Pictures that wait at the same time are answered in one call of the net, which is faster for each."""

import asyncio
from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool

from hapgop.predict import Predictor

# A batch has one of these sizes, largest first: for each the net is planned once, and its kernels made.
SIZES: Final = (16, 4, 1)
_MOST_WAITING: Final = 64

Row = NDArray[np.float32]


class Busy(Exception):
    """So many pictures wait that another one would wait too long."""


class Together:
    """Answers prepared pictures, those that wait together in one batch; one batch at a time."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._waiting: deque[tuple[Row, asyncio.Future[Row]]] = deque()
        self._working: asyncio.Task[None] | None = None

    def prepare(self) -> None:
        """Plans and kernels for every size of a batch, so that no visitor waits for them."""
        c, h, w = self._predictor.graph.input_shape
        for size in SIZES:
            # Channels last in memory, as prepared pictures are: each order has a plan of its own.
            self._predictor.probabilities(np.zeros((size, h, w, c), np.float32).transpose(0, 3, 1, 2))

    async def probabilities(self, x: Row) -> Row:
        """Those of one picture (c, h, w), float32 (k,). Raises Busy, and whatever the net raises."""
        if len(self._waiting) >= _MOST_WAITING:
            raise Busy
        answer: asyncio.Future[Row] = asyncio.get_running_loop().create_future()
        self._waiting.append((x, answer))
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        try:
            while self._waiting:
                size = next(size for size in SIZES if size <= len(self._waiting))
                pictures, answers = zip(*(self._waiting.popleft() for _ in range(size)), strict=True)
                try:
                    rows = await run_in_threadpool(self._predictor.probabilities, np.stack(pictures))
                except Exception as error:  # whatever it is, those who asked are told
                    for answer in answers:
                        if not answer.done():
                            answer.set_exception(error)
                else:
                    for answer, row in zip(answers, rows, strict=True):
                        if not answer.done():  # else whoever asked has gone
                            answer.set_result(row)
        finally:
            self._working = None
