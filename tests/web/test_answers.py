"""What servers answer, in JSON."""

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from hapgop.errors import InputError
from hapgop.web import HANDLERS, Json

NAME = "caf\udce9"  # of a file, in another encoding than the system's


def test_names_that_are_no_unicode_are_told():
    async def named(_):
        return Json({NAME: ["수박", NAME]})

    async def refused(_):
        raise InputError(f"{NAME}: no picture.")

    routes = [Route("/named", named), Route("/refused", refused)]
    client = TestClient(Starlette(routes=routes, exception_handlers=dict(HANDLERS)))
    assert client.get("/named").json() == {NAME: ["수박", NAME]}
    answer = client.get("/refused")
    assert (answer.status_code, answer.json()) == (400, {"error": f"{NAME}: no picture."})


def test_what_is_no_number_has_no_word():
    with pytest.raises(ValueError, match="not JSON compliant"):
        Json({"loss": float("nan")})
