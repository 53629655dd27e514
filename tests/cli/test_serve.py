"""`hapgop serve`: a process that answers until it is told to end, without PyTorch."""

import json
import signal
import subprocess
import sys
import urllib.request

import pytest
from starlette.testclient import TestClient

from hapgop.cli.commands import serve
from hapgop.web import free_socket


def test_it_answers_until_it_is_told_to_end(run, pictures):
    blocked = "import sys; sys.modules['torch'] = None; from hapgop.cli import main; main()"
    command = [sys.executable, "-c", blocked, "serve", str(run), "--port", "0", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            first = process.stdout.readline()
            assert "/predict answers (Ctrl-C ends it)" in first, process.stderr.read()
            address = first.split()[0]
            asked = urllib.request.Request(address, (pictures / "left.png").read_bytes())
            with urllib.request.urlopen(asked, timeout=30) as answer:
                assert json.load(answer)["label"] == "left"
            assert process.stdout.readline().strip() == f"curl --data-binary @picture.jpg {address}"
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) in (0, -signal.SIGTERM)
        finally:
            process.kill()
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--host", "203.0.113.7"], "is no address of this machine"), (["--port", "99999"], "65535")],
)
def test_a_place_that_cannot_be_is_said(hapgop, run, arguments, words):
    done = hapgop("serve", run, *arguments)
    assert done.code == 2
    assert words in done.err


def test_a_taken_port_is_said_before_the_net_is_planned(hapgop, tmp_path):
    with free_socket(0) as taken:
        done = hapgop("serve", tmp_path / "no run", "--port", taken.getsockname()[1])
    assert done.code == 2
    assert "is taken" in done.err


@pytest.mark.parametrize(
    ("host", "alone"), [("127.0.0.1", True), ("localhost", True), ("127.0.0.2", True), ("0.0.0.0", False)]
)
def test_foreign_names_are_answered_only_where_others_reach_it(hapgop, run, monkeypatch, host, alone):
    served = []
    monkeypatch.setattr(
        serve, "serve_until_stopped", lambda app, place, ready: (served.append(app), ready(), place.close())
    )
    done = hapgop("serve", run, "--host", host, "--port", "0")
    answer = TestClient(served[0], base_url="http://evil.example").get("/health")
    assert answer.status_code == (403 if alone else 200)
    assert ("whoever can reach" in done.err) != alone
