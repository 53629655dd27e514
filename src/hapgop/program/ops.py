"""The operations a graph may hold: for each its inputs, its attributes and its parameters.

This table is the whole vocabulary: checking, shape inference, execution and capture all read it.
Attributes carry the names and meanings of the `torch.nn` modules.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final

from hapgop.errors import InputError

REQUIRED: Final = object()


def _whole(least: int) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        good = isinstance(value, int) and not isinstance(value, bool) and value >= least
        return None if good else f"a whole number of at least {least}"

    return check


def _pair(least: int, *, none: bool = False) -> Callable[[Any], str | None]:
    one = _whole(least)

    def check(value: Any) -> str | None:
        sides = value if isinstance(value, tuple) else (value, value)
        good = len(sides) == 2 and all((none and side is None) or one(side) is None for side in sides)
        return None if good else f"a whole number of at least {least}, or a pair of them"

    return check


def _padding(value: Any) -> str | None:
    if value in ("same", "valid"):
        return None
    sides = value if isinstance(value, tuple) else (value,)
    good = len(sides) in (1, 2, 4) and all(_whole(0)(side) is None for side in sides)
    return None if good else "a whole number, a pair, (top, bottom, left, right), 'same' or 'valid'"


def _number(value: Any) -> str | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    return None if good else "a finite number"


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _axis(value: Any) -> str | None:
    return None if isinstance(value, int) and not isinstance(value, bool) else "a whole number"


def _axes(value: Any) -> str | None:
    axes = value if isinstance(value, tuple) else (value,)
    return None if axes and all(_axis(axis) is None for axis in axes) else "an axis or several"


def _choice(*choices: Any) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        return None if value in choices else "one of " + ", ".join(repr(choice) for choice in choices)

    return check


def _maybe(check: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
    return lambda value: None if value is None else check(value)


@dataclass(frozen=True)
class Op:
    """What one operation takes: how many inputs, `attribute: (default, check)`, the parameters' roles."""

    inputs: tuple[int, int] = (1, 1)
    attrs: Mapping[str, tuple[Any, Callable[[Any], str | None]]] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()


_ACTIVATION = _choice(None, "relu")
_ANY = 1_000_000

OPS: Final[Mapping[str, Op]] = {
    "conv2d": Op(
        attrs={
            "out_channels": (REQUIRED, _whole(1)),
            "kernel_size": (REQUIRED, _pair(1)),
            "stride": (1, _pair(1)),
            "padding": (0, _padding),
            "dilation": (1, _pair(1)),
            "groups": (1, _whole(1)),
            "padding_mode": ("zeros", _choice("zeros", "reflect", "replicate", "circular")),
            "activation": (None, _ACTIVATION),
        },
        required=frozenset({"weight"}),
        optional=frozenset({"bias"}),
    ),
    # The way back of a convolution from its result to its input; the weight is (in, out / groups, kh, kw).
    "conv_transpose2d": Op(
        attrs={
            "out_channels": (REQUIRED, _whole(1)),
            "kernel_size": (REQUIRED, _pair(1)),
            "stride": (1, _pair(1)),
            "padding": (0, _pair(0)),
            "output_padding": (0, _pair(0)),
            "dilation": (1, _pair(1)),
            "groups": (1, _whole(1)),
            "activation": (None, _ACTIVATION),
        },
        required=frozenset({"weight"}),
        optional=frozenset({"bias"}),
    ),
    "linear": Op(
        attrs={"out_features": (REQUIRED, _whole(1)), "activation": (None, _ACTIVATION)},
        required=frozenset({"weight"}),
        optional=frozenset({"bias"}),
    ),
    # The same linear map of the channels of every pixel; the weight is (out, in), as that of a linear layer.
    "pointwise": Op(
        attrs={"out_features": (REQUIRED, _whole(1)), "activation": (None, _ACTIVATION)},
        required=frozenset({"weight"}),
        optional=frozenset({"bias"}),
    ),
    "max_pool2d": Op(
        attrs={
            "kernel_size": (REQUIRED, _pair(1)),
            "stride": (None, _maybe(_pair(1))),
            "padding": (0, _padding),
            "dilation": (1, _pair(1)),
            "ceil_mode": (False, _flag),
        }
    ),
    "avg_pool2d": Op(
        attrs={
            "kernel_size": (REQUIRED, _pair(1)),
            "stride": (None, _maybe(_pair(1))),
            "padding": (0, _padding),
            "ceil_mode": (False, _flag),
            "count_include_pad": (True, _flag),
        }
    ),
    "adaptive_avg_pool2d": Op(attrs={"output_size": (REQUIRED, _pair(1, none=True))}),
    "adaptive_max_pool2d": Op(attrs={"output_size": (REQUIRED, _pair(1, none=True))}),
    "batch_norm2d": Op(
        attrs={"eps": (1e-5, _number)},
        required=frozenset({"running_mean", "running_var"}),
        optional=frozenset({"weight", "bias"}),
    ),
    # Over the channels of each pixel, or over a vector.
    "layer_norm": Op(attrs={"eps": (1e-5, _number)}, optional=frozenset({"weight", "bias"})),
    "scale": Op(required=frozenset({"weight"})),
    # x * factor + term, the same numbers everywhere.
    "number": Op(attrs={"factor": (1.0, _number), "term": (0.0, _number)}),
    "relu": Op(),
    "relu6": Op(),
    "leaky_relu": Op(attrs={"negative_slope": (0.01, _number)}),
    "elu": Op(attrs={"alpha": (1.0, _number)}),
    "silu": Op(),
    "gelu": Op(attrs={"approximate": ("none", _choice("none", "tanh"))}),
    "hardswish": Op(),
    "hardsigmoid": Op(),
    "sigmoid": Op(),
    "tanh": Op(),
    "softmax": Op(attrs={"dim": (1, _axis)}),
    "log_softmax": Op(attrs={"dim": (1, _axis)}),
    "add": Op(inputs=(2, 2)),
    "mul": Op(inputs=(2, 2)),
    "concat": Op(inputs=(1, _ANY), attrs={"dim": (1, _axis)}),
    "flatten": Op(attrs={"start_dim": (1, _axis), "end_dim": (-1, _axis)}),
    "mean": Op(attrs={"dim": (REQUIRED, _axes), "keepdim": (False, _flag)}),
    "dropout": Op(attrs={"p": (0.5, _number)}),
    "identity": Op(),
}


def checked_attrs(where: str, op: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All attributes of `op`, defaults filled in; InputError on one that is unknown, missing or wrong."""
    known = OPS[op].attrs
    for name in given:
        if name not in known:
            wanted = ", ".join(known) or "none at all"
            raise InputError(f"{where}: {op} has no attribute {name!r}; it takes {wanted}.")
    attrs: dict[str, Any] = {}
    for name, (default, check) in known.items():
        value = given.get(name, default)
        if value is REQUIRED:
            raise InputError(f"{where}: {op} needs the attribute {name!r}.")
        wanted_value = check(value)
        if wanted_value is not None:
            raise InputError(f"{where}: {name} is {value!r}, but it must be {wanted_value}.")
        attrs[name] = value
    return attrs
