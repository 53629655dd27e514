"""Random layers: the same for a seed, bounded, of all kinds; their rows and what they come to."""

import json
import warnings
from collections import Counter
from dataclasses import replace
from math import prod
from types import SimpleNamespace

import pytest
import torch

from hapgop import bench, engine
from hapgop.bench import survey
from hapgop.bench.drawn import draw
from hapgop.cli import surveying
from hapgop.nn import functional


def test_a_seed_is_a_choice_of_layers():
    assert draw(20, 3) == draw(20, 3)
    assert draw(20, 3) == draw(30, 3)[:20]
    assert draw(20, 3) != draw(20, 4)
    assert len(set(map(str, draw(300, 0)))) > 290


def test_layers_are_of_all_kinds_and_bounded():
    layers = draw(300, 0)
    kinds = Counter(layer.kind for layer in layers)
    assert {"depthwise", "grouped", "dilated", "1x1", "3x3", "3x3 strided", "5x5", "7x7"} <= set(kinds)
    shapes = [layer.shape for layer in layers]
    assert {s.n for s in shapes} == {1, 2, 3, 4, 8, 16, 32}
    assert {(layer.last, layer.w_last, layer.bias) for layer in layers} == set(_bools(3))
    assert any(s.kh != s.kw for s in shapes)
    assert any(s.ih != s.iw for s in shapes)
    assert all(s.flops <= 6e8 for s in shapes)
    assert all(4 * (prod(s.x_shape) + prod(s.w_shape) + prod(s.y_shape)) <= 24 << 20 for s in shapes)


def _bools(count):
    return [()] if count == 0 else [(b, *rest) for b in (False, True) for rest in _bools(count - 1)]


@pytest.fixture
def small(monkeypatch):
    """Layers that take no time."""
    layers = sorted(draw(200, 1), key=lambda layer: layer.shape.flops)[:3]
    monkeypatch.setattr("hapgop.bench.surveys.draw", lambda count, seed: layers)
    return layers


def test_every_operation_of_every_layer_is_a_row(small, no_warnings):
    told = []
    rows = survey(3, 1, 1, lambda done, total, name: told.append((done, total)), repeats=1)
    assert [(row.layer, row.op) for row in rows] == [(str(s), op) for s in small for op in bench.SURVEY_OPS]
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    for row in rows:
        assert row.threads == 1
        assert row.ours_ms > 0
        assert row.pytorch_ms > 0
        assert row.algorithm in row.candidates
        assert row.near >= 1
    text = surveying.text(rows)
    assert "all: 9 rows, geometric mean " in text
    written = json.loads(json.dumps(bench.survey_json(rows, "hapgop bench random")))
    assert len(written["rows"]) == 9
    assert written["machine"]["tuning"] == engine.get_tuning()


@pytest.fixture
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_a_wrong_result_is_an_error(small, no_warnings, monkeypatch):
    right = functional.conv2d
    monkeypatch.setattr(functional, "conv2d", lambda *given: right(*given) + 1)
    with pytest.raises(RuntimeError, match="forward: ours is not what PyTorch computes"):
        survey(3, 1, 1, lambda *told: None, repeats=1)


def test_where_pytorch_is_wrong_that_is_said_and_the_rest_goes_on(small, no_warnings, monkeypatch):
    right = torch.nn.functional.conv2d

    def wrong_in_float32(*given):
        return right(*given) + (1 if given[0].dtype is torch.float32 else 0)

    monkeypatch.setattr("hapgop.bench.surveys.F", SimpleNamespace(conv2d=wrong_in_float32))
    rows = survey(3, 1, 1, lambda *told: None, repeats=1)
    assert [row.wrong for row in rows] == [row.op == "forward" for row in rows]
    assert f"as ours is:\n  forward {rows[0].layer}" in surveying.text(rows)


@pytest.mark.parametrize(
    ("tries", "ratio", "measured"),
    [
        ([[0.9, 0.9, 0.9], [2.0, 2.0, 2.0]], 0.9, 1),
        ([[0.5, 0.9, 2.0], [1.1, 1.1, 1.1]], 1.1, 2),
        ([[1.0, 3.0, 9.0], [0.9, 0.9, 0.9]], 0.9, 2),
        ([[0.5, 0.9, 2.0], [0.6, 0.8, 1.0], [0.5, 2.0, 5.0], [1.0, 1.0, 1.0]], 0.8, 3),
    ],
    ids=["calm", "ours disturbed", "PyTorch disturbed", "never calm"],
)
def test_a_restless_row_is_measured_again_whoever_is_ahead(small, monkeypatch, tries, ratio, measured):
    left = iter(tries)
    monkeypatch.setattr(
        "hapgop.bench.surveys.interleave", lambda *_, **__: {"ours": [1.0, 1.0, 1.0], "PyTorch": next(left)}
    )
    monkeypatch.setattr("hapgop.bench.surveys.draw", lambda count, seed: small[:1])
    (row,) = survey(1, 1, 1, lambda *told: None, ops=["forward"], compare=False)
    assert row.ratio == ratio
    assert len(list(left)) == len(tries) - measured


ROW = bench.SurveyRow("a layer", "3x3", "forward", 2, "direct", 1.0, 2.0, 2.0, 2.1, {"direct": (1.0, 1.0)}, 1.0)


def test_what_rows_come_to():
    slow = replace(ROW, op="grad_x", ratio=0.5, best_ratio=0.6, near=1.2)
    noisy = replace(ROW, ratio=0.9, best_ratio=1.0)
    away = replace(ROW, algorithm="PyTorch: it is faster", ratio=1.0, near=None)
    assert [row.slower for row in (ROW, slow, noisy, away)] == [False, True, False, False]
    assert [row.poor for row in (ROW, slow, noisy, away)] == [False, True, False, False]
    total = bench.SurveySummary.of([ROW, slow, noisy, away])
    assert (total.rows, total.slower, total.to_pytorch, total.chosen) == (4, 1, 1, 3)
    assert total.mean == pytest.approx((2 * 0.5 * 0.9 * 1) ** 0.25)
    assert total.within == pytest.approx(2 / 3)
    text = surveying.text([ROW, slow, noisy, away])
    assert "  0.50 (best 0.60)  grad_x a layer: direct, 1.0000 ms, PyTorch 2.0000 ms" in text.splitlines()
    assert "  1.20  grad_x a layer: direct of direct 1.0000 ms (predicted 1.0000)" in text.splitlines()
    assert sum(int(line.split()[-2]) for line in text.splitlines() if line.endswith("#")) == 4
    assert "none" in surveying.text([ROW])
