"""Any picture file becomes a plain picture: upright, 8 bits, grey or RGB, nothing see-through."""

import os
from pathlib import Path

from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from hapgop.errors import InputError
from hapgop.predict import deep
from hapgop.predict.kinds import rare_compression, why_unread

# What the suffix of a picture can be when folders are searched; a file that is named is always tried.
SUFFIXES = frozenset({
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm",
    ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
})  # fmt: skip


class MachineTrouble(InputError):
    """A picture that could not be read for a reason outside its file: another time it may be."""


def open_image(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> Image.Image:
    """The picture in a file, mode "L" or "RGB", turned upright as its EXIF data asks.

    Deep grey is scaled to 8 bits: white is what the file says (BitsPerSample or MaxSampleValue of a TIFF, sBIT of a
    PNG), else 65535, the same for all files; 12-bit values that no file tells of stay dark. Transparent pixels are
    laid on white, of several pages or frames the first is taken. size: (height, width) that is wanted in the end; a
    large JPEG is then decoded at a fraction of its size, never below twice that. Raises InputError naming the file
    and what is wrong with it, MachineTrouble where the file itself may be sound.

    >>> open_image("holiday.jpg", (224, 224)).mode  # doctest: +SKIP
    'RGB'
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            return plain(image, size)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Image.DecompressionBombError as error:
        millions = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise InputError(
            f"{path}: more than {millions} million pixels; refused, as such a file may be made to fill the"
            " memory. Scale it down first."
        ) from error
    except FileNotFoundError as error:
        raise MachineTrouble(f"{path}: there is no such file.") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: a folder, not a picture.") from error
    except PermissionError as error:
        raise MachineTrouble(f"{path}: may not be read (permission denied).") from error
    except MemoryError as error:
        raise MachineTrouble(f"{path}: cannot be read (too little memory is free).") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not a picture that can be read; {why_unread(path)}.") from error
    except Exception as error:  # Decoders raise whatever comes: struct.error, SyntaxError, zlib.error, ...
        if isinstance(error, OSError) and error.strerror:
            raise MachineTrouble(f"{path}: cannot be read ({error.strerror}).") from error
        # A decoder that is missing here and a file that is cut short end in the same error.
        compression = rare_compression(path)
        other = f", or a TIFF whose compression ({compression}) cannot be read here" if compression else ""
        raise InputError(f"{path}: a damaged picture{other} ({str(error).rstrip('.')}).") from error


def plain(image: Image.Image, size: tuple[int, int] | None = None) -> Image.Image:
    """`image` upright and in mode "L" or "RGB"; size: as in `open_image`, of a picture that is not decoded yet.

    Raises InputError where brightness has no agreed scale.
    """
    if size is not None:
        # Twice the longer side, whatever the rotation: what is left to resample hides the difference.
        image.draft(image.mode, (2 * max(size), 2 * max(size)))
    if image.format == "TIFF" and isinstance(image, ImageFile.ImageFile):
        # Pillow 13 maps an uncompressed file into memory, if it knows its name, as if it lay turned there already.
        image.filename = ""
    # Turning decodes, and what a decoder hands on says nothing of its file.
    said = deep.told(image) if deep.is_deep(image.mode) else deep.Told()
    image = ImageOps.exif_transpose(image)
    if deep.is_deep(image.mode):
        return deep.grey(image, said)
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
