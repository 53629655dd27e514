"""Pixels to numbers: NumPy's bits, however they lie."""

import numpy as np
import pytest

from hapgop import engine

SCALE, SHIFT = np.float32([0.017, 0.0175, 0.0174]), np.float32([2.1, 2.03, 1.8])


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


# Few and many numbers; parts of larger images; what has to be copied first: every other pixel, mirrored, turned.
@pytest.mark.parametrize(
    "x",
    [
        pixels(0, 4, 4, 3), pixels(1, 8, 8, 1), pixels(3, 64, 61, 3), pixels(200, 28, 28, 1),
        pixels(60, 30, 34, 3)[:, 1:29, 2:33], pixels(100, 33, 31, 1)[1::2, 5:, :28], pixels(9, 99, 70, 3)[:, :, ::2],
        pixels(224, 224, 3)[None], pixels(1, 300, 400, 3)[:, 5:, 7:], pixels(1, 1, 90000, 1)[..., ::2, :],
        pixels(60000, 1, 3)[:, None], pixels(50000, 3)[:, None, None, :1], pixels(50000)[None, :, None, None],
        pixels(20, 50, 30, 3)[:, :, ::-1], pixels(20, 50, 30, 3)[::-1], pixels(20, 50, 60, 3).transpose(0, 2, 1, 3),
    ],
    ids=lambda x: f"{x.shape} {x.strides}",
)  # fmt: skip
@pytest.mark.parametrize("threads", [1, 2])
def test_the_bits_are_numpy_s(x, threads):
    c = x.shape[3]
    before = engine.get_threads()
    engine.set_threads(threads)
    try:
        got = engine.numbers(x, SCALE[:c], SHIFT[:c])
    finally:
        engine.set_threads(before)
    assert got.flags.c_contiguous
    assert got.dtype == np.float32
    assert np.array_equal(got, x.astype(np.float32) * SCALE[:c] - SHIFT[:c])
