"""Algorithms chosen within a net: what was measured there decides, is kept, and changes no result."""

from dataclasses import replace

import numpy as np
import pytest

from hapgop import engine
from hapgop.engine import tuning
from hapgop.engine.choices import Choices
from hapgop.machine import host
from hapgop.native import clocked
from hapgop.program import Graph, Node, Program, in_place


@pytest.fixture
def small_caches(monkeypatch, tmp_path):
    """Choices in a folder of their own; a machine in whose caches no weights fit."""
    monkeypatch.setattr(tuning, "choices_for", lambda machine: Choices(tmp_path / "choices.json"))
    tuning.choices.cache_clear()
    monkeypatch.setattr(in_place, "host", lambda: replace(host(), l2=1))
    engine.set_tuning("close", 1000.0)
    yield
    engine.set_tuning("off")
    tuning.choices.cache_clear()


def net():
    attrs = {"out_channels": 32, "kernel_size": 3, "padding": 1}
    nodes = tuple(
        Node(name, "conv2d", (source,), attrs, {"weight": name}) for name, source in (("a", "input"), ("b", "a"))
    )
    random = np.random.default_rng(1)
    tensors = {name: random.integers(-1, 2, (32, 32, 3, 3)).astype(np.float32) for name in "ab"}
    return Graph((32, 14, 14), nodes, "b"), tensors, random.integers(-1, 2, (1, 32, 14, 14)).astype(np.float32)


def test_the_fastest_in_the_net_is_taken_and_kept(small_caches, monkeypatch):
    graph, tensors, x = net()
    asked = []

    def measured(plan, problems, known, tensors):
        asked.append(problems)
        # The last of its candidates was the fastest, whatever it is.
        names = {p: [c.plan.algorithm.name for c in engine.prepare_candidates(p, 2.5)] for p in problems}
        return {p: {name: 1.0 / (i + 1) for i, name in enumerate(names[p])} for p in problems}

    monkeypatch.setattr(in_place, "_measured", measured)
    first = Program(graph, tensors, threads=1)
    (problem,) = {step.problem for step in first.plan().steps}
    wanted = engine.prepare_candidates(problem, 2.5)[-1].plan.algorithm.name
    assert {cost.algorithm for cost in first.plan().costs} == {wanted}
    again = Program(graph, tensors, threads=2)
    assert {cost.algorithm for cost in again.plan().costs} == {wanted}
    assert asked == [[problem]]
    assert np.array_equal(first(x), again(x))


def test_measuring_within_a_net_keeps_its_results(small_caches, monkeypatch):
    graph, tensors, x = net()
    kept = []
    monkeypatch.setattr(in_place, "keep", lambda key, times: kept.append(times) or times)
    got = Program(graph, tensors)(x)
    if clocked():
        assert kept
        assert all(len(times) > 1 and min(times.values()) > 0 for times in kept)
    engine.set_tuning("off")
    assert np.abs(got - Program(graph, tensors)(x)).max() < 1e-2


def test_nothing_is_chosen_where_tuning_is_off(small_caches):
    graph, tensors, _ = net()
    engine.set_tuning("off")
    assert in_place.chosen_in_place(Program(graph, tensors).plan(), tensors) == {}
