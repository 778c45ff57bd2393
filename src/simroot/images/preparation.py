"""How images become a network's input: one value that goes from the data through a run to every exported file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from simroot.errors import DataError

FITS = ("crop", "pad", "stretch")
COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0)}

# Left, top, right and bottom, in pixels.
Box = tuple[float, float, float, float]
# The side of a square, or height and width.
ImageSize = int | tuple[int, int]

AUTO = "auto"
MUCH_CUT = 0.25  # of the pixels: so many are not cut away unless asked, and never without a word
LARGEST_IN_MEMORY = 64  # pixels a side: also the largest native size that is kept by default


class Frame(NamedTuple):
    """The part of an image that is seen, to be moved in the room of the whole image; widths and heights in pixels."""

    width: float
    height: float
    room: tuple[int, int]

    @property
    def kept(self) -> float:
        """The share of the image's pixels that is seen."""
        return self.width * self.height / math.prod(self.room)

    def box(self, share: float = 1.0, right: float = 0.5, down: float = 0.5) -> Box:
        """Sides of ``share`` of the frame's; ``right`` and ``down`` are 0 to 1 of the room there is."""
        width, height = share * self.width, share * self.height
        left, top = right * (self.room[0] - width), down * (self.room[1] - height)
        return left, top, left + width, top + height


@dataclass(frozen=True)
class Preparation:
    """How an image of any size and mode becomes what a network takes, uint8 (channels, height, width).

    Attributes:
        channels: 1, grey, or 3, colour.
        image_size: side of a square, or (height, width).
        fit: what becomes of an image of another shape. ``"crop"``: the largest part in its middle that has the shape is
            seen; ``"pad"``: all of it, with the background on two sides; ``"stretch"``: all of it, distorted.
        pixel_range: (low, high), the grey values that become 0 and 255 in images of more than 8 bits; what is beyond is
            clipped. None: 0 and 65535 of integers, 0 and 1 of floats, and what is beyond is refused.
        background: red, green and blue behind transparent pixels and around padded images.
        share: of the width and height that are seen in evaluation.

    Raises:
        DataError: for a value that is none of these.
    """

    channels: int
    image_size: ImageSize
    fit: str = "crop"
    pixel_range: tuple[float, float] | None = None
    background: tuple[int, int, int] = COLOURS["white"]
    share: float = 1.0

    def __post_init__(self) -> None:
        _require(self.channels in (1, 3), "channels", self.channels, "1 or 3")
        _require(self.image_size == as_image_size(self.image_size), "image_size", self.image_size, "a side or a pair")
        _require(self.fit in FITS, "fit", self.fit, f"one of {', '.join(FITS)}")
        _require(self.pixel_range == as_pixel_range(self.pixel_range), "pixel_range", self.pixel_range, "(low, high)")
        _require(self.background == as_background(self.background), "background", self.background, "(r, g, b)")
        _require(_is_number(self.share) and 0 < self.share <= 1, "share", self.share, "a share up to 1")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return sides(self.image_size)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a prepared image."""
        return (self.channels, *self.size)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a file, by the names of ``simroot.data.load``'s arguments; the share is not among them."""
        return {
            "image_size": self.image_size if isinstance(self.image_size, int) else list(self.image_size),
            "channels": self.channels,
            "fit": self.fit,
            "pixel_range": "full" if self.pixel_range is None else list(self.pixel_range),
            "background": list(self.background),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], share: float = 1.0) -> Preparation:
        """Read back what ``to_dict`` wrote, among other keys; what is missing beside size and channels is the default.

        Raises:
            DataError: for a value that cannot be used.
        """
        return cls(
            values["channels"],
            as_image_size(values["image_size"]),
            values.get("fit", "crop"),
            as_pixel_range(values.get("pixel_range")),
            as_background(values.get("background", "white")),
            share,
        )

    def frame(self, width: int, height: int) -> Frame:
        """What is seen of an image of so many pixels."""
        if self.fit != "crop":
            return Frame(width, height, (width, height))
        down, across = self.size
        return Frame(min(width, height * across / down), min(height, width * down / across), (width, height))

    def around(self, box: Box) -> Box:
        """The box whose contents fill the input: with ``"pad"`` the smallest of the input's shape around a box."""
        if self.fit != "pad":
            return box
        left, top, right, bottom = box
        down, across = self.size
        more_across = max(0.0, (bottom - top) * across / down - (right - left)) / 2
        more_down = max(0.0, (right - left) * down / across - (bottom - top)) / 2
        return left - more_across, top - more_down, right + more_across, bottom + more_down


# From the frame of an image to what is seen of it.
Seen = Callable[[Frame], Box]


def sides(image_size: ImageSize) -> tuple[int, int]:
    """Height and width."""
    return (image_size, image_size) if isinstance(image_size, int) else image_size


def size_name(image_size: ImageSize) -> str:
    """What people call it: 32, or 24x96 of height 24 and width 96."""
    return str(image_size) if isinstance(image_size, int) else "x".join(map(str, image_size))


def as_image_size(value: Any) -> ImageSize:
    """A side, or (height, width) if they differ, from a whole number or a sequence of two.

    Raises:
        DataError: for anything else.
    """
    pair = tuple(value) if _is_sequence(value, 2) else (value, value)
    if not all(isinstance(side, int) and not isinstance(side, bool) and side >= 1 for side in pair):
        raise DataError(f"image_size is {value!r}; expected a number of pixels, or height and width")
    height, width = pair
    return height if height == width else (height, width)


def as_pixel_range(value: Any) -> tuple[float, float] | None:
    """(low, high) from a sequence of two numbers, None from None or "full".

    Raises:
        DataError: for anything else, or if low is not below high.
    """
    if value is None or value == "full":
        return None
    if not _is_sequence(value, 2) or not all(map(_is_number, value)) or not value[0] < value[1]:
        raise DataError(f"pixel_range is {value!r}; expected 'auto', 'full' or two numbers, the lower one first")
    return value[0], value[1]


def as_background(value: Any) -> tuple[int, int, int]:
    """Red, green and blue from a sequence of three numbers of 0 to 255, or from "white" or "black".

    Raises:
        DataError: for anything else.
    """
    found = COLOURS.get(value, value) if isinstance(value, str) else value
    whole = _is_sequence(found, 3) and all(isinstance(part, int) and 0 <= part <= 255 for part in found)
    if not whole:
        raise DataError(f"background is {value!r}; expected 'auto', 'white', 'black' or three numbers of 0 to 255")
    red, green, blue = map(int, found)
    return red, green, blue


def _is_sequence(value: object, length: int) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) == length


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _require(fits: bool, name: str, received: object, expected: str) -> None:
    if not fits:
        raise DataError(f"{name} is {received!r}; expected {expected}")
