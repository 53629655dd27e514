"""Any picture file becomes a plain picture: upright, 8 bits, grey or RGB, nothing see-through."""

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hapgop.errors import InputError

# What the suffix of a picture can be when folders are searched; a file that is named is always tried.
SUFFIXES = frozenset({
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm",
    ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
})  # fmt: skip
_WHITE_16 = 65535


def open_image(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> Image.Image:
    """The picture in a file, mode "L" or "RGB", turned upright as its EXIF data asks.

    16-bit grey is scaled to 8 bits, transparent pixels are laid on white, of an animation the first frame is
    taken. size: (height, width) that is wanted in the end; a large JPEG is then decoded at a fraction of its
    size, never below twice that. Raises InputError naming the file and what is wrong with it.

    >>> open_image("holiday.jpg", (224, 224)).mode  # doctest: +SKIP
    'RGB'
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            if size is not None:
                # Twice the longer side, whatever the rotation: what is left to resample hides the difference.
                image.draft(image.mode, (2 * max(size), 2 * max(size)))
            return plain(image)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Image.DecompressionBombError as error:
        millions = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise InputError(
            f"{path}: more than {millions} million pixels; refused, as such a file may be made to fill the"
            " memory. Scale it down first."
        ) from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file.") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: a folder, not a picture.") from error
    except PermissionError as error:
        raise InputError(f"{path}: may not be read (permission denied).") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not a picture that can be read; {_what_it_is(path)}.") from error
    except Exception as error:  # Decoders raise whatever comes: struct.error, SyntaxError, zlib.error, ...
        raise InputError(f"{path}: a damaged picture ({error}).") from error


def plain(image: Image.Image) -> Image.Image:
    """`image` upright and in mode "L" or "RGB". Raises InputError where brightness has no agreed scale."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey(image)
    if image.mode == "P" and "transparency" not in image.info:
        return image.convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        flat = Image.alpha_composite(white, rgba)
        return flat.convert("L" if image.mode in ("LA", "La", "L", "1") else "RGB")
    if image.mode in ("L", "1"):
        return image.convert("L")
    return image.convert("RGB")


def _deep_grey(image: Image.Image) -> Image.Image:
    # Pillow's own conversion to "L" clips everything above 255 to white: a 16-bit X-ray would become a blank.
    pixels = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        low, high, white = 0.0, 1.0, 1.0
    else:
        low, high, white = 0.0, float(_WHITE_16), float(_WHITE_16)
    if not (np.isfinite(pixels).all() and pixels.min() >= low and pixels.max() <= high):
        raise InputError(
            f"grey values from {pixels.min():g} to {pixels.max():g}: only 0 to {high:g} has an agreed white."
            " Save it with 8 or 16 bits a pixel."
        )
    return Image.fromarray(np.rint(pixels * (255.0 / white)).astype(np.uint8))


def _what_it_is(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return "the file is empty"
    if path.suffix.lower() in (".heic", ".heif") or start[4:12] in (b"ftypheic", b"ftypmif1"):
        return "HEIC has to be converted to JPEG or PNG first"
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in start):
        return "the file holds text"
    return "JPEG, PNG, WebP, GIF, BMP and TIFF work"
