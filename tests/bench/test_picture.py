import re
from itertools import pairwise

import pytest

from hapgop.bench import BenchResult, draw
from hapgop.bench.picture import FASTER, SLOWER, _ticks
from hapgop.errors import InputError


def marks(svg):
    return re.findall(r'<g id="row-(\S+)">(.*?)</g>', svg, re.DOTALL)


def test_every_row_is_a_mark_and_the_slower_ones_stand_out(result, tmp_path):
    draw(result, tmp_path / "a.svg")
    svg = (tmp_path / "a.svg").read_text()
    found = dict(marks(svg))
    assert sorted(found) == ["a-forward-1-1", "b-forward-1-1", "c-forward-1-1", "d-forward-1-1", "e-grad_w-1-1"]
    for name, drawn in found.items():
        slower = name[0] in "cde"
        assert (SLOWER.lower() in drawn, FASTER.lower() in drawn) == (slower, not slower)
    for words in ("3x3", "1x1", "first", "4.00×", "0.50×", "2 rows, 2 below 1", "A machine"):
        assert words in svg


def test_the_same_result_gives_the_same_picture(result, tmp_path):
    draw(result, tmp_path / "a.svg")
    draw(result, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_png(result, tmp_path):
    draw(result, tmp_path / "a.PNG")
    assert (tmp_path / "a.PNG").read_bytes().startswith(b"\x89PNG")


def test_many_rows_of_one_class(row, tmp_path):
    rows = tuple(row(f"case{i}", 0.01 * 1.05**i) for i in range(200))
    draw(BenchResult({}, rows), tmp_path / "a.svg")
    assert len(marks((tmp_path / "a.svg").read_text())) == 200


@pytest.mark.parametrize(("least", "most"), [(0.8, 1.6), (0.02, 60), (0.9, 5), (0.0001, 1000)])
def test_numbers_of_the_scale_keep_their_distance(least, most):
    ticks = _ticks(least, most)
    assert 1 in ticks
    assert len(ticks) >= 2
    assert all(least <= tick <= most for tick in ticks)
    assert all(b / a > (most / least) ** 0.1 for a, b in pairwise(ticks))


def test_another_ending_is_refused(result, tmp_path):
    with pytest.raises(InputError, match=r"has to end with \.svg or \.png"):
        draw(result, tmp_path / "a.jpg")


def test_a_place_where_nothing_can_be_written_is_said(result, tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        draw(result, tmp_path / "nowhere" / "a.png")
