import pytest
import torch

from hapgop.bench import allocator, bench_layers, from_text, layers, measuring, plan, sides
from hapgop.bench.choosing import Wanted
from hapgop.bench.measuring import Judge, _contenders, measured
from hapgop.bench.peak import Peak
from hapgop.bench.peers import Entry, Peer
from hapgop.bench.work import eager, work
from hapgop.errors import InputError

TINY = "tiny ic=4 size=6 oc=5 kernel=3 padding=1 n=5 class=3x3"
KINDS = """
tiny ic=4 size=6 oc=6 kernel=3 padding=1 n=3
pooled ic=4 size=6 oc=6 kernel=3 padding=1 n=3 pool=2
up ic=4 size=5 oc=6 kernel=4 stride=2 padding=1 n=3 transposed=1
depthwise ic=4 size=6 oc=4 kernel=3 groups=4 n=3
"""
PEAK = Peak(1, 100.0, 10.0)


class Fake(Peer):
    """A peer with a given result, one of the two kinds."""

    packages = ("torch",)

    def __init__(self, name, change=lambda y: y, prepacked=False):
        self.name, self.change, self.prepacked = name, change, prepacked

    def computes(self, case, op):
        return True

    def entry(self, work, threads):
        call = eager(work, lambda tensor: tensor)
        return Entry(lambda: self.change(call()))


def judge(op="forward", text=TINY):
    return Judge(work(from_text(text)[0], op))


def measure(judged, peers, again=0, words=None):
    return measured(judged, peers, 1, 2, again, PEAK, [] if words is None else words)


@pytest.mark.parametrize("line", KINDS.strip().splitlines(), ids=lambda line: line.split()[0])
def test_our_side_computes_every_operation(line):
    (case,) = from_text(line)
    for op in case.ops:
        judged = Judge(work(case, op))
        assert judged.error(sides.ours(judged.work)()) < 1e-5


@pytest.mark.parametrize("line", KINDS.strip().splitlines(), ids=lambda line: line.split()[0])
def test_our_side_computes_with_weights_packed_ahead(line):
    (case,) = from_text(line)
    judged = Judge(work(case, "forward"))
    call, algorithm = sides.prepacked(judged.work)
    assert judged.error(call()) < 1e-5
    assert algorithm
    for op in case.ops[1:]:
        assert sides.prepacked(work(case, op)) is None


def test_only_the_ends_of_a_batch_are_computed_in_float64():
    judged = judge()
    right = sides.ours(judged.work)()
    assert judged.error(right) < 1e-5
    for image, seen in ((0, True), (2, False), (4, True)):
        wrong = right.clone()
        wrong[image, 0, 0, 0] += 1
        assert (judged.error(wrong) > 1e-2) is seen
        # What lies between is compared with what PyTorch computes.
        assert judged.difference(wrong) > 1e-2
    assert judged.difference(right) < 1e-5


def test_the_gradient_of_the_weights_sums_over_all_images():
    judged = judge("grad_w")
    assert judged.work.ends() is judged.work
    result = sides.ours(judged.work)()
    assert judged.error(result) < 1e-5
    assert judged.difference(result) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_an_error(value):
    judged = judge()
    wrong = sides.ours(judged.work)().clone()
    wrong[0, 0, 0, 0] = value
    assert judged.error(wrong) == float("inf")
    assert judged.error(wrong[:, :1]) == float("inf")


def off_by_one(image):
    """Makes a result wrong in one image."""

    def change(y):
        y = y.clone()
        y[image, 0, 0, 0] += 1
        return y

    return change


WRONG = [(0, "differs from float64"), (2, "differs from PyTorch between the first and the last image")]


@pytest.mark.parametrize(("image", "words"), WRONG)
@pytest.mark.parametrize("side", ["ours", "ours, prepacked"])
def test_a_wrong_result_of_ours_ends_the_run(monkeypatch, side, image, words):
    ours, change = sides.ours, off_by_one(image)

    def wrong(work):
        call = ours(work)
        return lambda: change(call())

    if side == "ours":
        monkeypatch.setattr(measuring.sides, "ours", wrong)
    else:
        monkeypatch.setattr(measuring.sides, "prepacked", lambda work: (wrong(work), "direct"))
    with pytest.raises(RuntimeError, match=rf"tiny forward n=5: {side} {words}"):
        measure(judge(), [Fake("one")])


@pytest.mark.parametrize(("image", "said"), WRONG)
@pytest.mark.parametrize("names", [("wrong", "good"), ("good", "wrong")])
def test_a_peer_that_is_wrong_in_any_image_costs_only_itself(names, image, said):
    words, change = [], off_by_one(image)
    peers = [Fake(name, change) if name == "wrong" else Fake(name) for name in names]
    assert set(measure(judge(), peers, words=words).peers) == {"good"}
    assert len(words) == 1
    assert f"wrong {said}" in words[0]


def test_a_wrong_or_failing_peer_costs_only_itself():
    def fail(y):
        raise OSError("no licence")

    words = []
    row = measure(judge(), [Fake("wrong", lambda y: y + 1), Fake("failing", fail), Fake("good")], words=words)
    assert row.strongest == "good"
    assert set(row.peers) == {"good"}
    assert len(words) == 2
    assert "wrong differs from float64" in words[0]
    assert "failing failed (OSError: no licence)" in words[1]


def test_a_row_without_a_peer_is_left_out_with_a_word():
    words = []
    assert measure(judge(), [Fake("wrong", lambda y: y + 1)], words=words) is None
    assert "no peer is left" in words[-1]


