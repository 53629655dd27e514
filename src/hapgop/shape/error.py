"""The error of every setting that cannot be."""

from hapgop.errors import InputError


class ShapeError(InputError, RuntimeError):
    """A setting that does not fit: the message names it, shows the formula, and proposes what would work.

    A RuntimeError too, which is what PyTorch's own operators raise there.
    """
