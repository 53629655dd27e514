"""What a file is by its first bytes, and the words for what cannot be read."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from hapgop.errors import InputError
from hapgop.predict import open_image
from hapgop.predict.kinds import begins_like_a_picture

PICTURE = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))


def saved(kind, mode="L", **options):
    file = io.BytesIO()
    PICTURE.convert(mode).save(file, kind, **options)
    return file.getvalue()


def retagged(content, **tags):
    """A little-endian TIFF with other values in its tags: t259=34712."""
    content = bytearray(content)
    (table,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, table)
    for place in range(table + 2, table + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from("<HHI", content, place)
        if f"t{tag}" in tags:
            struct.pack_into("<HHII", content, place, tag, kind, number, tags[f"t{tag}"])
    return bytes(content)


Image.init()
KINDS = [kind for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF") if kind in Image.SAVE]


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_known_by_their_first_bytes(kind):
    assert begins_like_a_picture(saved(kind)[:16])


@pytest.mark.parametrize(
    "start", [b"", b"BM", b"BMW and other cars", b"RIFF\0\0\0\0WAVEfmt ", b"\0\0\0\x18ftypmp42", b"II is two\0\0\0"]
)
def test_what_only_looks_alike_is_none(start):
    assert not begins_like_a_picture(start)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"msf1", b"hevc"])
@pytest.mark.parametrize("name", ["photo.heic", "photo.HIF", "photo.jpg", "photo"])
def test_heic_is_said_to_be_heic_under_any_name(tmp_path, brand, name):
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic")
    with pytest.raises(InputError, match=r"not a picture that can be read; HEIC has to be converted to JPEG or PNG"):
        open_image(tmp_path / name)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        (
            {"t259": 34712},
            r"this kind of TIFF \(compression JPEG 2000, 8 bits a pixel\) has to be saved as PNG first\.$",
        ),
        ({"t259": 12345}, r"this kind of TIFF \(compression 12345, 8 bits a pixel\)"),
        ({"t258": 24}, r"this kind of TIFF \(24 bits a pixel\)"),
        ({"t277": 2}, r"this kind of TIFF \(2 × 8 bits a pixel\)"),
    ],
)
def test_a_tiff_that_cannot_be_read_is_not_told_that_tiff_works(tmp_path, tags, words):
    (tmp_path / "scan.tif").write_bytes(retagged(saved("TIFF", "RGB" if "t277" in tags else "L"), **tags))
    with pytest.raises(InputError, match=words) as caught:
        open_image(tmp_path / "scan.tif")
    assert "TIFF work" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_decoder_that_may_be_missing_is_named(tmp_path):
    # Not what WebP or LZMA wrote: the same error as where they are not there at all.
    (tmp_path / "scan.tif").write_bytes(retagged(saved("TIFF", compression="tiff_lzw"), t259=50001))
    with pytest.raises(
        InputError, match=r"a damaged picture, or a TIFF whose compression \(WebP\) cannot be read here"
    ):
        open_image(tmp_path / "scan.tif")
    whole = saved("TIFF", compression="tiff_lzw")
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut.tif: (not a picture .*; the TIFF is damaged|a damaged picture \()"):
        open_image(tmp_path / "cut.tif")


def test_large_tiffs_are_told_by_their_kind_too(tmp_path):
    entries = {256: 4, 257: 4, 258: 64, 259: 1, 262: 1, 273: 16, 279: 16}
    table = b"".join(struct.pack("<HHQQ", tag, 4, 1, value) for tag, value in entries.items())
    head = b"II+\0" + struct.pack("<HHQ", 8, 0, 16)
    (tmp_path / "big.tif").write_bytes(head + struct.pack("<Q", len(entries)) + table + bytes(24))
    with pytest.raises(InputError, match=r"this kind of TIFF \(64 bits a pixel\)"):
        open_image(tmp_path / "big.tif")


def test_reasons_are_short_and_hold_no_second_path(tmp_path):
    (tmp_path / "loop.png").symlink_to("loop.png")
    with pytest.raises(InputError) as caught:
        open_image(tmp_path / "loop.png")
    assert str(caught.value).count("loop.png") == 1
    assert "cannot be read (" in str(caught.value)
