"""A trained net at a port: pictures come in by HTTP, labels go out as JSON. Nothing here computes."""

from hapgop.serve.app import application
from hapgop.serve.together import Busy, Together

__all__ = ["Busy", "Together", "application"]
