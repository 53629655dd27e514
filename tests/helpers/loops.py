"""The loops of an assembly text, for tests that count instructions."""

import re

_LABEL = re.compile(r"^([\w.$]+):")
_JUMP = re.compile(r"^\s+j\w+\s+([\w.$]+)")
_SPILL = re.compile(r"%[xyz]mm.*\(%rsp|\(%rsp.*%[xyz]mm")


def innermost(assembly: str) -> list[list[str]]:
    """The instructions of every loop that holds no other."""
    lines = [line for line in assembly.splitlines() if line.strip() and not line.lstrip().startswith(("#", "//"))]
    places = {m[1]: i for i, line in enumerate(lines) if (m := _LABEL.match(line))}
    spans = set()
    for i, line in enumerate(lines):
        jump = _JUMP.match(line)
        if jump and places.get(jump[1], i + 1) <= i:
            spans.add((places[jump[1]], i))
    inner = [s for s in spans if not any(s != t and s[0] <= t[0] and t[1] <= s[1] for t in spans)]
    return [[line.strip() for line in lines[a + 1 : b + 1] if not _LABEL.match(line)] for a, b in sorted(inner)]


def multiplications(loop: list[str]) -> list[str]:
    """The fused multiply-adds of vectors."""
    return [line for line in loop if re.match(r"vfn?m(add|sub)\d+p[sd]", line)]


def spills(loop: list[str]) -> list[str]:
    """Vectors that are stored to the stack, or read from there."""
    return [line for line in loop if _SPILL.search(line)]
