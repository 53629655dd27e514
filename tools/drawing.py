"""The house as a picture: where rooms and arrows go, and the SVG."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from itertools import combinations, pairwise
from random import Random

# In pixels: a room's width and height, the width of a passage, the space beside both, from floor to floor, around all.
BOX, HIGH, PASSAGE, SIDE, STOREY, MARGIN = 132, 58, 10, 22, 100, 28
WORDS = 108


@dataclass(frozen=True)
class Room:
    """One sub-package: its first docstring line, its lines of code, the rooms and the packages it imports."""

    name: str
    what: str
    lines: int
    imports: frozenset[str]
    packages: tuple[str, ...]


@dataclass(frozen=True)
class House:
    """Floors of room names from top to bottom, and the rooms that may not import PyTorch."""

    floors: tuple[tuple[str, ...], ...]
    rooms: Mapping[str, Room]
    without_torch: frozenset[str]

    def floor_of(self) -> dict[str, int]:
        """The floor of each room, from the top."""
        return {name: level for level, floor in enumerate(self.floors) for name in floor}

    def upwards(self) -> list[tuple[str, str]]:
        """The imports that must not be."""
        level = self.floor_of()
        imports = ((one, other) for one in level for other in sorted(self.rooms[one].imports))
        return [(one, other) for one, other in imports if level[other] < level[one]]


def size(lines: int) -> str:
    """Rounded, so that not every commit changes the picture."""
    return f"{round(lines, -2)} lines" if lines >= 100 else "under 100 lines"


def arrows(house: House) -> list[tuple[str, str]]:
    """The imports that do not follow from others, in the order of the floors.

    Of the lowest floor nothing is drawn: it carries everything.
    """
    order = [name for floor in house.floors[:-1] for name in floor]
    below = {name: set(house.rooms[name].imports & set(order)) for name in order}
    reach: dict[str, set[str]] = {}

    def reached(name: str) -> set[str]:
        if name not in reach:
            reach[name] = below[name].union(*map(reached, below[name]))
        return reach[name]

    return [
        (name, other)
        for name in order
        for other in sorted(below[name], key=order.index)
        if not any(other in reached(third) for third in below[name] - {other})
    ]


def places(house: House, edges: Iterable[tuple[str, str]]) -> tuple[dict[str, float], list[list[str]]]:
    """The middle of each room, and the way of each arrow: rooms with the passages between them.

    A layered drawing after Sugiyama, Tagawa, Toda (1981): an arrow over several floors gets a passage on each
    floor between; floors are put in the order of the means of their neighbours, and then pulled towards them.
    Of many beginnings, the drawing with the fewest crossings and then the shortest arrows is kept.
    """
    floor_of = house.floor_of()
    rows = [list(floor) for floor in house.floors[:-1]]
    ways = []
    level_ways = [edge for edge in edges if floor_of[edge[0]] == floor_of[edge[1]]]
    for upper, lower in (edge for edge in edges if edge not in level_ways):
        passages = [f"{upper}>{lower}@{level}" for level in range(floor_of[upper] + 1, floor_of[lower])]
        for level, passage in enumerate(passages, floor_of[upper] + 1):
            rows[level].append(passage)
        ways.append([upper, *passages, lower])
    drawings = [_drawing(rows, ways, chance) for chance in range(60)]
    best = min(drawings, key=lambda at: _cost(rows, ways, level_ways, at))
    left = min(place - _width(name) / 2 for name, place in best.items())
    return {name: place - left + MARGIN for name, place in best.items()}, ways


def _drawing(rows: list[list[str]], ways: list[list[str]], chance: int) -> dict[str, float]:
    near: dict[str, list[str]] = defaultdict(list)
    for way in ways:
        for one, other in pairwise(way):
            near[one].append(other)
            near[other].append(one)
    random = Random(chance)
    rows = [sorted(row, key=lambda _: random.random()) for row in rows]
    at = {name: place for row in rows for name, place in _spread(row, {}).items()}
    for turn in range(24):
        for row in rows if turn % 2 else reversed(rows):
            wish = {name: sum(at[o] for o in near[name]) / len(near[name]) for name in row if near[name]}
            if turn < 16:
                row.sort(key=lambda name: (wish.get(name, at[name]), name))
            at |= _spread(row, wish)
    return at


def _cost(
    rows: list[list[str]], ways: list[list[str]], level_ways: list[tuple[str, str]], at: Mapping[str, float]
) -> tuple[int, float]:
    """Arrows through arrows and through rooms, then the length of all."""
    floor_of = {name: level for level, row in enumerate(rows) for name in row}
    steps = [step for way in ways for step in pairwise(way)]
    crossings = sum(
        (at[a] - at[c]) * (at[b] - at[d]) < 0 for (a, b), (c, d) in combinations(steps, 2) if floor_of[a] == floor_of[c]
    )
    crossings += sum(
        min(at[one], at[other]) < at[name] < max(at[one], at[other])
        for one, other in level_ways
        for name in rows[floor_of[one]]
    )
    return crossings, round(sum(abs(at[one] - at[other]) for one, other in [*steps, *level_ways]), 3)


def _spread(row: list[str], wish: Mapping[str, float]) -> dict[str, float]:
    """Places as near to the wishes as the widths allow, in the order of the row."""
    gaps = [(_width(one) + _width(other)) / 2 + SIDE for one, other in pairwise(row)]
    left: list[float] = []
    for index, name in enumerate(row):
        least = left[-1] + gaps[index - 1] if left else -sum(gaps) / 2
        left.append(max(least, wish.get(name, least)) if left else wish.get(name, least))
    right: list[float] = []
    for index in reversed(range(len(row))):
        most = right[-1] - gaps[index] if right else left[-1]
        right.append(min(most, wish.get(row[index], most)))
    return {name: (a + b) / 2 for name, a, b in zip(row, left, reversed(right), strict=True)}


def _width(name: str) -> float:
    return PASSAGE if "@" in name else BOX


# How it looks

STYLE = """
svg { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
.paper { fill: #fbfaf8; stroke: #e3dfd8; } .room { fill: #fff; stroke: #b9b3a9; } .name { fill: #1c1b1a; }
.small { fill: #65615c; } .way { stroke: #8d877d; fill: none; stroke-width: 1.4; } .head { fill: #8d877d; }
.bar { fill: #2b6cc4; } .line { stroke: #d95f0e; stroke-dasharray: 5 5; } .said { fill: #b34a05; }
@media (prefers-color-scheme: dark) {
.paper { fill: #161719; stroke: #33353a; } .room { fill: #1e2023; stroke: #63656b; } .name { fill: #ebe8e3; }
.small { fill: #a29d95; } .way { stroke: #85817a; } .head { fill: #85817a; }
.bar { fill: #6ca6f0; } .line { stroke: #f08a3c; } .said { fill: #f79d58; } }
"""


def draw(house: House) -> str:
    """The picture as SVG."""
    edges = arrows(house)
    at, ways = places(house, edges)
    top = {name: MARGIN + level * STOREY for name, level in house.floor_of().items()}
    height = MARGIN * 2 + (len(house.floors) - 1) * STOREY + HIGH
    wide = round(max(place + _width(name) / 2 for name, place in at.items())) + MARGIN
    ports = _ports(ways, at)
    largest = max(room.lines for room in house.rooms.values())
    parts = [_way(way, top, ports) for way in ways]
    parts += [_beside(at[one], at[other], top[one]) for one, other in edges if top[one] == top[other]]
    parts.append(_line(house, top, wide, _free(house, ways, at, wide)))
    for name, room in house.rooms.items():
        middle, width = (at[name], BOX) if name in at else (wide / 2, wide - 2 * MARGIN)
        parts.append(_box(room, middle - width / 2, top[name], width, largest))
    listed = "; ".join(f"{one} imports {other}" for one, other in edges)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {height}" width="{wide}" role="img">',
            "<title>The rooms and their imports</title>",
            f"<desc>{escape(listed)}. Every room may import {house.floors[-1][0]}.</desc>",
            f"<style>{STYLE}</style>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            'markerUnits="userSpaceOnUse" orient="auto"><path class="head" d="M0 0L8 4L0 8z"/></marker></defs>',
            f'<rect class="paper" x="0.5" y="0.5" width="{wide - 1}" height="{height - 1}" rx="10"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _ports(ways: list[list[str]], at: Mapping[str, float]) -> dict[tuple[str, str], float]:
    """Where each step of an arrow leaves or enters a room: side by side, in the order of where it leads."""
    groups: dict[str, list[str]] = defaultdict(list)
    found = {}
    for end in (1, -1):
        groups.clear()
        for one, other in (step[::end] for way in ways for step in pairwise(way)):
            groups[one].append(other)
        for name, group in groups.items():
            group.sort(key=lambda other: (at[other], other))
            step = min(20.0, (_width(name) - 24) / len(group)) if "@" not in name else 0
            for index, other in enumerate(group):
                found[name, other] = at[name] + (index - (len(group) - 1) / 2) * step
    return found


def _way(way: list[str], top: Mapping[str, float], ports: Mapping[tuple[str, str], float]) -> str:
    drawn = ""
    for one, other in pairwise(way):
        x, y, to_x, to_y = ports[one, other], _top(one, top) + HIGH, ports[other, one], _top(other, top)
        middle = (y + to_y) / 2
        drawn += f"{'V' if drawn else f'M{x:.1f} '}{y}"
        drawn += f"C{x:.1f} {middle} {to_x:.1f} {middle} {to_x:.1f} {to_y}"
    return f'<path class="way" marker-end="url(#head)" d="{drawn}"/>'


def _top(name: str, top: Mapping[str, float]) -> float:
    room, _, level = name.partition("@")
    return MARGIN + int(level) * STOREY if level else top[room]


def _beside(x: float, to_x: float, top: float) -> str:
    side = BOX / 2 if x < to_x else -BOX / 2
    return f'<path class="way" marker-end="url(#head)" d="M{x + side:.1f} {top + HIGH / 2}H{to_x - side:.1f}"/>'


def _line(house: House, top: Mapping[str, float], wide: int, words_at: float) -> str:
    """The border below which PyTorch is not imported."""
    lowest = _border(house)
    if lowest is None:
        return ""
    y = top[house.floors[lowest][0]] - (STOREY - HIGH) / 2
    return (
        f'<path class="line" d="M{MARGIN} {y}H{wide - MARGIN}"/>'
        f'<text class="said" x="{words_at:.1f}" y="{y + 16}" font-size="12">no PyTorch below</text>'
    )


def _border(house: House) -> int | None:
    return next((level for level, floor in enumerate(house.floors) if set(floor) <= house.without_torch), None)


def _free(house: House, ways: list[list[str]], at: Mapping[str, float], wide: int) -> float:
    """Where the words at the border hide the least of the arrows: left first."""
    floor_of, border = house.floor_of(), _border(house)
    steps = (step for way in ways for step in pairwise(way))
    level = {name: int(name.partition("@")[2] or floor_of.get(name, 0)) for name in at}
    spans = [sorted((at[one], at[other])) for one, other in steps if level[other] == border]
    return min(
        range(MARGIN, wide - MARGIN - WORDS, 6),
        key=lambda x: (sum(max(min(x + WORDS, b + 8) - max(x, a - 8), 0) for a, b in spans), x),
    )


def _box(room: Room, x: float, top: float, width: float, largest: int) -> str:
    bar = max((BOX - 24) * room.lines / largest, 2)
    parts = [
        f"<g><title>{escape(room.what)}</title>",
        f'<rect class="room" x="{x:.1f}" y="{top}" width="{width}" height="{HIGH}" rx="6"/>',
        f'<text class="name" x="{x + 12:.1f}" y="{top + 22}" font-size="15" font-weight="600">{room.name}</text>',
        f'<text class="small" x="{x + 12:.1f}" y="{top + 39}" font-size="11">{size(room.lines)}</text>',
        f'<rect class="bar" x="{x + 12:.1f}" y="{top + HIGH - 10}" width="{bar:.1f}" height="3" rx="1.5"/></g>',
    ]
    return "".join(parts)
