"""Many pictures from disk, decoded side by side, given back in order."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hapgop.errors import InputError
from hapgop.predict.images import open_image
from hapgop.predict.preprocessing import Preprocessing

# Decoders release Python's lock; beyond a few threads the disk or the memory is what waits.
_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, eq=False)
class Reading:
    """What became of one file: its pixels, uint8 (h, w, c), or the error. resized: it had another size."""

    path: str
    pixels: NDArray[np.uint8] | None
    resized: bool = False
    error: InputError | None = None


def read_pictures(paths: Iterable[str], rules: Preprocessing) -> Iterator[Reading]:
    """Every file at the size of `rules`, in order; one that cannot be read comes with its error.

    >>> print(list(read_pictures(["nowhere.png"], Preprocessing((8, 8))))[0].error)
    nowhere.png: there is no such file.
    """
    with ThreadPoolExecutor(_THREADS, "hapgop-read") as pool:
        # Only a few ahead, so that a million names are not a million pictures in memory.
        ahead: deque[Future[Reading]] = deque()
        for path in paths:
            ahead.append(pool.submit(_read, path, rules))
            if len(ahead) > 4 * _THREADS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _read(path: str, rules: Preprocessing) -> Reading:
    try:
        picture = open_image(path, rules.size)
        # A large JPEG comes at a fraction of its size, but never at exactly the size of the net.
        return Reading(path, rules.pixels(picture), picture.size[::-1] != rules.size)
    except InputError as error:
        return Reading(path, None, error=error)
