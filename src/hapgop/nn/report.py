"""Who computed what: calls in our engine by algorithm, calls gone to PyTorch by reason."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple


class Answer(NamedTuple):
    """How one call was answered: by an algorithm of ours, or by PyTorch's operator and for which reason."""

    op: str
    algorithm: str | None
    reason: str | None = None


@dataclass(frozen=True)
class CallReport:
    """Counted calls. `engine` is (op, algorithm) -> calls, `pytorch` is (op, reason) -> calls.

    >>> print(CallReport({("conv", "direct"): 3}, {("conv", "float16 tensors"): 1}))
    op    calls  computed by
    conv      3  direct
    conv      1  PyTorch: float16 tensors
    """

    engine: Mapping[tuple[str, str], int] = field(default_factory=dict)
    pytorch: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def __str__(self) -> str:
        rows = [("op", "calls", "computed by")]
        rows += [(op, str(calls), name) for (op, name), calls in self.engine.items()]
        rows += [(op, str(calls), f"PyTorch: {reason}") for (op, reason), calls in self.pytorch.items()]
        if len(rows) == 1:
            return "no calls yet"
        wide, narrow = (max(len(row[column]) for row in rows) for column in (0, 1))
        return "\n".join(f"{op:<{wide}}  {calls:>{narrow}}  {by}" for op, calls, by in rows)


_lock = Lock()
_calls: Counter[Answer] = Counter()


def count(answer: Answer) -> None:
    """One more call answered so."""
    # += on a dictionary's value is two steps: without the lock, threads would lose counts.
    with _lock:
        _calls[answer] += 1


def count_all(answers: Mapping[Answer, int]) -> None:
    """So many more calls, answered so."""
    with _lock:
        _calls.update(answers)


def report() -> CallReport:
    """The calls since the start or the last `reset_report()`, most frequent first.

    >>> print(report())  # doctest: +SKIP
    """
    with _lock:
        calls = _calls.most_common()
    return CallReport(
        {(a.op, a.algorithm): n for a, n in calls if a.algorithm is not None},
        {(a.op, a.reason): n for a, n in calls if a.reason is not None},
    )


def reset_report() -> None:
    """Forget all counts."""
    with _lock:
        _calls.clear()
