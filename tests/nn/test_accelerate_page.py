"""The page about accelerate: what it shows runs, and what it promises of numbers is so."""

import re
from pathlib import Path

import torch

from hapgop.nn import nets
from hapgop.nn.compiling import backend, compiler
from hapgop.program import program

PAGE = (Path(__file__).parents[2] / "docs/accelerate.md").read_text()


def test_its_examples_run():
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) == 3
    names = {"backend": backend}
    torch.use_deterministic_algorithms(True)
    try:
        for block in blocks:
            # The name is found where the package is installed; here it may be older than this page.
            exec(block.replace('backend="hapgop"', "backend=backend"), names)
    finally:
        torch.use_deterministic_algorithms(False)
    assert {"resnet50", "resnet18"} <= set(nets.NAMES)


def test_its_numbers():
    assert (program._PLANS, compiler._SHAPES) == (8, 4)
