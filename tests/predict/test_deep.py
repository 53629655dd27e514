"""Deep grey: what a file says of its white is followed, and where it says nothing, one white holds for all files."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hapgop.errors import InputError
from hapgop.predict import open_image, plain


def tiff(values, bits=16, photometric=1, order="<", **tags):
    """A grey TIFF by hand, so that no library's idea of scaling comes between.

    tags: t281 is MaxSampleValue, t341 SMaxSampleValue.
    """
    values = np.asarray(values)
    height, width = values.shape
    if values.dtype.kind == "f":
        data = values.astype(f"{order}f4").tobytes()
        bits, kind = 32, 3
    elif bits == 12:
        bitstream = "".join(f"{value:012b}" for value in values.ravel())
        data, kind = int(bitstream, 2).to_bytes(len(bitstream) // 8, "big"), 1
    else:
        data, kind = values.astype(f"{order}u{bits // 8}").tobytes(), 1
    entries = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height}
    entries |= {279: len(data), 339: kind} | {int(name[1:]): value for name, value in tags.items()}
    table = b""
    for tag, value in sorted(entries.items()):
        if isinstance(value, float):
            table += struct.pack(f"{order}HHIf", tag, 11, 1, value)
        else:
            table += struct.pack(f"{order}HHII", tag, 4, 1, value)
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    return header + data + struct.pack(f"{order}H", len(entries)) + table + bytes(4)


def png(values, significant=None):
    """A 16-bit grey PNG by hand, with an sBIT chunk where `significant` says how many bits."""
    values = np.asarray(values, ">u2")
    height, width = values.shape
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0))]
    parts += [chunk(b"gAMA", struct.pack(">I", 45455))]
    parts += [chunk(b"sBIT", bytes([significant]))] if significant else []
    parts += [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def read(tmp_path, content):
    """As a file, and as a picture that Pillow has opened: they must agree."""
    (tmp_path / "deep").write_bytes(content)
    from_file = np.asarray(open_image(tmp_path / "deep")).tolist()
    with Image.open(io.BytesIO(content)) as image:
        assert np.asarray(plain(image)).tolist() == from_file
    return from_file


RAMP = np.array([[0, 16, 2048, 4095]])
OF_12 = [[0, 1, 128, 255]]
OF_16 = [[0, 0, 8, 16]]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (tiff(RAMP), OF_16),
        (tiff(RAMP, bits=12), OF_12),
        (tiff(RAMP, t281=4095), OF_12),
        (tiff(RAMP, t341=4095), OF_12),
        (tiff(RAMP, order=">", t281=4095), OF_12),
        (tiff(RAMP, bits=32, t281=4095), OF_12),
        (tiff(RAMP, t281=65535), OF_16),
        # The brightest pixel of this one file, as some programs write it, would be another white in each.
        (tiff(RAMP, t281=4096), OF_16),
        (tiff(RAMP, t281=4000), OF_16),
        # A file that contradicts itself.
        (tiff(RAMP, t281=2047), OF_16),
        (tiff(RAMP, photometric=0), [[255, 255, 247, 239]]),
        (tiff(RAMP, photometric=0, t281=4095), [[255, 254, 127, 0]]),
        (tiff(np.array([[0, 51.0, 255.0]], np.float32), t341=255.0), [[0, 51, 255]]),
        (tiff(np.array([[0, 0.2, 1]], np.float32)), [[0, 51, 255]]),
        (tiff(np.array([[0, 0.2, 1]], np.float32), photometric=0), [[255, 204, 0]]),
        (png(RAMP), OF_16),
        (png(RAMP, significant=16), OF_16),
        # Values of 12 bits that were not stretched to 16, as the standard wants them.
        (png(RAMP, significant=12), OF_12),
        (png([[0, 16, 2048, 4080]], significant=12), OF_16),
        (png([[0, 16 * 17, 65535]], significant=12), [[0, 1, 255]]),
        (png([[0, 0x1231, 0xFFFF]], significant=12), [[0, 18, 255]]),
    ],
)
def test_white_is_what_the_file_says(tmp_path, content, wanted):
    assert read(tmp_path, content) == wanted


@given(st.integers(9, 15), st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=20), st.booleans())
def test_what_was_stretched_as_the_standard_wants_it_stays(tmp_path_factory, bits, values, by_zeros):
    samples = np.array([values]) >> (16 - bits)
    stretched = samples << (16 - bits)
    if not by_zeros:
        stretched |= samples >> (2 * bits - 16)
    read_back = read(tmp_path_factory.mktemp("deep"), png(stretched, significant=bits))
    assert read_back == np.rint(stretched * (255 / 65535)).astype(int).tolist()


def test_one_white_for_all_files_that_say_nothing(tmp_path):
    # Each file's own brightest value would make these two alike.
    dim, bright = read(tmp_path, png([[0, 1000]])), read(tmp_path, png([[0, 10000]]))
    assert (dim, bright) == ([[0, 4]], [[0, 39]])


def test_fractions_above_what_the_file_says_are_refused(tmp_path):
    with pytest.raises(InputError, match="from 0 to 256: only 0 to 1 has an agreed white"):
        read(tmp_path, tiff(np.array([[0, 256.0]], np.float32), t341=255.0))


def test_damaged_chunks_before_the_pixels_are_no_traceback(tmp_path):
    whole = png(RAMP, significant=12)
    for end in range(whole.index(b"IDAT") + 4):
        (tmp_path / "cut.png").write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"cut\.png: "):
            open_image(tmp_path / "cut.png")
