"""Functions of one number in the tile language, float32. NaN passes through all of them.

`exp_of_negative` is the root of most. With k the whole number nearest to x / ln 2 and r = x - k ln 2, exp(x) is
2^k exp(r): r is found with ln 2 in two parts, so that it is right to a rounding or two; the polynomial of degree six
(Taylor's, whose next term is at most (ln 2 / 2)^7 / 7! = 1.2e-7 of the value, spread over the last two coefficients)
and its roundings add up to less than 4 units of 2^-24 of the value. 2^k is exact. Below -87.3, where results would be
smaller than the smallest normal number, it is 0. From it, for every float32 x:

    sigmoid, tanh                   within 8 units of 2^-24
    silu                            within 8 units of 2^-24 of max(1, |x|)
    elu                             within 8 units of 2^-24 of max(1, alpha)
    gelu, gelu_tanh                 within 12 units of 2^-24 of max(1, |x|)
    log_from_one                    within 4 units of 2^-24 of max(1/4, log x)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import pi
from typing import Final

from hapgop.algorithms.epilogue import activated
from hapgop.algorithms.problem import ACTIVATIONS
from hapgop.tile import Builder, Register

Function = Callable[[Builder, Register, float], Register]

_LOG2E: Final = 1.4426950408889634
# ln 2 in two parts: the first has so few digits that its product with k is exact.
_LN2: Final = (0.693359375, -2.12194440054690583e-4)
# Added and taken off again, it leaves the nearest whole number: numbers of this size have no fraction.
_WHOLE: Final = 12582912.0
_LEAST: Final = -87.33654
_EXP: Final = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_SMALL: Final = 0.25  # below, a difference of nearly equal numbers is replaced by a series


def exp_of_negative(k: Builder, x: Register) -> Register:
    """exp(x) for x <= 0; for x above 0 it means nothing."""
    bounded = k.max(x, k.const(_LEAST - 1.0))
    shifter = k.const(_WHOLE)
    whole = k.sub(k.fma(bounded, k.const(_LOG2E), shifter), shifter)
    r = k.fma(whole, k.const(-_LN2[0]), bounded)
    r = k.fma(whole, k.const(-_LN2[1]), r)
    p = k.const(_EXP[0])
    for c in _EXP[1:]:
        p = k.fma(p, r, k.const(c))
    value = k.add(k.fma(p, k.mul(r, r), r), k.const(1.0))
    # 2^whole, bit by bit: what is left of -whole is 0 to 127.
    left = k.sub(k.const(0.0), whole)
    for bit in (64, 32, 16, 8, 4, 2, 1):
        edge = k.const(bit - 0.5)
        value = k.select("above", left, edge, k.mul(value, k.const(2.0**-bit)), value)
        left = k.select("above", left, edge, k.sub(left, k.const(float(bit))), left)
    return k.select("above", k.const(_LEAST), x, k.const(0.0), value)


def log_from_one(k: Builder, x: Register) -> Register:
    """The natural logarithm of x, from 1 to below 2^32: of a sum of exponentials the largest of which is 1."""
    # x = 2^whole m with m from 1 to 2, bit by bit; log m is 2 atanh((m - 1) / (m + 1)).
    whole = k.const(0.0)
    for bit in (16, 8, 4, 2, 1):
        edge = k.const(2.0**bit)
        whole = k.select("above", x, edge, k.add(whole, k.const(float(bit))), whole)
        x = k.select("above", x, edge, k.mul(x, k.const(2.0**-bit)), x)
    u = k.div(k.sub(x, k.const(1.0)), k.add(x, k.const(1.0)))
    squared = k.mul(u, u)
    series = _series(k, squared, (2 / 15, 2 / 13, 2 / 11, 2 / 9, 2 / 7, 2 / 5, 2 / 3))
    m = k.fma(k.mul(u, squared), series, k.mul(u, k.const(2.0)))
    return k.fma(whole, k.const(_LN2[0]), k.fma(whole, k.const(_LN2[1]), m))


def _magnitude(k: Builder, x: Register) -> Register:
    return k.max(x, k.sub(k.const(0.0), x))


def _series(k: Builder, x: Register, coefficients: tuple[float, ...]) -> Register:
    total = k.const(coefficients[0])
    for c in coefficients[1:]:
        total = k.fma(total, x, k.const(c))
    return total


def leaky_relu(k: Builder, x: Register, alpha: float) -> Register:
    return k.select("above", x, k.const(0.0), x, k.mul(x, k.const(alpha)))


def elu(k: Builder, x: Register, alpha: float) -> Register:
    low = k.min(k.const(0.0), x)
    far = k.sub(exp_of_negative(k, low), k.const(1.0))
    near = k.mul(low, _series(k, low, (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0)))
    below = k.mul(k.select("above", low, k.const(-_SMALL), near, far), k.const(alpha))
    return k.select("above", x, k.const(0.0), x, below)


def sigmoid(k: Builder, x: Register, alpha: float) -> Register:
    zero, one = k.const(0.0), k.const(1.0)
    e = exp_of_negative(k, k.sub(zero, _magnitude(k, x)))
    high = k.div(one, k.add(one, e))
    return k.select("above", x, zero, high, k.mul(e, high))


def silu(k: Builder, x: Register, alpha: float) -> Register:
    # Minus infinity times 0 would be NaN; from -104 on the product is 0 in any case.
    return k.mul(k.max(x, k.const(-104.0)), sigmoid(k, x, alpha))


def hardsigmoid(k: Builder, x: Register, alpha: float) -> Register:
    return k.mul(activated(k, k.add(x, k.const(3.0)), "relu6"), k.const(1 / 6))


def tanh(k: Builder, x: Register, alpha: float) -> Register:
    zero, one = k.const(0.0), k.const(1.0)
    size = _magnitude(k, x)
    e = exp_of_negative(k, k.mul(size, k.const(-2.0)))
    far = k.div(k.sub(one, e), k.add(one, e))
    squared = k.mul(x, x)
    near = k.mul(x, _series(k, squared, (62 / 2835, -17 / 315, 2 / 15, -1 / 3, 1.0)))
    signed = k.select("above", x, zero, far, k.sub(zero, far))
    return k.select("above", size, k.const(_SMALL), signed, near)


# The error function as a quotient: numerator in x, x^3, ...; denominator in 1, x^2, ...; highest power first.
# Source: the Eigen library, which clamps x to where float32 knows nothing but one.
_ERF_OVER: Final = (-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
                    -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02)  # fmt: skip
_ERF_UNDER: Final = (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
                     -1.42647390514189e-02)  # fmt: skip
_ERF_LARGEST: Final = 4.0


def gelu(k: Builder, x: Register, alpha: float) -> Register:
    """x * (1 + erf(x / sqrt 2)) / 2."""
    scaled = k.mul(x, k.const(0.5**0.5))
    bounded = k.min(k.max(scaled, k.const(-_ERF_LARGEST)), k.const(_ERF_LARGEST))
    squared = k.mul(bounded, bounded)
    erf = k.div(k.mul(bounded, _series(k, squared, _ERF_OVER)), _series(k, squared, _ERF_UNDER))
    value = k.mul(k.mul(x, k.const(0.5)), k.add(k.const(1.0), erf))
    # However large the negative number: what erf is short of one is not to be multiplied by it.
    return k.select("above", k.const(-_ERF_LARGEST), scaled, k.const(0.0), value)


def gelu_tanh(k: Builder, x: Register, alpha: float) -> Register:
    """x * (1 + tanh(u)) / 2 = x * sigmoid(2 u), u = sqrt(2 / pi) * (x + 0.044715 x^3)."""
    twice = 2 * (2 / pi) ** 0.5
    u = k.mul(x, k.fma(k.mul(x, x), k.const(0.044715 * twice), k.const(twice)))
    return k.mul(k.max(x, k.const(-104.0)), sigmoid(k, u, alpha))


def _fused(name: str) -> Function:
    """An activation that convolutions take along, by itself: the same bits."""
    return lambda k, x, alpha: activated(k, x, name)


FUNCTIONS: Final[Mapping[str, Function]] = {
    **{name: _fused(name) for name in ACTIVATIONS},
    "leaky_relu": leaky_relu,
    "elu": elu,
    "sigmoid": sigmoid,
    "silu": silu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "hardsigmoid": hardsigmoid,
    "tanh": tanh,
}
