import importlib.util
from pathlib import Path

import pytest
import torch

from hapgop import engine

_spec = importlib.util.spec_from_file_location("nn_definition", Path(__file__).parent / "definition.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

if not hasattr(engine, "Refused"):

    class Refused(Exception):
        pass

    engine.Refused = Refused
    engine.prepare = _module.Definition(Refused).prepare

import hapgop.nn  # noqa: E402
from hapgop.nn import routes  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def _two_threads():
    torch.set_num_threads(2)


@pytest.fixture
def definition(monkeypatch):
    """The engine replaced by the oracle, which takes everything."""
    stand_in = _module.Definition(engine.Refused)
    monkeypatch.setattr(engine, "prepare", stand_in.prepare)
    routes.forget()
    hapgop.nn.reset_report()
    yield stand_in
    routes.forget()
