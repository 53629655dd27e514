"""The public face of the room, and its examples."""

import doctest
import pkgutil
from importlib import import_module

import hapgop.machine as room


def test_the_face_is_all():
    inner = {name for _, name, _ in pkgutil.iter_modules(room.__path__)}
    public = {name for name in vars(room) if not name.startswith("_")}
    assert set(room.__all__) == public - (inner - set(room.__all__))


def test_examples_run():
    tried = 0
    for _, name, _ in pkgutil.iter_modules(room.__path__):
        outcome = doctest.testmod(import_module(f"hapgop.machine.{name}"), raise_on_error=False)
        assert outcome.failed == 0, name
        tried += outcome.attempted
    assert tried
