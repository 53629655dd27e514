"""Where servers listen."""

import pytest

from hapgop.errors import InputError
from hapgop.web import address, free_socket, place


def test_a_port_is_taken_before_anything_answers_there():
    with free_socket(0) as taken:
        with pytest.raises(InputError, match=r"Port \d+ is taken"):
            free_socket(taken.getsockname()[1])


def test_a_free_port_is_found_beside_a_taken_one(monkeypatch):
    taken = free_socket(0)
    monkeypatch.setattr(place, "PORT", taken.getsockname()[1])
    other = free_socket(None)
    assert other.getsockname()[1] > taken.getsockname()[1]
    other.close()
    taken.close()


def test_another_host_has_to_be_this_machine():
    with pytest.raises(InputError, match=r"'203\.0\.113\.7' is no address of this machine"):
        free_socket(0, "203.0.113.7")
    with pytest.raises(InputError, match="'no such host' is no address"):
        free_socket(None, "no such host")
    with free_socket(0, "0.0.0.0") as everywhere:
        assert address(everywhere).startswith("http://127.0.0.1:")
    with free_socket(0) as here:
        assert address(here, "/#/x") == f"http://127.0.0.1:{here.getsockname()[1]}/#/x"
