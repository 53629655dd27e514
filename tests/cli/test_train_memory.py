"""A machine with too little memory is no mistake of ours."""

import pytest

PYTORCHS = "[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: can't allocate memory: you tried to ..."


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError(PYTORCHS)], ids=["Python's", "PyTorch's"])
def test_too_little_memory_is_said(hapgop, monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setattr("hapgop.cli.commands.shapes.command", fail)
    done = hapgop("shapes")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("hapgop: there is too little memory for this: smaller images, or fewer at a time")


def test_other_errors_of_pytorch_are_still_ours(hapgop, monkeypatch):
    def fail():
        raise RuntimeError("expected scalar type Float")

    monkeypatch.setattr("hapgop.cli.commands.shapes.command", fail)
    done = hapgop("shapes")
    assert done.code == 1
    assert "a mistake of hapgop itself" in done.err
