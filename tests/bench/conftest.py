import pytest
import torch

from hapgop.bench.rows import BenchResult, Match, Row


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def row():
    """A row from what differs from the plainest one."""

    def make(case="a", ratio=2.0, **other):
        values = {
            "case": case,
            "op": "forward",
            "batch": 1,
            "threads": 1,
            "algorithm": "direct",
            "ours_ms": 1.0,
            "peers": {"torch eager, contiguous": ratio, "ncnn": 2 * ratio},
            "strongest": "torch eager, contiguous",
            "ratio": ratio,
            "best_ratio": ratio,
            "error": 1e-6,
            "peer_error": 1e-6,
            "peak_share": 0.5,
            "family": "3x3",
            "eager": Match(1.0, False, "direct", "torch eager, contiguous", ratio, ratio),
            "prepacked": Match(1.0, False, "direct", "ncnn", 2 * ratio, 2 * ratio),
        }
        return Row(**{**values, **other})

    return make


@pytest.fixture
def result(row):
    """Three classes, five rows, two of them slower; one by a Winograd algorithm."""
    machine = {
        "name": "A machine",
        "isa": "avx512",
        "cores": 2,
        "threads": [1, 2],
        "hapgop": "0.1.0",
        "versions": {"torch": "2.13.0"},
        "missing": {"openvino": "openvino not installed"},
        "left_out": ["huge forward with batch 128: 3136 MiB, and 1506 are allowed"],
        "allocator": "default on both sides",
        "command": "hapgop bench layers",
        "peaks": [{"threads": 1, "gflops": 100.0, "bandwidth": 20.0, "when": "before"}],
    }
    rows = (
        row("a", 2.0),
        row("b", 8.0, algorithm="winograd F(4x4)", peak_share=None, gflops=345.6),
        row("c", 0.5, family="1x1"),
        row("d", 0.9, family="first", best_ratio=1.1),
        row("e", 0.5, family="first", op="grad_w", prepacked=None),
    )
    return BenchResult(machine, rows)
