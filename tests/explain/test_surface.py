from hapgop import explain


def test_everything_public_says_what_it_is():
    assert all(getattr(explain, name).__doc__ for name in explain.__all__)


def test_there_is_no_other_name():
    assert not hasattr(explain, "explanation")
