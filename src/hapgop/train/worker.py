"""Measures or decodes pictures; as a program of its own, a share of them in a process of its own.

A small JPEG costs 0.2 ms, nearly all of it in Python, so that threads only take turns; processes do not. They
are started as plain programs, not by `multiprocessing`, which would run the user's own script again in each.
The job comes as JSON on standard input, the answers go as lines of JSON to standard output.
"""

import json
import signal
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from hapgop.errors import InputError
from hapgop.predict import Preprocessing, open_image
from hapgop.predict.images import MachineTrouble

_CHUNK = 32
_WIDTH, _HEIGHT, _ORIENTATION = 0x0100, 0x0101, 0x0112
_GREY_MODES = ("1", "L", "LA", "La", "F")

# An answer: the item's number, and what was measured, None once decoded, or why the file is unreadable.
Answer = tuple[int, Any]


def answers(job: dict[str, Any]) -> Iterator[list[Answer]]:
    """The answers to a job, some at a time.

    {"kind": "measure", "items": [[number, path], ...]} answers [height, width, mode, several] for each, upright,
    several: whether there are more pages or frames than the one that is read;
    {"kind": "decode", "items": ..., "array": .npy file, "preprocessing": JSON} writes the pixels of each to row
    `number` of the array. A file that cannot be read answers {"unreadable": reason, "again": bool}, again: whether the
    machine was in the way, so that another try may do.
    """
    decode = _decoder(job) if job["kind"] == "decode" else None
    items = job["items"]
    for start in range(0, len(items), _CHUNK):
        chunk: list[Answer] = []
        for number, path in items[start : start + _CHUNK]:
            try:
                chunk.append((number, _measured(path) if decode is None else decode(number, path)))
            except InputError as error:
                reason, again = str(error).removeprefix(f"{path}: "), isinstance(error, MachineTrouble)
                chunk.append((number, {"unreadable": reason, "again": again}))
        yield chunk


def _measured(path: str) -> list[Any]:
    try:
        with Image.open(path) as image:
            width, height = image.size
            if isinstance(image, TiffImagePlugin.TiffImageFile):
                # Newer Pillows have turned the size already.
                width, height = image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT]
            # 5 to 8 are the orientations that lie on their side. A PNG's own way to ask decodes all of it first, for
            # what could stand behind the pixels.
            if Image.Image.getexif(image).get(_ORIENTATION, 1) in (5, 6, 7, 8):
                width, height = height, width
            # The second picture of an MPO is a preview, or what the other eye sees.
            several = image.format != "MPO" and getattr(image, "is_animated", False)
            return [height, width, image.mode, several]
    except Exception:  # Decoders raise whatever comes; `open_image` finds the words for it.
        upright = open_image(path)
        return [upright.height, upright.width, upright.mode, False]


def is_grey(mode: str) -> bool:
    """Whether a picture of this mode of Pillow's has but one channel of brightness."""
    return mode in _GREY_MODES or mode.startswith("I")


def _decoder(job: dict[str, Any]) -> Any:
    rules = Preprocessing.from_json(job["preprocessing"])
    array = np.lib.format.open_memmap(job["array"], mode="r+")

    def decode(number: int, path: str) -> None:
        array[number] = rules.pixels(path)

    return decode


def main() -> None:
    """Answers the job on standard input."""
    # Ctrl-C reaches the whole group of processes; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job = json.load(sys.stdin)
    for chunk in answers(job):
        print(json.dumps(chunk), flush=True)


if __name__ == "__main__":
    main()
