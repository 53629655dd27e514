"""`hapgop train | predict | evaluate | export | serve | look | learn | shapes | demo | bench | doctor`."""

from hapgop.cli.app import COMMANDS, main

__all__ = ["COMMANDS", "main"]
