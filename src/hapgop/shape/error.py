"""The error of every setting that cannot be."""

from hapgop.errors import InputError


class ShapeError(InputError):
    """A setting that does not fit: the message names it, shows the formula, and proposes what would work."""
