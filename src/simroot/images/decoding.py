"""From an encoded image of any size and mode to a uint8 array of one or three channels.

Without PyTorch: what runs an exported network prepares images exactly as training did.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from simroot.errors import DataError
from simroot.images.preparation import Box, Preparation, Seen
from simroot.images.salvage import FORMATS, open_header, orientation, upright
from simroot.images.sources import Member, Source

GREY_MODES = frozenset(("1", "L", "LA", "La", "I", "F"))
_TIFF_SIZE = (0x0100, 0x0101)
_LOOKED_AT = 4096
_FAR = 10
Picture = str | Path | Image.Image | NDArray[np.uint8]
_TIFF = (".tif", ".tiff")


def open_image(source: Source) -> Image.Image:
    """The image behind a path or its bytes, only its header read; damaged metadata are left out.

    Raises:
        OSError: the file cannot be read.
        ValueError: more pixels than Pillow's ``Image.MAX_IMAGE_PIXELS``, or whatever the decoder raises.
    """
    if isinstance(source, Path) and source.exists() and not source.is_file():
        raise ValueError("not a regular file")
    if isinstance(source, Path) and source.suffix.lower() in _TIFF:
        source = source.read_bytes()  # a file Pillow would map into memory, and scramble it if it is turned
    image = open_header(source)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise ValueError(f"{image.width} x {image.height} pixels are more than the safe {limit}")
    return image


class Header(NamedTuple):
    """What an image says of itself before it is decoded; width and height as seen after EXIF orientation.

    ``deep`` are greys of more than 8 bits.
    """

    width: int
    height: int
    grey: bool
    deep: bool
    transparent: bool


def probe(source: Source) -> Header:
    """The header of an image."""
    with open_image(source) as image:
        return Header(*_oriented_size(image), _is_grey(image), _is_deep(image), image.has_transparency_data)


class Span(NamedTuple):
    """The values of a deep image: the least, those below and above which one in a thousand lies, the most, and white.

    ``no_data`` is a value far from all others, in which pixels without data are often written; the rest is without it.
    """

    least: float
    low: float
    high: float
    most: float
    top: float
    no_data: float | None


def grey_span(source: Source) -> Span:
    """The values of a deep image.

    Raises:
        ValueError: if a value is not a number.
    """
    with open_image(source) as image:
        values, top = np.asarray(upright(image, source), dtype=np.float64), _top(image)
    if np.isnan(values).any():
        raise ValueError("a grey value is not a number")
    values, no_data = _without_outlier(values)
    least, low, high, most = np.quantile(values, (0, 0.001, 0.999, 1)).tolist()
    return Span(least, low, high, most, top, no_data)


def _without_outlier(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], float | None]:
    """The values without the least, or else the most, if that is as far from the others as ten times their range."""
    for end in (float(values.min()), float(values.max())):
        rest = values[values != end]
        if len(rest) and (span := float(np.ptp(rest))) and float(np.abs(rest - end).min()) >= _FAR * span:
            return rest, end
    return values, None


def visible_pixels(source: Source) -> NDArray[np.uint8]:
    """uint8 (N, 4): red, green, blue and alpha of pixels that are not transparent, a few thousand at most, evenly."""
    with open_image(source) as image:
        pixels = np.asarray(upright(image, source).convert("RGBA")).reshape(-1, 4)
    pixels = pixels[pixels[:, 3] > 0]
    return pixels[:: len(pixels) // _LOOKED_AT + 1]


def decode_array(source: Source, preparation: Preparation, seen: Seen | None = None) -> NDArray[np.uint8]:
    """uint8 array (channels, height, width).

    The EXIF orientation is applied, greys of more than 8 bits are scaled, transparency is laid over the background.
    What is ``seen``, by default the preparation's share, is resized (bilinear over the full footprint of each pixel).
    """
    with open_image(source) as opened:
        frame = preparation.frame(*_oriented_size(opened))
        box = preparation.around(frame.box(preparation.share) if seen is None else seen(frame))
        left, top, right, bottom = box
        height, width = preparation.size
        # A large JPEG is decoded at a fraction of its size at which what is seen of it still has all its pixels.
        pixels, side = max((width, right - left), (height, bottom - top), key=lambda pair: pair[0] / pair[1])
        opened.draft(None, (int(opened.width * pixels / side), int(opened.height * pixels / side)))
        image = _flatten(upright(opened, source), preparation).convert("L" if preparation.channels == 1 else "RGB")
        across, down = image.width / frame.room[0], image.height / frame.room[1]
        image = _resized(image, (left * across, top * down, right * across, bottom * down), preparation)
        found = np.asarray(image)
    return found[None] if preparation.channels == 1 else found.transpose(2, 0, 1)


def read_image(picture: Picture | Source, preparation: Preparation, seen: Seen | None = None) -> NDArray[np.uint8]:
    """One image file, or its bytes, by ``decode_array``.

    An image of Pillow's or an array (H, W, C) or (H, W) is read as if it were a file.

    Raises:
        DataError: the file is missing, unreadable or not an image.
    """
    try:
        source = Path(picture) if isinstance(picture, str) else picture
        source = source if isinstance(source, Path | bytes | Member) else encoded(source)
        return decode_array(source, preparation, seen)
    except Exception as error:  # a decoder may raise anything on damaged bytes
        name = picture if isinstance(picture, str | Path | Member) else f"the {type(picture).__name__}"
        raise DataError(f"{name} cannot be read as an image: {reason(error)}") from error


def encoded(picture: Image.Image | NDArray[np.uint8]) -> bytes:
    """A file of the same pixels, so that pictures in memory take the way of all others."""
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] > 4):
            raise ValueError(f"it is {picture.dtype} {picture.shape}; expected uint8 (H, W, C) or (H, W)")
        picture = Image.fromarray(picture[..., 0] if picture.shape[2:] == (1,) else picture)
    image = ImageOps.exif_transpose(picture)
    if image.has_transparency_data:
        image = image.convert("RGBA")
    content = io.BytesIO()
    image.save(content, "TIFF")
    return content.getvalue()


def reason(error: BaseException) -> str:
    """Why an image could not be read, in one line and without the source's representation."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image in a known format (" + ", ".join(FORMATS) + ")"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _oriented_size(image: Image.Image) -> tuple[int, int]:
    # Some versions of Pillow give a TIFF's size after orientation: its tags have the size before.
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    width, height = (tags.get(tag, size) for tag, size in zip(_TIFF_SIZE, image.size, strict=True))
    return (height, width) if orientation(image) >= 5 else (width, height)


