import pytest
import torch
from nn_definition import Definition

import hapgop.nn
from hapgop import engine
from hapgop.nn import routes
from hapgop.nn.accelerating import choosing


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
def chosen_anew():
    """Nothing of what other tests measured counts, and nothing of it stays."""
    choosing.forget_choices()
    yield
    choosing.forget_choices()


@pytest.fixture
def always_ours(chosen_anew):
    """Nothing is measured, so that it is ours that is tested, and the same bits each time."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def definition(monkeypatch):
    """The engine replaced by the oracle, which takes everything in every memory order and both dtypes."""
    stand_in = Definition(engine.Refused)
    monkeypatch.setattr(engine, "prepare", stand_in.prepare)
    routes.forget()
    yield stand_in
    routes.forget()
