import pytest

from hapgop.bench import Wanted, cases, choosing
from hapgop.bench.choosing import jobs
from hapgop.errors import InputError

TWO = "a ic=8 size=9 oc=4 kernel=3 n=1,8\nb ic=8 size=9 oc=4 kernel=1 n=2\npooled ic=8 size=9 oc=4 kernel=3 pool=2"

# (ic, size, oc, kernel, stride, depthwise, batch sizes): the layers whose speed was known before this engine was built.
KNOWN = [
    *[(c, size, c, 3, 1, False, n) for c, size, n in [
        (64, 224, 1), (128, 112, 1), (128, 112, 4), (256, 56, 1), (256, 56, 4), (512, 28, 1), (512, 14, 1),
        (512, 14, 16), (64, 56, 1), (64, 56, 16), (128, 28, 1), (128, 28, 16), (256, 14, 1), (256, 14, 16), (512, 7, 1),
        (512, 7, 16), (16, 32, 1), (16, 32, 128), (32, 16, 128), (64, 8, 1), (64, 8, 128), (64, 32, 128),
        (128, 16, 128), (256, 8, 128),
    ]],
    *[(ic, size, oc, 1, 1, False, n) for n in (1, 16) for ic, oc, size in [
        (64, 256, 56), (256, 64, 56), (512, 128, 28), (1024, 256, 14), (2048, 512, 7),
    ]],
    *[(128, 56, 128, 3, 2, False, n) for n in (1, 16)],
    *[(512, 14, 512, 3, 2, False, n) for n in (1, 16)],
    (64, 56, 128, 3, 2, False, 16), (64, 112, 128, 3, 2, False, 4), (128, 28, 256, 3, 2, False, 16),
    (256, 14, 512, 3, 2, False, 16),
    (3, 224, 64, 3, 1, False, 1), (3, 224, 64, 7, 2, False, 1), (3, 224, 64, 7, 2, False, 16),
    (3, 32, 32, 3, 1, False, 1), (3, 32, 32, 3, 1, False, 128),
    *[(c, size, c, k, s, True, n) for n in (1, 16) for c, size, k, s in [
        (32, 112, 3, 1), (144, 56, 3, 1), (144, 56, 3, 2), (576, 14, 3, 1), (96, 56, 7, 1),
    ]],
    (32, 28, 32, 5, 1, False, 128), (64, 32, 64, 5, 1, False, 32), (64, 27, 192, 5, 1, False, 1),
]  # fmt: skip


def names(wanted):
    return [(job.case.name, job.op, job.case.batch) for job in jobs(wanted)[0]]


def test_what_ships_has_the_layers_that_are_known():
    shipped = set()
    for case in cases():
        if case.kind == "conv":
            s = case.shape
            depthwise = s.groups == s.ic
            shipped |= {(s.ic, s.ih, s.oc, s.kh, s.stride[0], depthwise, n) for n in case.batches}
    assert set(KNOWN) <= shipped


def test_what_ships_has_every_class_and_each_name_once():
    every = cases()
    families = {case.family for case in every}
    assert {
        "3x3",
        "1x1",
        "first",
        "depthwise",
        "stride2",
        "5x5",
        "grouped",
        "dilated",
        "transposed",
        "cifar16",
    } <= families
    assert len({case.name for case in every}) == len(every)


def test_gradients_are_measured_at_the_last_batch_size():
    assert names(Wanted(text=TWO)) == [
        ("a", "forward", 1), ("a", "forward", 8), ("a", "grad_x", 8), ("a", "grad_w", 8),
        ("b", "forward", 2), ("b", "grad_x", 2), ("b", "grad_w", 2),
        ("pooled", "forward", 1), ("pooled", "backward", 1),
    ]  # fmt: skip


def test_batch_sizes_that_are_asked_for_replace_all_others():
    found = names(Wanted(text=TWO, names=["a"], batches=(3, 4)))
    assert found == [("a", op, n) for op in ("forward", "grad_x", "grad_w") for n in (3, 4)]


def test_a_quick_run_takes_the_first_batch_size():
    assert names(Wanted(text=TWO, names=["a"], quick=True)) == [("a", op, 1) for op in ("forward", "grad_x", "grad_w")]


def test_operations_and_classes_choose():
    assert names(Wanted(text=TWO, ops=["grad_x"], families=["1x1"])) == [("b", "grad_x", 2)]
    assert names(Wanted(text=TWO, ops=["backward"])) == [("pooled", "backward", 1)]


def test_what_is_too_large_is_left_out_with_a_word(monkeypatch):
    # x 8 x 4 x 9 x 9, y 8 x 4 x 7 x 7, w 4 x 4 x 3 x 3, four bytes each.
    exactly = 4 * (8 * 4 * 81 + 8 * 4 * 49 + 144)
    wanted = Wanted(text="a ic=4 size=9 oc=4 kernel=3 n=1,8", ops=["forward"])
    monkeypatch.setattr(choosing, "memory_bound", lambda: exactly)
    assert len(jobs(wanted)[0]) == 2
    monkeypatch.setattr(choosing, "memory_bound", lambda: exactly - 1)
    found, left_out = jobs(wanted)
    assert [job.case.batch for job in found] == [1]
    assert len(left_out) == 1
    assert "a forward with batch 8" in left_out[0]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"names": ["aa"]}, "--case aa: no case starts so; near it are a"),
        ({"families": ["9x9"]}, "--class 9x9: no case has this class; there are 1x1, 3x3, conv"),
        ({"ops": ["sideways"]}, "--op sideways: wanted is one of forward, grad_x, grad_w, backward"),
        ({"names": ["a"], "ops": ["backward"]}, "nothing is left to measure"),
    ],
)
def test_what_does_not_exist_is_said(wanted, words):
    with pytest.raises(InputError) as caught:
        jobs(Wanted(text=TWO, **wanted))
    assert words in str(caught.value)
