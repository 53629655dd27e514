"""Spreads the pictures of a job over processes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from hapgop.train import worker

# Below so much work, in seconds of one core, starting processes costs more than it saves.
_WORTH_PROCESSES = 0.7
_SECONDS_PER_PICTURE = {"measure": 4e-5, "decode": 2e-4}
# What decoding a JPEG costs on top, per byte.
_SECONDS_PER_BYTE = {"measure": 0.0, "decode": 3e-8}
_MOST_PROCESSES = 8


def answers(job: dict[str, Any], size: int, processes: int | None = None) -> Iterator[list[worker.Answer]]:
    """The answers to a job of `worker`, some at a time, in any order; each item is answered once.

    size: bytes of all files, to judge the work by; processes: how many, in place of that judgement.
    What a process leaves undone when it dies is done here.
    """
    items: Sequence[tuple[int, str]] = job["items"]
    kind = job["kind"]
    work = len(items) * _SECONDS_PER_PICTURE[kind] + size * _SECONDS_PER_BYTE[kind]
    if processes is None:
        processes = min(_cores(), _MOST_PROCESSES, int(work / _WORTH_PROCESSES) + 1)
    if processes < 2:
        yield from worker.answers(job)
        return
    left = dict(items)
    for chunk in _spread([{**job, "items": items[share::processes]} for share in range(processes)]):
        for number, _ in chunk:
            del left[number]
        yield chunk
    if left:
        yield from worker.answers({**job, "items": list(left.items())})


def _spread(jobs: list[dict[str, Any]]) -> Iterator[list[worker.Answer]]:
    queue: SimpleQueue[list[worker.Answer] | None] = SimpleQueue()
    running: list[subprocess.Popen[str]] = []
    try:
        for job in jobs:
            process = _started()
            running.append(process)
            Thread(target=_listen, args=(process, job, queue), daemon=True).start()
        ended = 0
        while ended < len(jobs):
            chunk = queue.get()
            if chunk is None:
                ended += 1
            else:
                yield chunk
    finally:
        for process in running:
            process.kill()
            process.wait()


def _started() -> subprocess.Popen[str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        # -P: the folder of that file is no place to import from.
        [sys.executable, "-P", worker.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        cwd=Path.cwd(),
    )


def _listen(
    process: subprocess.Popen[str], job: dict[str, Any], queue: "SimpleQueue[list[worker.Answer] | None]"
) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with process.stdin as to:
            json.dump(job, to)
        for line in process.stdout:
            queue.put([(number, answer) for number, answer in json.loads(line)])
    except (OSError, ValueError):
        # It died; what it has not answered is done elsewhere.
        pass
    finally:
        queue.put(None)


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
