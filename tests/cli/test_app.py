import itertools
import subprocess
import sys

import pytest

from hapgop._version import __version__
from hapgop.cli import COMMANDS, app
from hapgop.errors import InputError


def process(*arguments, code=None):
    command = [sys.executable, *(["-c", code] if code else ["-m", "hapgop"]), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_lists_every_command_and_loads_none():
    code = (
        "import sys\nfrom hapgop.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'PIL', 'sklearn', 'hapgop.train'} & set(sys.modules)\n"
        "loaded = [name for name in sys.modules if name.startswith('hapgop.cli.commands.')]\n"
        "assert not heavy and not loaded, (heavy, loaded)"
    )
    done = process(code=code)
    assert done.returncode == 0, done.stderr
    for name, words in COMMANDS.items():
        assert name in done.stdout
        assert words in " ".join(done.stdout.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(hapgop, name):
    done = hapgop(name, "--help")
    assert done.code == 0
    assert f"hapgop {name}" in done.out


@pytest.mark.parametrize("name", ["train", "demo", "shapes"])
def test_h_is_help_and_every_option_has_words(hapgop, name):
    done = hapgop(name, "-h")
    assert done.out == hapgop(name, "--help").out
    options = done.out.partition("Options:")[2]
    # Not what Python calls it, but what it is.
    for raw in ("<int>", "<float>", "<path>", "<str>", "INTEGER", "FLOAT", "PATH", "TEXT"):
        assert raw not in options
    lines = options.splitlines()
    for line, below in itertools.pairwise(lines):
        # Words stand beside a short option, and below a long one.
        if line.startswith("  -") and "  " not in line.strip():
            assert below.startswith("   "), line


def test_the_version(hapgop):
    done = hapgop("--version")
    assert (done.code, done.out, done.err) == (0, f"hapgop {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly"], "No such command 'fly'"),
        (["predict", "run", "a.png", "--speed", "9"], "No such option: --speed"),
        (["predict", "run", "a.png", "--top", "0"], "--top"),
        (["predict", "run"], "Missing argument"),
        (["--colour"], "No such option"),
    ],
)
def test_what_is_not_understood_exits_with_2(hapgop, arguments, words):
    done = hapgop(*arguments)
    assert done.code == 2
    assert words in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


def test_no_arguments_show_the_help(hapgop):
    done = hapgop()
    assert "Commands" in done.out + done.err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (InputError("the size [is] wrong"), 2, "hapgop: the size [is] wrong\n"),
        (OSError(28, "No space left on device", "/runs/x"), 1, "hapgop: /runs/x: No space left on device\n"),
        (KeyboardInterrupt(), 130, "hapgop: stopped.\n"),
        (
            ZeroDivisionError("division by zero"),
            1,
            "hapgop: this is a mistake of hapgop itself (ZeroDivisionError: division by zero)."
            " The same command with --debug shows where.\n",
        ),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch"),
            1,
            "hapgop: this needs torch, which is not installed: pip install 'hapgop[train]' brings it.\n",
        ),
    ],
)
def test_every_failure_is_one_line_and_a_code(hapgop, monkeypatch, error, code, words):
    def fail():
        raise error

    monkeypatch.setattr("hapgop.cli.commands.shapes.command", fail)
    done = hapgop("shapes")
    assert (done.code, done.out, done.err) == (code, "", words)


@pytest.mark.parametrize("arguments", [["--debug", "shapes"], ["shapes", "--debug"]])
def test_debug_shows_where_from_and_keeps_the_code(hapgop, monkeypatch, arguments):
    def fail():
        raise InputError("wrong")

    monkeypatch.setattr("hapgop.cli.commands.shapes.command", fail)
    done = hapgop(*arguments)
    assert done.code == 2
    assert "Traceback" in done.err
    assert "in fail" in done.err


def test_a_missing_package_is_named_even_when_the_command_cannot_be_loaded(hapgop, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(app.importlib, "import_module", missing)
    done = hapgop("train")
    assert done.code == 1
    assert done.err == "hapgop: this needs torch, which is not installed: pip install 'hapgop[train]' brings it.\n"


def test_as_a_user_types_it(tmp_path):
    done = process("predict", tmp_path / "nowhere", "a.png")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"{tmp_path / 'nowhere'}: a run folder is wanted" in done.stderr


def test_a_closed_pipe_is_no_traceback(run, pictures):
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-m', 'hapgop', 'shapes', sys.argv[1], '--json'],"
        " stdout=subprocess.PIPE, stderr=subprocess.PIPE)\n"
        "child.stdout.close()\n"
        "sys.stderr.write(child.stderr.read().decode())"
    )
    assert "Traceback" not in process(run, code=code).stderr
