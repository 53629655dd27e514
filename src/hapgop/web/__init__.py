"""What every server here has in common: a place on this machine, whom it answers, and what is too much."""

from hapgop.web.answers import Json
from hapgop.web.limits import HANDLERS, LocalOnly, body
from hapgop.web.place import HOST, address, free_socket, is_local, serve_until_stopped, settings
from hapgop.web.uploads import check_pixels, picture, pixels

__all__ = [
    "HANDLERS",
    "HOST",
    "Json",
    "LocalOnly",
    "address",
    "body",
    "check_pixels",
    "free_socket",
    "is_local",
    "picture",
    "pixels",
    "serve_until_stopped",
    "settings",
]
