import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import drawing
import picture
import pytest
from drawing import House, Room

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def built(floors, imports, without_torch=()):
    names = [name for floor in floors for name in floor]
    rooms = {
        name: Room(name, f"What {name} is", 150 * index, frozenset(imports.get(name, "")), ())
        for index, name in enumerate(names)
    }
    return House(tuple(map(tuple, floors)), rooms, frozenset(without_torch))


HOUSE = built(
    ["a", "bc", "d", "ef", "g"],
    {"a": "bcdg", "b": "dg", "c": "f", "d": "eg", "e": "f", "f": "g"},
    without_torch="dfeg",
)


@pytest.fixture
def root(tmp_path):
    """The project with a page of its own."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "src").symlink_to(ROOT / "src")
    page = tmp_path / picture.PAGE
    page.write_text(f"# The house\n\n{picture.BEGIN}\nold\n{picture.END}\n\nThe end, C:\\1 \\g<0>.\n", "utf-8")
    return tmp_path


def boxes(svg):
    """(x, y, width) of each room by its name."""
    found = {}
    for group in ElementTree.fromstring(svg).iter(f"{SVG}g"):
        box = next(group.iter(f"{SVG}rect"))
        found[next(group.iter(f"{SVG}text")).text] = tuple(float(box.get(key)) for key in ("x", "y", "width"))
    return found


def test_what_follows_from_others_is_not_drawn():
    assert drawing.arrows(HOUSE) == [("a", "b"), ("a", "c"), ("b", "d"), ("c", "f"), ("d", "e"), ("e", "f")]


def test_rooms_stand_on_their_floors_and_do_not_overlap():
    found = boxes(drawing.draw(HOUSE))
    assert set(found) == set("abcdefg")
    heights = [found[name][1] for name in "abdeg"]
    assert heights == sorted(set(heights))
    for one, other in ("bc", "ef"):
        assert found[one][1] == found[other][1]
        (x, _, width), (to_x, _, to_width) = sorted((found[one], found[other]))
        assert x + width < to_x
        assert width == to_width
    assert found["g"][2] > found["a"][2], "what carries everything lies under everything"


def test_arrows_do_not_cross_where_they_need_not():
    house = built(["ab", "cd", "e"], {"a": "d", "b": "c"})
    found = boxes(drawing.draw(house))
    assert (found["a"][0] < found["b"][0]) == (found["d"][0] < found["c"][0])


def test_an_arrow_on_a_floor_goes_through_no_room():
    found = boxes(drawing.draw(built(["abcde", "f"], {"a": "e", "c": "a", "b": "d"})))
    for one, other in ("ae", "ca", "bd"):
        low, high = sorted((found[one][0], found[other][0]))
        assert not any(low < x < high for x, _, _ in found.values())


def test_every_arrow_is_drawn_from_room_to_room():
    svg = drawing.draw(HOUSE)
    found, edges = boxes(svg), drawing.arrows(HOUSE)
    ways = re.findall(r'class="way" marker-end="url\(#head\)" d="M([\d.]+) ([\d.]+).*?([\d.]+)(?: ([\d.]+))?"', svg)
    assert len(ways) == len(edges)
    level = [way for way in ways if not way[3]]
    assert len(level) == 1, "e and f are on one floor"
    for x, y, to_x, to_y in (map(float, way) for way in ways if way[3]):
        ends = [
            (one, other)
            for one, other in edges
            if found[one][0] < x < found[one][0] + drawing.BOX and found[one][1] + drawing.HIGH == y
            if found[other][0] < to_x < found[other][0] + drawing.BOX and found[other][1] == to_y
        ]
        assert len(ends) == 1


def test_the_line_lies_above_the_rooms_without_pytorch():
    svg = drawing.draw(HOUSE)
    found = boxes(svg)
    y = float(re.search(r'class="line" d="M[\d.]+ ([\d.]+)H', svg)[1])
    assert found["c"][1] + drawing.HIGH < y < found["d"][1]


def test_the_picture_is_whole_and_asks_for_nothing():
    svg = drawing.draw(picture.survey(ROOT))
    ElementTree.fromstring(svg)
    assert not re.search(r"href|@import|url\((?!#)|http(?!://www\.w3\.org/2000/svg)", svg)
    assert svg.count("<title>") == 1 + len(boxes(svg))


def test_the_picture_shows_the_project():
    house = picture.survey(ROOT)
    assert [floor[0] for floor in (house.floors[0], house.floors[-1])] == ["cli", "errors"]
    assert "torch" in house.rooms["nn"].packages
    assert "torch" not in house.rooms["predict"].packages
    assert house.rooms["native"].packages == ("llvmlite",)
    assert "algorithms" in house.rooms["program"].imports
    assert all(room.what for room in house.rooms.values())


def test_every_process_draws_the_same():
    code = "import drawing, picture as p; it = p.survey(p.ROOT); print(drawing.draw(it), p.describe(it))"
    drawn = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": str(ROOT / "tools"), "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(drawn) == 1


def test_check_finds_what_is_out_of_date_and_writes_nothing(root, capsys):
    before = (root / picture.PAGE).read_text("utf-8")
    assert picture.main(["--check"], root) == 1
    assert capsys.readouterr().out == (
        "docs/house.svg is out of date: ./dev picture\nARCHITECTURE.md is out of date: ./dev picture\n"
    )
    assert (root / picture.PAGE).read_text("utf-8") == before
    assert not (root / picture.PICTURE).exists()


def test_what_was_written_is_up_to_date(root, capsys):
    assert picture.main([], root) == 0
    page = (root / picture.PAGE).read_text("utf-8")
    assert page.startswith("# The house\n\n")
    assert page.endswith(f"{picture.END}\n\nThe end, C:\\1 \\g<0>.\n")
    assert "old" not in page.split(picture.END)[0].splitlines()
    capsys.readouterr()
    assert picture.main(["--check"], root) == 0
    assert picture.main([], root) == 0
    assert capsys.readouterr().out == "", "nothing to say, nothing written"


@pytest.mark.parametrize("name", [picture.PAGE, picture.PICTURE])
def test_check_sees_a_change_by_hand(root, name):
    picture.main([], root)
    file = root / name
    file.write_text(file.read_text("utf-8").replace("oracle", "miracle"), "utf-8")
    assert picture.main(["--check"], root) == 1


def test_a_page_without_markers_is_told_so(root):
    (root / picture.PAGE).write_text("nothing", "utf-8")
    with pytest.raises(SystemExit, match="has no place for the picture"):
        picture.main([], root)


def test_upward_imports_are_found():
    house = built(["a", "b"], {"b": "a", "a": "b"})
    assert house.upwards() == [("b", "a")]
    assert HOUSE.upwards() == []
