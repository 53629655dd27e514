"""How images of any size and colours are made alike."""

from dataclasses import dataclass

from hapgop.errors import InputError
from hapgop.predict import Preprocessing

_LARGEST = 4096


@dataclass(frozen=True)
class Shaping:
    """What all images are to have in common; None: what the images themselves suggest.

    size: (height, width); channels: 1 or 3; resize: "stretch" or "crop", where the sides' ratio differs.
    Raises InputError on others.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    resize: str = "stretch"

    def __post_init__(self) -> None:
        if self.channels not in (None, 1, 3):
            raise InputError(f"channels is 1 (grey) or 3 (RGB), not {self.channels!r}.")
        if self.resize not in ("stretch", "crop"):
            raise InputError(f"resize is stretch or crop, not {self.resize!r}.")

    @classmethod
    def of(cls, size: int | tuple[int, int] | None, channels: int | None, resize: str) -> "Shaping":
        """As `Shaping`, of a size that may also be one side of a square."""
        if size is None:
            return cls(None, channels, resize)
        sides = (size, size) if isinstance(size, int) else tuple(size)
        if len(sides) != 2 or not all(isinstance(side, int) and 1 <= side <= _LARGEST for side in sides):
            raise InputError(f"size is a number of pixels or (height, width), each from 1 to 4096, not {size!r}.")
        return cls((sides[0], sides[1]), channels, resize)

    def rules(self, size: tuple[int, int], channels: int) -> Preprocessing:
        """Rules whose `pixels` make an image fit; size and channels: what is suggested."""
        channels = self.channels or channels
        return Preprocessing(self.size or size, channels, (0.5,) * channels, (0.5,) * channels, self.resize)
