"""Text to loaded code by way of the object cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hapgop.native import cache
from hapgop.native.loaded import Code
from hapgop.native.target import identity, late_compiler


def code(
    key: str, text: Callable[[], str], cpu: str = "host", symbols: Mapping[str, int] | None = None
) -> tuple[Code, bool]:
    """(the code that a key stands for, whether it was compiled now).

    key: names everything that decides the text; LLVM's version and the CPU are added here. symbols: addresses of the
    functions that it calls. An object that cannot be loaded is made again.
    """
    full = cache.digest(key, identity(cpu))
    image = cache.read(full)
    if image is not None:
        try:
            return Code(image, symbols), False
        except RuntimeError:
            pass  # damaged in a way that the checksum does not see: another platform's object, say
    image = late_compiler().compile_object(text(), cpu)
    made = Code(image, symbols)
    cache.write(full, image)
    return made, True
