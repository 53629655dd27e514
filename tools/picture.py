"""Draws the house: the rooms of src/hapgop on their floors, what they import, and how large they are.

`python tools/picture.py` writes docs/house.svg and the part of ARCHITECTURE.md between the two markers;
`--check` writes nothing and exits with 1 where one of them is out of date.

The floors are those of the import-linter contract in pyproject.toml, the arrows are the imports that are there.
An arrow that follows from two others is left out.
"""

import argparse
import ast
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import grimp
from drawing import House, Room, draw, size

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "hapgop"
PAGE, PICTURE = "ARCHITECTURE.md", "docs/house.svg"
BEGIN, END = "<!-- the house: written by ./dev picture -->", "<!-- the end of the house -->"

# Every room uses NumPy; naming it says nothing.
UNNAMED = {"numpy", "__future__"}

# What is there


def survey(root: Path) -> House:
    """The house as the code in root/src has it today."""
    contracts = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    forbidden = [contract for contract in contracts if contract.get("forbidden_modules") == ["torch"]]
    graph = grimp.build_graph(PACKAGE, include_external_packages=True, cache_dir=None)
    imports: dict[str, set[str]] = defaultdict(set)
    for module in graph.modules:
        room = _room(module)
        for target in graph.find_modules_directly_imported_by(module) if room else ():
            imports[room].add(_room(target) or target.partition(".")[0])
    rooms = {}
    for name in (name for layer in layers for name in _names(layer)):
        files = _files(root / "src" / PACKAGE / name)
        if files:
            others = imports[name] - {name, PACKAGE}
            known = {other for other in others if any(other in _names(layer) for layer in layers)}
            packages = sorted(others - known - UNNAMED - set(sys.stdlib_module_names) - {"_version"})
            rooms[name] = Room(name, _what(files[0]), _lines(files), frozenset(known), tuple(packages))
    floors = (tuple(name for name in _names(layer) if name in rooms) for layer in layers)
    names = (name for contract in forbidden for name in contract["source_modules"])
    house = House(tuple(floor for floor in floors if floor), rooms, frozenset(map(_room, names)))
    upwards = [f"{one} imports {other}" for one, other in house.upwards()]
    if upwards:
        sys.exit(f"Imports only go down, but {', '.join(upwards)}: ./dev check says where.")
    return house


def _room(module: str) -> str:
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] if package == PACKAGE else ""


def _names(layer: str) -> list[str]:
    return [name.strip(" ()") for name in re.split(r"[|:]", layer)]


def _files(place: Path) -> list[Path]:
    """The Python files of a room, the one that describes it first."""
    if place.with_suffix(".py").exists():
        return [place.with_suffix(".py")]
    first = place / "__init__.py"
    return [first, *sorted(set(place.rglob("*.py")) - {first})] if first.exists() else []


def _what(file: Path) -> str:
    words = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    return words.partition("\n")[0].rstrip(".")


def _lines(files: Iterable[Path]) -> int:
    return sum(1 for file in files for line in file.read_text("utf-8").splitlines() if line.strip())


def describe(house: House) -> str:
    """What stands between the markers of the page: the picture, and the same in words."""
    words = (
        f"The rooms on their floors, from {' and '.join(house.floors[0])} at the top to "
        f"{house.floors[-1][0]} at the bottom; the table below says the same in words."
    )
    rows = [
        f"| `{room.name}` | {room.what.replace('|', '/')} | {size(room.lines).removesuffix(' lines')} "
        f"| {', '.join(sorted(room.imports)) or '-'} | {', '.join(room.packages) or '-'} |"
        for room in house.rooms.values()
    ]
    head = ["| room | what it is | lines | imports | other packages |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([BEGIN, f"![{words}]({PICTURE})", "", *head, *rows, END])


# What is written


def wanted(root: Path) -> dict[Path, str]:
    """Each file that shows the house, and what should stand in it. Exits where the page has no markers."""
    house = survey(root)
    page = root / PAGE
    text = page.read_text("utf-8")
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    if not pattern.search(text):
        sys.exit(f"{PAGE} has no place for the picture: the lines\n{BEGIN}\n{END}")
    return {root / PICTURE: draw(house), page: pattern.sub(lambda _: describe(house), text, count=1)}


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """The command; the exit code is 1 where `--check` finds something out of date."""
    parser = argparse.ArgumentParser(description="Draw the module graph into ARCHITECTURE.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where it is out of date")
    checking = parser.parse_args(arguments).check
    stale = [
        (path, text) for path, text in wanted(root).items() if not path.exists() or path.read_text("utf-8") != text
    ]
    for path, text in stale:
        print(f"{path.relative_to(root)} {'is out of date: ./dev picture' if checking else 'written'}")
        if not checking:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf-8", newline="\n")
    return 1 if checking and stale else 0


if __name__ == "__main__":
    sys.exit(main())
