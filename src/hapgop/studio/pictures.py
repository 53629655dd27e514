"""Arrays as pictures inside the page: PNG data URIs, a pixel for a number."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hapgop.studio.markup import Html

# One ink for each sign. The magnitude is the alpha channel, so that zero is the page itself, light or dark.
POSITIVE = np.array((217, 95, 14), np.uint8)
NEGATIVE = np.array((43, 108, 196), np.uint8)
# What is larger is shrunk: a page is looked at, and every pixel weighs in its file.
LARGEST_PLANE = 72
LARGEST_PHOTO = 224


def png(pixels: NDArray[np.uint8]) -> Html:
    """A data URI of (h, w), (h, w, 1) or (h, w, 3) bytes; large pictures are shrunk."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((LARGEST_PHOTO, LARGEST_PHOTO))
    return _encoded(picture)


def rendering(pixels: NDArray[np.uint8]) -> str:
    """The CSS class of such a picture: "pixels" where each is to be seen, "photo" where they are many."""
    return "pixels" if max(pixels.shape[:2]) <= 64 else "photo"


def signed(plane: NDArray[Any], largest: float) -> Html:
    """A plane (h, w) of signed numbers in two inks; a number of magnitude `largest` has the full strength."""
    plane = np.nan_to_num(np.asarray(plane, np.float32))
    plane = _shrunk(plane) if min(plane.shape) > 1 else plane
    return heat(plane / largest if largest > 0 else np.zeros_like(plane))


def heat(plane: NDArray[Any]) -> Html:
    """A plane (h, w) of numbers from -1 to 1 in two inks, a pixel each."""
    inks = np.where(plane[..., np.newaxis] < 0, NEGATIVE, POSITIVE)
    alpha = np.round(255 * np.clip(np.abs(plane), 0, 1)).astype(np.uint8)
    return _encoded(Image.fromarray(np.dstack([inks, alpha])))


def colour(patch: NDArray[Any], largest: float) -> Html:
    """Three planes (3, h, w) of signed numbers as red, green and blue around a middle grey."""
    scaled = 0.5 + np.nan_to_num(patch) / (2 * largest) if largest > 0 else np.full(patch.shape, 0.5)
    return png(np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8).transpose(1, 2, 0))


def _shrunk(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    factor = -(-max(plane.shape) // LARGEST_PLANE)
    return plane if factor <= 1 else np.asarray(Image.fromarray(plane).reduce(factor))


def _encoded(picture: Image.Image) -> Html:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return Html("data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii"))
