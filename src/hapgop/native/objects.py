"""Text to loaded code by way of the object cache."""

from __future__ import annotations

from collections.abc import Callable

from hapgop.native import cache, compiler


def code(key: str, text: Callable[[], str], cpu: str = "host") -> tuple[compiler.Code, bool]:
    """(the code that a key stands for, whether it was compiled now).

    key: names everything that decides the text; LLVM's version and the CPU are added here. An object that cannot be
    loaded is made again.
    """
    full = cache.digest(key, compiler.identity(cpu))
    image = cache.read(full)
    if image is not None:
        try:
            return compiler.Code(image), False
        except RuntimeError:
            pass  # damaged in a way that the checksum does not see: another platform's object, say
    image = compiler.compile_object(text(), cpu)
    made = compiler.Code(image)
    cache.write(full, image)
    return made, True
