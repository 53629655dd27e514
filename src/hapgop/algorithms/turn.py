"""Images from channels first to channels last: squares of lanes x lanes are loaded by channel and stored by pixel."""

from __future__ import annotations

from math import ceil

from hapgop.tile import Affine, Buffer, Builder

_AHEAD = 4  # squares: channels are more streams than a CPU fetches ahead by itself
_BLOCKS = 8  # squares of pixels that make a work item: its number costs some divisions


def turn(k: Builder, label: str, images: Affine, source: Buffer, target: Buffer, channels: int, pixels: int) -> None:
    """The stage that writes `target` (image, pixel, channel) from `source` (image, channel, pixel)."""
    lanes = k.lanes
    full, rest = divmod(pixels, lanes)
    chunks = max(1, ceil(full / _BLOCKS))
    with k.stage(label, ("image", images), ("chunk", chunks)) as (image, chunk):
        start = image * (channels * pixels)
        if full:
            with k.loop("block", chunk * _BLOCKS, [chunk * _BLOCKS + _BLOCKS, full]) as block:
                _block(k, source, target, start, block * lanes, channels, pixels, lanes)
        if rest:
            # The last item's: a loop that runs once there and not at all elsewhere.
            with k.loop("rest", [0, chunks - 1 - chunk], 1):
                _block(k, source, target, start, Affine(full * lanes), channels, pixels, rest)


def _block(
    k: Builder, source: Buffer, target: Buffer, start: Affine, first: Affine, channels: int, pixels: int, count: int
) -> None:
    """All channels of `count` pixels."""
    at, to = start + first, start + first * channels

    def square(channel: Affine | int, used: int) -> None:
        place = at + Affine.of(channel) * pixels
        rows = [k.load(source, place + i * pixels, count) for i in range(used)]
        for i in range(used):
            k.prefetch(source, place + i * pixels + _AHEAD * k.lanes)
        for i, pixel in enumerate(k.transpose(rows)[:count]):
            k.store(pixel, target, to + channel + i * channels, used)

    done = channels - channels % k.lanes
    with k.loop("channel", 0, done, k.lanes) as c:
        square(c, k.lanes)
    if done < channels:
        square(done, channels - done)
