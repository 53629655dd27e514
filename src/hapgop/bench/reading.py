"""Cases from text: the format of `layers.txt` and of a file of one's own."""

from __future__ import annotations

import shlex

from hapgop.bench.case import Case, family_of
from hapgop.errors import InputError
from hapgop.shape import ConvShape

_WANTED = ("ic", "size", "oc", "kernel")
_DEFAULTS = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "pool": 0, "transposed": 0}


def from_text(text: str, source: str = "the cases") -> list[Case]:
    """Cases, a line each; `#` begins a comment. A ReLU follows every layer.

    NAME ic=64 size=56 oc=64 kernel=3 [stride= padding= dilation= groups=] [pool=] [transposed=1] [n=1,16] [class=]

    ic, size: channels and sides of the square input; pool: a max pool of that size follows; transposed: it is a
    transposed convolution; n: the batch sizes; class: the group of the table that the row belongs to, if it is not the
    one that its shape suggests. Raises InputError with the line where something does not fit.

    >>> case = from_text("toy ic=3 size=32 oc=6 kernel=5 n=2,8")[0]
    >>> case.shape.y_shape, case.family, case.batches
    ((2, 6, 28, 28), 'first', (2, 8))
    """
    found: list[Case] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
            if words:
                found.append(_case(words[0], words[1:]))
                if found[-1].name in (case.name for case in found[:-1]):
                    raise InputError(f"there is another case {words[0]!r} above")
        except ValueError as error:
            raise InputError(f"{source}, line {number}, {line.strip()!r}: {error}") from None
    if not found:
        raise InputError(f"{source}: no case in it; a line looks like: NAME ic=64 size=56 oc=64 kernel=3 padding=1")
    return found


def _case(name: str, words: list[str]) -> Case:
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key in given or key not in (*_WANTED, *_DEFAULTS, "n", "class"):
            raise InputError(
                f"{word!r} is not understood; a line looks like: NAME ic=64 size=56 oc=64 kernel=3 padding=1, and also "
                f"knows {', '.join([*_DEFAULTS, 'n', 'class'])}, each once"
            )
        given[key] = value
    missing = [key for key in _WANTED if key not in given]
    if missing:
        raise InputError(f"{', '.join(missing)} has to be given")
    family, batches = given.pop("class", ""), _batches(given.pop("n", "1"))
    number = {**_DEFAULTS, **{key: _whole(key, value) for key, value in given.items()}}
    kind = "transposed" if number["transposed"] else "conv"
    shape = _shape(number, batches[0])
    pool = (number["pool"], number["pool"]) if number["pool"] else None
    if pool is not None and (kind == "transposed" or pool[0] > min(shape.oh, shape.ow)):
        raise InputError(f"pool={pool[0]} does not fit: it follows a convolution whose output is at least as large")
    return Case(name, kind, shape, family or family_of(kind, shape, pool), batches, "relu", pool)


def _shape(number: dict[str, int], batch: int) -> ConvShape:
    ic, oc, size, kernel = number["ic"], number["oc"], number["size"], number["kernel"]
    stride, padding, dilation = number["stride"], number["padding"], number["dilation"]
    if number["transposed"]:
        # As the convolution that has it as its x-derivative: what comes in there is what goes out here.
        ic, oc, size = oc, ic, (size - 1) * stride - 2 * padding + (kernel - 1) * dilation + 1
    return ConvShape(batch, ic, size, size, oc, kernel, kernel, stride, padding, dilation, number["groups"])


def _batches(text: str) -> tuple[int, ...]:
    batches = tuple(_whole("n", part) for part in text.split(","))
    if 0 in batches or len(set(batches)) < len(batches):
        raise InputError(f"n={text}: batch sizes of at least 1 are wanted, each once, as in n=1,16")
    return batches


def _whole(key: str, value: str) -> int:
    # What int() would take as well: signs, underscores, digits of other scripts.
    if not (value.isascii() and value.isdigit()):
        raise InputError(f"{key}={value}: a whole number is wanted")
    return int(value)
