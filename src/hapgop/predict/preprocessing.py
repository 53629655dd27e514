"""From a picture to the numbers that a net reads: one implementation, for training and prediction alike."""

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hapgop.engine import numbers
from hapgop.errors import InputError
from hapgop.predict.images import open_image, plain

Picture = str | os.PathLike[str] | Image.Image | NDArray[Any]

_RESIZE = ("stretch", "fit", "crop")


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes an input: (value / 255 - mean) / std at one size, with 1 or 3 channels.

    size: (height, width). resize, always bilinear: "stretch" changes the sides' ratio; "fit" keeps the whole
    picture and fills the rest with the mean; "crop" keeps the middle that has the right ratio. mean and std
    are for values from 0 to 1, one for each channel. Raises InputError on settings that make no sense.

    >>> rules = Preprocessing((2, 2), 1, (0.5,), (0.5,))
    >>> rules(np.array([[0, 255], [255, 0]], np.uint8)).tolist()
    [[[-1.0, 1.0], [1.0, -1.0]]]
    """

    size: tuple[int, int]
    channels: int = 3
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    resize: str = "stretch"

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "size", tuple(int(side) for side in self.size))
            object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
            object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        except (TypeError, ValueError) as error:
            raise InputError(f"Preprocessing: size, mean and std are lists of numbers ({error}).") from error
        if len(self.size) != 2 or min(self.size) < 1:
            raise InputError(f"Preprocessing: size is (height, width), both positive, not {self.size}.")
        if self.channels not in (1, 3):
            raise InputError(f"Preprocessing: 1 channel (grey) or 3 (RGB), not {self.channels!r}.")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise InputError(
                f"Preprocessing: {self.channels} channels need as many means and stds;"
                f" given were {len(self.mean)} and {len(self.std)}."
            )
        if not all(math.isfinite(value) for value in self.mean + self.std) or min(self.std) <= 0:
            raise InputError("Preprocessing: every mean must be finite and every std above 0.")
        if self.resize not in _RESIZE:
            raise InputError(f"Preprocessing: resize is one of {', '.join(_RESIZE)}, not {self.resize!r}.")

    def pixels(self, picture: Picture) -> NDArray[np.uint8]:
        """A file, a PIL image or a uint8 array (h, w[, c]), at this size: uint8 (h, w, channels)."""
        image = self._resized(opened(picture, self.size).convert("L" if self.channels == 1 else "RGB"))
        return np.array(image, dtype=np.uint8).reshape(*self.size, self.channels)

    def batch(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (n, h, w, channels) to float32 (n, channels, h, w), channels-last in memory.

        Each number depends on its own pixel alone, so a picture gives the same bits in any batch.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != self.channels:
            raise InputError(
                f"A batch is uint8 of shape (n, h, w, {self.channels}), not {pixels.dtype} of {pixels.shape}."
            )
        std = np.array(self.std)
        scale, shift = (1 / (255 * std)).astype(np.float32), (np.array(self.mean) / std).astype(np.float32)
        return numbers(pixels, scale, shift).transpose(0, 3, 1, 2)

    def __call__(self, picture: Picture) -> NDArray[np.float32]:
        """float32 (channels, h, w) of one picture."""
        read: NDArray[np.float32] = self.batch(self.pixels(picture)[None])[0]
        return read

    def to_json(self) -> dict[str, Any]:
        """Plain values, keys as in timm; `from_json` reads them back."""
        return {
            "input_size": [self.channels, *self.size],
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": "bilinear",
            "resize": self.resize,
        }

    @classmethod
    def from_json(cls, value: Any) -> "Preprocessing":
        """What `to_json` wrote. Raises InputError naming the part that is missing or wrong."""
        if not isinstance(value, dict):
            raise InputError("Preprocessing must be a JSON object.")
        for key in ("input_size", "mean", "std"):
            if not isinstance(value.get(key), list):
                raise InputError(f"Preprocessing needs a list under {key!r}.")
        if value.get("interpolation", "bilinear") != "bilinear":
            raise InputError(f"Preprocessing: interpolation is 'bilinear', not {value['interpolation']!r}.")
        if len(value["input_size"]) != 3:
            raise InputError("Preprocessing: input_size is [channels, height, width].")
        channels, height, width = value["input_size"]
        resize = value.get("resize", "stretch")
        return cls((height, width), channels, tuple(value["mean"]), tuple(value["std"]), resize)

    def _resized(self, image: Image.Image) -> Image.Image:
        height, width = self.size
        if image.size == (width, height):
            return image
        if self.resize == "stretch":
            return image.resize((width, height), Image.Resampling.BILINEAR)
        across, down = width / image.width, height / image.height
        if self.resize == "crop":
            scale = max(across, down)
            cut_x, cut_y = (image.width - width / scale) / 2, (image.height - height / scale) / 2
            box = (max(cut_x, 0), max(cut_y, 0), image.width - max(cut_x, 0), image.height - max(cut_y, 0))
            return image.resize((width, height), Image.Resampling.BILINEAR, box=box)
        scale = min(across, down)
        inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        fill: tuple[int, ...] = tuple(min(255, max(0, round(255 * value))) for value in self.mean)
        canvas = Image.new(image.mode, (width, height), fill if self.channels == 3 else fill[0])
        corner = ((width - inner[0]) // 2, (height - inner[1]) // 2)
        canvas.paste(image.resize(inner, Image.Resampling.BILINEAR), corner)
        return canvas


def opened(picture: Picture, size: tuple[int, int] | None = None) -> Image.Image:
    """The picture upright, in mode "L" or "RGB"; size: as in `open_image`."""
    if isinstance(picture, Image.Image):
        return plain(picture)
    if isinstance(picture, np.ndarray):
        return plain(_from_array(picture))
    return open_image(picture, size)


def _from_array(array: NDArray[Any]) -> Image.Image:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in (1, 3, 4) or array.size == 0:
        raise InputError(
            "A picture as an array is uint8 of shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4),"
            f" not {array.dtype} of {array.shape}."
        )
    return Image.fromarray(np.ascontiguousarray(array.squeeze(2) if channels == 1 and array.ndim == 3 else array))
