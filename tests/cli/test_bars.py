import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from hapgop.cli import bars, console, reporting, training
from hapgop.cli.bars import Bar
from hapgop.nn import CallReport
from hapgop.train import Finding, Step


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


def terminal(monkeypatch, width):
    """Standard error as a terminal of so many columns; what is drawn there."""
    drawn = io.StringIO()
    monkeypatch.setattr(
        console, "err", lambda: Console(file=drawn, width=width, force_terminal=True, legacy_windows=False)
    )
    return drawn


STEP = Step(12, 60, 249, 250, 1.234, 0.567, 12345.0, 3723.0, 0.023)


@pytest.mark.parametrize(
    ("width", "words"),
    [
        (200, "loss 1.234, 56.7% right, 12,345 images/s, 2.3% waiting for data, 1:02:03 left"),
        (80, "loss 1.234, 56.7% right, 1:02:03 left"),
        (60, "56.7% right, 1:02:03 left"),
        (40, "1:02:03 left"),
    ],
)
def test_in_fewer_columns_the_time_left_stays(monkeypatch, width, words):
    drawn = terminal(monkeypatch, width)
    monkeypatch.setattr(bars.time, "monotonic", lambda: 1000.0)
    with Bar() as bar:
        bar.training(STEP)
    assert "epoch 12/60 " in drawn.getvalue()
    assert f" 20 % {words}" in drawn.getvalue()
    assert "…" not in drawn.getvalue()


def test_every_width_has_room_for_what_is_drawn():
    words = bars._words(STEP)
    for width in range(40, 240):
        chosen, bar = bars.laid_out(width, "epoch 12/60", words)
        assert len("epoch 12/60") + 1 + bar + 1 + len(" 20 %") + 1 + len(chosen) <= width
        assert 8 <= bar <= 40
        assert chosen.endswith("1:02:03 left")


FINDINGS = [
    Finding("unreadable files", 1, "dark/as_cameras_name_them_20240101_120000.png (the file holds text)", "skipped"),
    Finding("the same image in two classes", 2, "dark/0.png (dark) = light/1 [of 2].png (light)", "one label is wrong"),
]


@pytest.mark.parametrize("width", [60, 80, 109])
def test_in_few_columns_findings_are_a_list(monkeypatch, width):
    drawn = terminal(monkeypatch, width)
    monkeypatch.setattr(training.train, "scan", lambda data: FINDINGS)
    training.checked(SimpleNamespace(notes=()))
    lines = [line.rstrip() for line in drawn.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()]
    assert "unreadable files (1): skipped" in lines
    assert "the same image in two classes (2): one label is wrong" in lines
    assert any("dark/as_cameras_name_them_20240101_120000.png" in line for line in lines)
    assert all(len(line) <= width for line in lines)


def test_in_many_columns_findings_are_a_table(monkeypatch):
    drawn = terminal(monkeypatch, 140)
    monkeypatch.setattr(training.train, "scan", lambda data: FINDINGS)
    training.checked(SimpleNamespace(notes=()))
    assert "found in the data" in drawn.getvalue()


def test_what_pytorch_computed_is_a_line(capsys):
    some = {("conv", "too small"): 4, ("grad_w", "too small"): 2, ("pool", "float64"): 1, ("conv", "odd"): 1}
    reporting.tell_calls(CallReport({("conv", "direct"): 992}, some))
    said = capsys.readouterr()
    assert said.err == (
        "note: PyTorch computed 8 of 1,000 convolutions and pools (too small; float64; 1 other reason).\n"
    )
    reporting.tell_calls(CallReport({("conv", "direct"): 992}))
    reporting.tell_calls(CallReport())
    assert capsys.readouterr() == ("", "")
    reporting.tell_calls(CallReport({("conv", "direct"): 992}), all_of_them=True)
    assert "conv    992  direct" in capsys.readouterr().out
