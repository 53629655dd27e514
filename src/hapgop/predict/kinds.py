"""What a file is by its first bytes: a picture or none, and why a picture cannot be read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import TiffImagePlugin

# Pictures that Pillow reads only with a plugin (pillow-heif): looked for in folders, so that they are named.
HEIC = frozenset({".heic", ".heif", ".hif"})
_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"\0\0\0\x0cjP  \r\n\x87\n", *_TIFF)
_COMPRESSION, _BITS, _SAMPLES = 259, 258, 277
_COMPRESSIONS = {
    6: "old JPEG",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34712: "JPEG 2000",
    34887: "LERC",
    34925: "LZMA",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
}
# Bytes that tell the kind; of a text, enough to be sure of it.
BEGINNING = 512


def begins_like_a_picture(start: bytes) -> bool:
    """Whether these first bytes, 16 or more, are those of a picture, for files whose name does not tell.

    >>> begins_like_a_picture(b"GIF89a" + bytes(10)), begins_like_a_picture(b"Dear diary, ...")
    (True, False)
    """
    if start.startswith(_BEGINNINGS):
        return True
    if start[:4] == b"RIFF":
        return start[8:12] == b"WEBP"
    if start[4:8] == b"ftyp":
        return start[8:12] in (b"avif", b"avis", *_BRANDS)
    # "BM" alone may begin a text.
    return start[:2] == b"BM" and start[6:10] == bytes(4)


def why_unread(path: Path) -> str:
    """A few words on a file that no decoder takes for its own."""
    with path.open("rb") as file:
        start = file.read(BEGINNING)
    if not start:
        return "the file is empty"
    if path.suffix.lower() in HEIC or (start[4:8] == b"ftyp" and start[8:12] in _BRANDS):
        return "HEIC has to be converted to JPEG or PNG first"
    if start.startswith(_TIFF):
        tags = _tags(path)
        return f"this kind of TIFF ({_kind(tags)}) has to be saved as PNG first" if tags else "the TIFF is damaged"
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in start):
        return "the file holds text"
    return "JPEG, PNG, WebP, GIF, BMP and TIFF work"


def rare_compression(path: Path) -> str:
    """What a TIFF is compressed by where that is read on some machines only, in words; empty elsewhere."""
    return _COMPRESSIONS.get(_tags(path).get(_COMPRESSION, 1), "")


def _tags(path: Path) -> Mapping[int, Any]:
    """The tags of a TIFF's first page; none where the file is no TIFF, or damaged."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
            if not start.startswith(_TIFF):
                return {}
            # The header of a large TIFF is twice as long.
            tags = TiffImagePlugin.ImageFileDirectory_v2(start + file.read(8) if b"+" in start[:4] else start)
            file.seek(tags.next)
            tags.load(file)
            return dict(tags)
    except Exception:  # Damaged in any way: another sentence tells that.
        return {}


def _kind(tags: Mapping[int, Any]) -> str:
    bits = tags.get(_BITS, (1,))
    samples = tags.get(_SAMPLES, len(bits))
    depth = f"{samples} × {bits[0]} bits a pixel" if samples > 1 else f"{bits[0]} bits a pixel"
    compression = tags.get(_COMPRESSION, 1)
    if compression == 1:
        return depth
    name = _COMPRESSIONS.get(compression) or TiffImagePlugin.COMPRESSION_INFO.get(compression, compression)
    return f"compression {name}, {depth}"
