"""A cache bounded in bytes: what is used stays, what is not goes."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from hapgop.engine.kept import Kept


def test_what_was_put_is_found():
    kept = Kept(100)
    kept.put("a", 1, 10)
    kept.put("b", 2, 10)
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (1, 2, None)
    assert (len(kept), kept.size) == (2, 20)


def test_what_a_signals_handler_finds_in_the_midst_is_not_kept():
    kept = Kept(100)
    with kept._lock:
        kept.put("a", 1, 10)
        assert kept.get("a") is None
    assert kept.size == 0


def test_a_value_is_replaced():
    kept = Kept(100)
    kept.put("a", 1, 60)
    kept.put("a", 2, 50)
    assert (kept.get("a"), len(kept), kept.size) == (2, 1, 50)


def test_what_is_not_used_goes_first():
    kept = Kept(30)
    for key in "abc":
        kept.put(key, key, 10)
    kept.get("a")
    kept.put("d", "d", 10)
    assert [kept.get(key) for key in "abcd"] == ["a", None, "c", "d"]


def test_to_have_been_used_spares_once():
    kept = Kept(20)
    kept.put("a", 1, 10)
    kept.get("a")
    for key in "bcde":
        kept.put(key, key, 10)
    assert kept.get("a") is None
    assert kept.get("e") == "e"


def test_the_latest_is_kept_however_large():
    kept = Kept(10)
    kept.put("a", 1, 5)
    kept.put("b", 2, 50)
    assert (kept.get("a"), kept.get("b"), kept.size) == (None, 2, 50)


def test_nothing_is_kept_after_clearing():
    kept = Kept(10)
    kept.put("a", 1, 5)
    kept.clear()
    assert (kept.get("a"), len(kept), kept.size) == (None, 0, 0)


def test_what_was_made_before_clearing_is_not_kept():
    kept = Kept(10)
    before = kept.clears
    kept.clear()
    kept.put("a", 1, 5, before)
    assert (kept.get("a"), kept.size) == (None, 0)
    kept.put("a", 2, 5, kept.clears)
    assert kept.get("a") == 2


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 40), st.booleans())))
def test_never_more_than_allowed(steps):
    kept, sizes = Kept(100), {}
    for key, size, look in steps:
        if look:
            assert kept.get(key) in (None, sizes.get(key))
        else:
            sizes[key] = size
            kept.put(key, size, size)
            assert kept.get(key) == size
        held = [kept.get(k) for k in "abcdefgh"]
        assert kept.size == sum(h for h in held if h) <= 100
        assert len(kept) == sum(h is not None for h in held)


def test_several_threads_put_and_look():
    kept, errors = Kept(500), []

    def go(mark):
        try:
            for turn in range(3000):
                key = (turn * mark) % 97
                found = kept.get(key)
                assert found in (None, key)
                if found is None:
                    kept.put(key, key, 10)
        except BaseException as error:
            errors.append(error)

    callers = [threading.Thread(target=go, args=(i + 1,)) for i in range(4)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(60)
    assert not errors
    assert kept.size == 10 * len(kept) <= 500
