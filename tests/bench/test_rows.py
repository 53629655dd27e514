import json

import pytest

from hapgop.bench import class_means, from_json, table
from hapgop.errors import InputError

KEYS = {
    "case", "op", "batch", "threads", "algorithm", "ours_ms", "peers", "strongest", "ratio", "best_ratio", "error",
    "peer_error", "peak_share",
}  # fmt: skip


def test_the_json_has_what_others_read(result):
    whole = json.loads(json.dumps(result.to_json()))
    assert set(whole) == {"machine", "rows"}
    for row in whole["rows"]:
        assert set(row) > KEYS
        assert row["strongest"] in row["peers"]
    assert [row["class"] for row in whole["rows"]] == ["3x3", "3x3", "1x1", "first", "first"]
    assert [row["peak_share"] for row in whole["rows"]] == [0.5, None, 0.5, 0.5, 0.5]


def test_what_was_written_is_read_again(result):
    assert from_json(json.dumps(result.to_json()), "file") == result


def test_rows_with_only_what_everyone_writes_are_read(result):
    rows = [{key: row[key] for key in KEYS} for row in result.to_json()["rows"]]
    read = from_json(json.dumps({"machine": {}, "rows": rows}), "file")
    assert [row.ratio for row in read.rows] == [row.ratio for row in result.rows]
    assert read.rows[0].eager is None
    assert table(read).splitlines()[1].split()[:2] == ["a", "forward"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"machine": {}, "rows": []}',
        '{"machine": {}, "rows": [{}]}',
        '{"machine": {}, "rows": [3]}',
        '{"machine": 1, "rows": {}}',
    ],
)
def test_another_file_is_refused(text):
    with pytest.raises(InputError, match=r"x\.json: not what `hapgop bench --json` writes"):
        from_json(text, "x.json")


@pytest.mark.parametrize("ratio", [0, -1, float("nan"), float("inf"), "2"])
def test_a_ratio_that_cannot_be_is_refused(result, ratio):
    whole = result.to_json()
    whole["rows"][0]["ratio"] = ratio
    with pytest.raises(InputError, match="not what"):
        from_json(json.dumps(whole), "x.json")


def test_means_are_geometric_and_by_class(result):
    first, second, third, every = class_means(result.rows)
    assert (first.family, first.rows, first.least, first.most, first.slower) == ("3x3", 2, 2.0, 8.0, 0)
    assert first.ratio == pytest.approx(4)
    assert (first.eager, first.prepacked) == (pytest.approx(4), pytest.approx(8))
    assert (second.family, second.rows, second.ratio, second.slower) == ("1x1", 1, 0.5, 1)
    # One of the two is faster in its best round; one has no prepacked peers.
    assert (third.family, third.slower, third.prepacked) == ("first", 1, pytest.approx(1.8))
    assert third.ratio == pytest.approx(0.45**0.5)
    assert (every.family, every.rows, every.slower) == ("all", 5, 2)
    assert every.ratio == pytest.approx((2 * 8 * 0.5 * 0.9 * 0.5) ** 0.2)


def test_one_class_is_not_summed_up_twice(row):
    assert [mean.family for mean in class_means([row("a"), row("b")])] == ["3x3"]


def test_the_table_says_everything(result):
    text = table(result)
    lines = text.splitlines()
    by_case = {line.split()[0]: line for line in lines[1:6]}
    assert "345.6" not in by_case["a"]
    assert "346 GF/s" in by_case["b"]
    assert "%" not in by_case["b"].split("GF/s")[0]  # no share of the peak for what multiplies less
    assert "winograd F(4x4)" in by_case["b"]
    assert "50%" in by_case["a"]
    assert all("1e-06" in line for line in by_case.values())
    assert "  c forward n=1 t=1: 0.50" in lines
    assert "  e grad_w n=1 t=1: 0.50" in lines
    assert "  d forward n=1 t=1: 0.90" not in lines  # its best round was faster
    for words in (
        "A machine",
        "torch 2.13.0",
        "without openvino",
        "left out: huge",
        "100 GFLOP/s",
        "hapgop bench layers",
    ):
        assert words in text


def test_the_table_says_whether_ours_packs_ahead(result, row):
    assert "while ours packs them in every call" in table(result)
    match = type(result.rows[0].eager)(1.0, True, "direct", "ncnn", 2.0, 2.0)
    assert "while ours" not in table(type(result)(result.machine, (row("a", prepacked=match),)))
