import importlib.util
from pathlib import Path

import pytest
import torch

import hapgop.nn
from hapgop import engine
from hapgop.nn import routes

_spec = importlib.util.spec_from_file_location("nn_definition", Path(__file__).parent / "definition.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)


@pytest.fixture(scope="session", autouse=True)
def _two_threads():
    torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def _fresh():
    """Every test counts from zero, draws the same numbers, and leaves no compiled graphs behind."""
    torch.manual_seed(0)
    hapgop.nn.reset_report()
    yield
    torch.compiler.reset()


@pytest.fixture
def definition(monkeypatch):
    """The engine replaced by the oracle, which takes everything in every memory order and both dtypes."""
    stand_in = _module.Definition(engine.Refused)
    monkeypatch.setattr(engine, "prepare", stand_in.prepare)
    routes.forget()
    yield stand_in
    routes.forget()
