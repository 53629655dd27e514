"""Pictures that come in from the browser, and what is refused."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from hapgop.errors import InputError
from hapgop.predict import plain

MOST_BYTES = 32 * 2**20
MOST_PIXELS = 64_000_000


def picture(data: bytes, size: tuple[int, int] | None = None) -> Image.Image:
    """The picture in an uploaded file, upright, in mode "L" or "RGB"; size: as in `hapgop.predict.open_image`.

    Raises InputError on what is no picture, and on more than `MOST_PIXELS`, before they are decoded.
    """
    if not data:
        raise InputError("Nothing arrived: the file is empty.")
    try:
        with Image.open(io.BytesIO(data)) as image:
            check_pixels(*image.size)
            return plain(image, size)
    except (InputError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise InputError(_too_large()) from error
    except UnidentifiedImageError as error:
        raise InputError(
            "This file is no picture that can be read. JPEG, PNG, WebP, GIF, BMP and TIFF work."
        ) from error
    except Exception as error:  # decoders raise whatever comes
        raise InputError(f"This picture is damaged ({error}).") from error


def check_pixels(width: int, height: int) -> None:
    """Raises InputError where a picture has more pixels than are taken."""
    if width * height > MOST_PIXELS:
        raise InputError(f"{width} × {height} are {width * height / 1e6:.0f} million pixels. {_too_large()}")


def pixels(data: bytes, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Raw bytes of a canvas as uint8 (h, w, c). Raises InputError where the sizes do not fit the bytes."""
    if channels not in (1, 3, 4) or min(height, width) < 1 or height * width * channels != len(data):
        raise InputError(f"{len(data)} bytes are no {height} × {width} pixels of {channels} channels.")
    check_pixels(width, height)
    return np.frombuffer(data, np.uint8).reshape(height, width, channels)


def _too_large() -> str:
    return f"More than {MOST_PIXELS // 1_000_000} million are refused; scale the picture down first."
