import pytest

from hapgop.cli import bars
from hapgop.cli.bars import Bar


@pytest.fixture
def minutes(monkeypatch):
    """Lets minutes pass."""
    now = [0.0]
    monkeypatch.setattr(bars.time, "monotonic", lambda: now[0])

    def passing(count):
        now[0] += 60.0 * count

    return passing


def test_without_a_terminal_long_work_is_told_a_line_a_minute(minutes, capsys):
    with Bar() as bar:
        for done in range(7):
            bar.count("decoding pictures", 1000 * done, 6000)
            minutes(0.4)
        bar.count("layer", 7, 8, "7/8, 20 s left")
    assert capsys.readouterr().err.splitlines() == [
        "decoding pictures: 3,000 of 6,000",
        "decoding pictures: 6,000 of 6,000",
    ]


def test_words_stand_where_there_are_some(minutes, capsys):
    with Bar() as bar:
        minutes(2)
        bar.count("layer", 7, 8, "7/8, 20 s left")
    assert capsys.readouterr().err == "layer: 7/8, 20 s left\n"


def test_a_quiet_bar_says_nothing(minutes, capsys):
    with Bar(lines=True, quiet=True) as bar:
        minutes(2)
        bar.count("layer", 7, 8)
    assert capsys.readouterr().err == ""