def _is_grey(image: Image.Image) -> bool:
    if image.mode == "P":
        palette = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in GREY_MODES or image.mode.startswith("I;16")


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _flatten(image: Image.Image, preparation: Preparation) -> Image.Image:
    """An image without transparency and with 8 bits a channel."""
    if _is_deep(image):
        return _scale(image, preparation.pixel_range)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (*preparation.background, 255)), image)
    return image


def _scale(image: Image.Image, pixel_range: tuple[float, float] | None) -> Image.Image:
    """Greys of more than 8 bits, scaled from their range to 0..255 (Pillow would clip them)."""
    values = np.asarray(image, dtype=np.float64)
    low, high = (0.0, _top(image)) if pixel_range is None else pixel_range
    least, most = float(values.min()), float(values.max())
    if math.isnan(least) or (pixel_range is None and not low <= least <= most <= high):
        raise ValueError(f"grey values {least:g} to {most:g} are outside of {low:g} to {high:g}")
    scaled = (np.clip(values, low, high) - low) * (255 / (high - low))
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def _top(image: Image.Image) -> float:
    """The white of a grey image of more than 8 bits."""
    return 1.0 if image.mode == "F" else 65535.0


def _resized(image: Image.Image, box: Box, preparation: Preparation) -> Image.Image:
    """What is in a box, at the preparation's size; what the box has outside of the image is background."""
    height, width = preparation.size
    left, right, start, stop = _inside(box[0], box[2], image.width, width)
    top, bottom, first, last = _inside(box[1], box[3], image.height, height)
    size, part = (stop - start, last - first), (left, top, right, bottom)
    if image.size != size or part != (0, 0, *image.size):
        image = image.resize(size, Image.Resampling.BILINEAR, part)
    if size == (width, height):
        return image
    whole = Image.new("RGB", (width, height), preparation.background).convert(image.mode)
    whole.paste(image, (start, first))
    return whole


def _inside(low: float, high: float, length: int, pixels: int) -> tuple[float, float, int, int]:
    """What of low..high lies in 0..length, and where in ``pixels`` it begins and ends: a pixel of it at least."""
    least, most = max(low, 0.0), min(high, length)
    start, stop = (round((edge - low) / (high - low) * pixels) for edge in (least, most))
    start = min(start, pixels - 1)
    return least, most, start, max(stop, start + 1)
