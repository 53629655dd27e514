"""Answers as JSON that any name can be told in."""

import json
from typing import Any

from starlette.responses import JSONResponse


class Json(JSONResponse):
    """JSON in ASCII alone, every other character by its number.

    Labels are names of folders, and those may be no Unicode: left as they are, they cannot be encoded. Raises
    ValueError for NaN and the infinite, which JSON does not have.
    """

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")