def test_the_row_is_that_of_the_fastest_peer_and_both_kinds_are_kept(monkeypatch):
    monkeypatch.setattr(measuring.sides, "prepacked", lambda work: None)

    def slowed(y):
        for _ in range(300):
            y = y + 0
        return y

    row = measure(judge(), [Fake("eager", slowed), Fake("packed", prepacked=True)])
    assert row.strongest == "packed"
    assert (row.eager.strongest, row.prepacked.strongest) == ("eager", "packed")
    assert not row.prepacked.ours_prepacked
    assert row.ratio == row.prepacked.ratio < row.eager.ratio
    assert set(row.peers) == {"eager", "packed"}


def test_of_each_kind_those_go_on_that_may_be_the_strongest():
    kinds = {"e1": False, "e2": False, "e3": False, "p1": True, "p2": True}
    medians = {"ours": 9.0, "ours, prepacked": 9.0, "e1": 1.0, "e2": 1.3, "e3": 1.4, "p1": 0.5, "p2": 0.1}
    assert set(_contenders(medians, kinds)) == {"ours", "ours, prepacked", "e1", "e2", "p2"}


def test_prepacked_weights_of_ours_meet_those_of_peers(monkeypatch):
    monkeypatch.setattr(measuring.sides, "prepacked", lambda work: (sides.ours(work), "winograd F(4x4)"))
    row = measure(judge(), [Fake("packed", prepacked=True)])
    assert row.prepacked.ours_prepacked
    assert (row.algorithm, row.peak_share) == ("winograd F(4x4)", None)
    row = measure(judge(), [Fake("eager")])
    assert not row.eager.ours_prepacked
    assert (row.algorithm, row.prepacked) == ("direct", None)
    assert 0 < row.peak_share < 1


def test_a_restless_row_is_measured_again(monkeypatch):
    spreads = iter([0.5, 0.3, 0.4, 0.1])
    monkeypatch.setattr(measuring, "spread", lambda ours, theirs: next(spreads))
    row = measure(judge(), [Fake("one")], again=2)
    assert (row.measured, row.spread) == (3, 0.3)
    assert measure(judge(), [Fake("one")], again=2).measured == 1


def test_the_algorithms_are_named_in_the_order_of_their_use():
    (case,) = from_text("a ic=4 size=8 oc=6 kernel=3 pool=3")  # No convolution fuses a pool of 3x3.
    names = sides.algorithm(sides.ours(work(case, "forward"))).split(" + ")
    assert len(names) == 2
    assert names[1] == "pool"
    half = torch.ones(1, 4, 6, 6, dtype=torch.float16)
    weight = torch.ones(4, 4, 3, 3, dtype=torch.float16)
    assert sides.algorithm(lambda: sides.functional.conv2d(half, weight)).startswith("PyTorch: ")


def test_the_share_is_of_the_higher_peak(monkeypatch):
    monkeypatch.setattr(measuring.sides, "prepacked", lambda work: None)
    run = plan(Wanted(text=TINY, ops=["forward"]), against=["torch"], threads=(1,), repeats=2)
    for before, after, share in ((100.0, 200.0, 0.5), (100.0, 50.0, 1.0)):
        peaks = iter([Peak(1, before, 1.0), Peak(1, after, 1.0)])
        shares = []
        monkeypatch.setattr(layers, "measure_peak", lambda threads, peaks=peaks: next(peaks))

        def noted(*given, shares=shares):
            row = measured(*given)
            shares.append(row.peak_share)
            return row

        monkeypatch.setattr(layers, "measured", noted)
        (row,) = bench_layers(run, "", lambda *_: None).rows
        assert row.peak_share == shares[0] * share


def test_a_small_run_from_end_to_end():
    seen = []
    run = plan(Wanted(text=TINY), against=["torch"], threads=(1, 2), repeats=2)
    assert run.rows == 6
    assert run.minutes > 0
    result = bench_layers(run, "the command", lambda done, total, name: seen.append((done, total)))
    assert [(row.op, row.threads) for row in result.rows] == [
        (op, threads) for op in ("forward", "grad_x", "grad_w") for threads in (1, 2)
    ]
    for row in result.rows:
        assert row.error < 1e-5
        assert row.peer_error < 1e-5
        assert row.strongest == min(row.peers, key=row.peers.get)
        assert row.ratio > 0
        assert row.best_ratio > 0
        assert row.rounds == 2
        assert (row.family, row.batch) == ("3x3", 5)
        assert (row.prepacked is not None) is (row.op == "forward")
    assert seen[0] == (0, 6)
    assert seen[-1] == (6, 6)
    machine = result.machine
    assert machine["command"] == "the command"
    assert [(peak["threads"], peak["when"]) for peak in machine["peaks"]] == [
        (threads, when) for threads in (1, 2) for when in ("before", "after")
    ]
    assert all(peak["gflops"] > 0 and peak["bandwidth"] > 0 for peak in machine["peaks"])
    assert machine["allocator"] == "default on both sides"


def test_allocators(monkeypatch):
    calls = []
    monkeypatch.setattr(allocator, "tune_allocator", lambda: calls.append(1) or True)
    assert allocator.use_allocator("default") == "default on both sides"
    assert calls == []
    assert allocator.use_allocator("tuned").startswith("tuned on both sides")
    assert calls == [1]
    with pytest.raises(InputError, match="--allocator jemalloc: wanted is one of default, tuned"):
        allocator.use_allocator("jemalloc")


def test_a_library_without_the_setting_is_said(monkeypatch):
    monkeypatch.setattr(allocator, "tune_allocator", lambda: False)
    with pytest.raises(InputError, match="there is no glibc here"):
        allocator.use_allocator("tuned")
