"""Which cases, operations and batch sizes a run measures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources

from hapgop.bench.case import OPS, Case
from hapgop.bench.nets import of_net
from hapgop.bench.reading import from_text
from hapgop.errors import InputError

# The nets whose layers are always measured, with the batch size that training uses for them.
_NETS = (("digits", (1, 8, 8), 10, 64), ("lenet5", (1, 28, 28), 10, 128))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows are asked for; what is empty does not restrict.

    names: how names of cases begin. text, source: cases instead of the shipped ones, and where they come from.
    quick: each case at its first batch size only.
    """

    names: Sequence[str] = ()
    families: Sequence[str] = ()
    ops: Sequence[str] = ()
    batches: Sequence[int] = ()
    text: str | None = None
    source: str = "the cases"
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One operation of a case, whose shape has the batch size."""

    case: Case
    op: str


def cases() -> list[Case]:
    """All cases that ship."""
    of_nets = [case for net, size, classes, batch in _NETS for case in of_net(net, size, classes, batch)]
    return of_nets + from_text(resources.files("hapgop.bench").joinpath("layers.txt").read_text(), "layers.txt")


def jobs(wanted: Wanted) -> tuple[list[Job], list[str]]:
    """What is to be measured, and in words what is left out because it would not fit into memory.

    Raises InputError where a name, a class or an operation is unknown, or nothing is left.
    """
    every = cases() if wanted.text is None else from_text(wanted.text, wanted.source)
    for name in wanted.names:
        if not any(case.name.startswith(name) for case in every):
            near = get_close_matches(name, [case.name for case in every], n=3, cutoff=0.3)
            raise InputError(f"--case {name}: no case starts so; near it are {', '.join(near) or every[0].name}")
    known = sorted({case.family for case in every})
    for family in wanted.families:
        if family not in known:
            raise InputError(f"--class {family}: no case has this class; there are {', '.join(known)}")
    for op in wanted.ops:
        if op not in OPS:
            raise InputError(f"--op {op}: wanted is one of {', '.join(OPS)}")
    chosen = [
        case
        for case in every
        if (not wanted.names or case.name.startswith(tuple(wanted.names)))
        and (not wanted.families or case.family in wanted.families)
    ]
    found, left_out, most = [], [], memory_bound()
    for case in chosen:
        for op in case.ops:
            if wanted.ops and op not in wanted.ops:
                continue
            for batch in _batches(case, op, wanted):
                sized = case.at(batch)
                if sized.bytes > most:
                    words = (
                        f"{case.name} {op} with batch {batch}: {sized.bytes >> 20} MiB, and {most >> 20} are allowed"
                    )
                    left_out.append(words)
                else:
                    found.append(Job(sized, op))
    if not found:
        raise InputError("nothing is left to measure" + "".join(f"; left out: {words}" for words in left_out))
    return found, left_out


def _batches(case: Case, op: str, wanted: Wanted) -> Sequence[int]:
    if wanted.batches:
        return wanted.batches
    if wanted.quick:
        return case.batches[:1]
    # Nobody trains on single images where the case knows larger batches.
    return case.batches if op == "forward" else case.batches[-1:]


def memory_bound() -> int:
    """The most bytes that input, weights and output of a case may take: every side has copies of its own."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 16
