"""From an encoded image of any size and mode to a square uint8 array of one or three channels.

Without PyTorch: what runs an exported network prepares images exactly as training did.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from simroot.errors import DataError
from simroot.salvage import FORMATS, Source, open_header, orientation, upright

GREY_MODES = frozenset(("1", "L", "LA", "La", "I", "F"))
_TIFF_SIZE = (0x0100, 0x0101)
_TIFF = (".tif", ".tiff")

# Left, top, right and bottom, in pixels.
Box = tuple[float, float, float, float]


def centre_box(width: int, height: int, share: float = 1.0) -> Box:
    """The square in the middle whose side is ``share`` of the shorter side."""
    return square_box(width, height, share, 0.5, 0.5)


def square_box(width: int, height: int, share: float, right: float, down: float) -> Box:
    """A square whose side is ``share`` of the shorter side; ``right`` and ``down`` are 0 to 1 of the room there is."""
    side = share * min(width, height)
    left, top = right * (width - side), down * (height - side)
    return left, top, left + side, top + side


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


def probe(source: Source) -> tuple[int, int, bool]:
    """(width, height, is grey) from the header; width and height as seen after EXIF orientation."""
    with open_image(source) as image:
        return *_oriented_size(image), _is_grey(image)


def decode_array(
    source: Source, channels: int, image_size: int, seen: Callable[[int, int], Box] = centre_box
) -> NDArray[np.uint8]:
    """uint8 array (channels, image_size, image_size).

    The EXIF orientation is applied, transparency is laid over white, 16-bit greys are scaled by 255/65535. The part
    that ``seen`` gives for a width and height is resized (bilinear over the full footprint of each pixel).
    """
    with open_image(source) as opened:
        width, height = _oriented_size(opened)
        left, top, right, bottom = seen(width, height)
        side = min(right - left, bottom - top)
        # A large JPEG is decoded at a fraction of its size at which what is seen of it still has all its pixels.
        opened.draft(None, (int(opened.width * image_size / side), int(opened.height * image_size / side)))
        image = _flatten(upright(opened, source)).convert("L" if channels == 1 else "RGB")
        across, down = image.width / width, image.height / height
        box = (left * across, top * down, min(right * across, image.width), min(bottom * down, image.height))
        if image.size != (image_size, image_size) or box != (0, 0, *image.size):
            image = image.resize((image_size, image_size), Image.Resampling.BILINEAR, box)
        pixels = np.asarray(image)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def read_image(
    path: str | Path, channels: int, image_size: int, seen: Callable[[int, int], Box] = centre_box
) -> NDArray[np.uint8]:
    """One image file by ``decode_array``.

    Raises:
        DataError: the file is missing, unreadable or not an image.
    """
    path = Path(path)
    try:
        return decode_array(path, channels, image_size, seen)
    except Exception as error:  # a decoder may raise anything on damaged bytes
        raise DataError(f"{path} cannot be read as an image: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Why an image could not be read, in one line and without the source's representation."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image in a known format (" + ", ".join(FORMATS) + ")"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _oriented_size(image: Image.Image) -> tuple[int, int]:
    # Of a TIFF some versions of Pillow give the size as it is after orientation, so that its tags are asked.
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    width, height = (tags.get(tag, size) for tag, size in zip(_TIFF_SIZE, image.size, strict=True))
    return (height, width) if orientation(image) >= 5 else (width, height)


def _is_grey(image: Image.Image) -> bool:
    if image.mode == "P":
        palette = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in GREY_MODES or image.mode.startswith("I;16")


def _flatten(image: Image.Image) -> Image.Image:
    """An image without transparency and with 8 bits a channel."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _scale(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def _scale(image: Image.Image) -> Image.Image:
    """Greys wider than 8 bits: integers of 16 bits, or floats in [0, 1], scaled to 0..255 (Pillow would clip them)."""
    values = np.asarray(image, dtype=np.float64)
    top = 1.0 if image.mode == "F" else 65535.0
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= top):  # also when NaN
        raise ValueError(f"grey values {low:g} to {high:g} are outside of 0 to {top:g}")
    return Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8))
