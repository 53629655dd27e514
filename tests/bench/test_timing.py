from hapgop.bench import timing
from hapgop.bench.timing import interleave, paired, spread


def calls(log, *names):
    return {name: (lambda name=name: log.append(name)) for name in names}


def first_turns(log):
    """The order of the turns, without the repetitions within one."""
    return [name for i, name in enumerate(log) if i == 0 or log[i - 1] != name]


def test_every_round_starts_with_another_side(monkeypatch):
    monkeypatch.setattr(timing, "_duration", lambda call: 1.0)  # so long that each turn is one call
    log = []
    times = interleave(calls(log, "a", "b", "c"), 3)
    assert log == [*"abc", *"bca", *"cab"]
    assert {name: len(t) for name, t in times.items()} == {"a": 3, "b": 3, "c": 3}


def test_who_cannot_become_the_strongest_stops_after_three_rounds():
    log, seen = [], []

    def contenders(medians):
        seen.append(set(medians))
        return ["a", "c"]

    times = interleave(calls(log, "a", "b", "c"), 6, contenders=contenders)
    assert {name: len(t) for name, t in times.items()} == {"a": 6, "b": 3, "c": 6}
    assert seen == [{"a", "b", "c"}]


def test_time_ends_it_but_not_before_five_rounds():
    times = interleave(calls([], "a", "b"), 40, seconds=0)
    assert [len(t) for t in times.values()] == [5, 5]


def test_few_rounds_are_as_many_as_asked_for():
    assert [len(t) for t in interleave(calls([], "a", "b"), 2).values()] == [2, 2]


def test_a_short_call_is_repeated_for_a_whole_turn(monkeypatch):
    monkeypatch.setattr(timing, "_duration", lambda call: 1e-5)
    log = []
    interleave(calls(log, "a", "b"), 1)
    assert log.count("a") == 200 + 1 + 25  # 2 ms of 10 us, and the calls before them that do not count


def test_a_side_that_computes_elsewhere_has_its_own_clock():
    steps = []
    times = interleave({"a": lambda: steps.append(1), "b": list}, 2, clocks={"a": lambda: 5.0 * len(steps)})
    assert times["a"] == [5.0, 5.0]
    assert max(times["b"]) < 5


def test_ratios_are_taken_round_by_round():
    ours, theirs = [1.0, 2.0, 4.0], [3.0, 4.0, 4.0]
    assert paired(ours, theirs) == (2.0, 3.0)


def test_spread_is_the_middle_half_over_the_median():
    assert spread([1.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0]) == 2 / 3
    assert spread([2.0, 4.0], [1.0, 2.0]) == 0
    assert spread([1.0], [7.0]) == 0
