"""Opening encoded images of which something is damaged that the pixels do not need, or whose end is missing.

Metadata never costs an image: what cannot be read of it is left out. A file that is cut off is read as far as it goes,
if at most a sixteenth of the pixels is missing. That is half of what training moves its images by, so such an image
still shows its class. With more missing it is an image that cannot be read.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from simroot.images.sources import Source, content_of

# Only plain raster decoders: Pillow's others include EPS, which starts an external interpreter.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
MOST_MISSING = 1 / 16

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
# The chunks and segments that pixels and orientation need.
_PNG_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_PNG_COLOURS = 25  # the byte that says which colours there are
_PNG_TRANSPARENCY = {0: 2, 2: 6, 3: 1}  # kind of colours -> bytes of tRNS
_PNG_EXIF, _PNG_END = b"eXIf", b"\0\0\0\0IEND\xae\x42\x60\x82"
_JPEG_PROGRESSIVE, _JPEG_SCAN_START = (b"\xff\xc2", b"\xff\xca"), b"\xff\xda"
_JPEG_COMMENT, _JPEG_SCAN, _JPEG_END = 0xFE, 0xDA, b"\xff\xd9"
# Two of the application's segments, JFIF and Adobe, say what the colours are, if they are whole.
_JPEG_COLOURS, _JPEG_COLOURS_SIZE = (0xE0, 0xEE), 16
_JPEG_EXIF = (0xE1, b"Exif\0\0")
_NO_LENGTH = {0x01, *range(0xD0, 0xD8)}

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_header(source: Source) -> Image.Image:
    """Pillow's image with its header read; raises what Pillow raises."""
    try:
        return _open(source)
    except Exception as error:  # a decoder may raise anything on damaged bytes
        head = _head(source) if isinstance(source, Path) else content_of(source)
        if not head.startswith((_PNG, _JPEG)):
            raise
        try:
            return _open(without_metadata(content_of(source)))
        except Exception:
            raise error from None


def upright(image: Image.Image, source: Source) -> Image.Image:
    """The pixels of an image opened from ``source``, turned as its EXIF orientation says.

    Raises:
        Exception: of the decoder's, if more than ``MOST_MISSING`` of the pixels is missing.
    """
    try:
        image.load()
    except Exception as error:
        salvaged = _salvaged(image, source)
        if salvaged is None:
            raise error
        image = salvaged
    turn = _TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, of whatever type it is; 1 if there is none, or none that can be read."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
        value = value.strip(b"\0 ")[0] % ord("0") if isinstance(value, bytes) else value
        number = int(value[0] if isinstance(value, tuple | list) else value)
    except Exception:  # damaged metadata make its readers raise anything
        return 1
    return number if number in _TURNS else 1


def without_metadata(content: bytes) -> bytes:
    """A PNG or JPEG with what its pixels and orientation need alone; other content as it is."""
    if content.startswith(_PNG):
        return _png_without_metadata(content)
    return _jpeg_without_metadata(content) if content.startswith(_JPEG) else content


def _png_without_metadata(content: bytes) -> bytes:
    kept, at = [_PNG], len(_PNG)
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        data = content[at + 8 : at + 8 + length]
        if kind == _PNG_EXIF or len(data) < length:
            if kind in (_PNG_EXIF, b"IDAT"):
                checksum = struct.pack(">I", zlib.crc32(kind + data))
                kept += struct.pack(">I4s", len(data), kind), data, checksum
        elif kind == b"tRNS" and length < _PNG_TRANSPARENCY.get(content[_PNG_COLOURS], 0):
            pass
        elif kind in _PNG_NEEDED:
            kept.append(content[at : at + 12 + length])
        at += 12 + length
    return b"".join(kept) + _PNG_END


def _jpeg_without_metadata(content: bytes) -> bytes:
    kept, at = [content[:2]], 2
    while content[at : at + 1] == b"\xff" and at + 4 <= len(content):
        kind = content[at + 1]
        if kind == _JPEG_SCAN:
            return b"".join(kept) + content[at:]
        if kind == 0xFF or kind in _NO_LENGTH:  # a byte that fills up, or a marker alone
            at += 1 if kind == 0xFF else 2
            continue
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        colours = kind in _JPEG_COLOURS and end - at >= _JPEG_COLOURS_SIZE
        exif = kind == _JPEG_EXIF[0] and content.startswith(_JPEG_EXIF[1], at + 4)
        if colours or exif or not (0xE0 <= kind <= 0xEF or kind == _JPEG_COMMENT):
            kept.append(content[at:end])
        at = end
    return content


def _salvaged(failed: Image.Image, source: Source) -> Image.Image | None:
    """An image that could not be loaded, without its metadata, or as far as it goes."""
    content = without_metadata(content_of(source))
    try:
        image = _open(content)
        image.draft(None, failed.size)
        image.load()
    except Exception:
        return _cut_off(content, failed.size)
    return image


def _cut_off(content: bytes, size: tuple[int, int]) -> Image.Image | None:
    """As much as there is of an image whose end is missing, or None if too much is.

    It is decoded twice with something else in place of what is missing: what differs is not there. Where whole scans of
    a progressive JPEG are missing nothing differs, but all of it is blurred.
    """
    try:
        if content.startswith(_JPEG):
            if not _is_fine(content):
                return None
            content = content.rstrip(b"\xff")
            first, second = (_jpeg_with_end(content + filling, size) for filling in (b"", _noise()))
        else:
            first, second = (_over(content, value) for value in (0, 255))
    except Exception:
        return None
    differs = np.asarray(first) != np.asarray(second)
    missing = differs.any(2) if differs.ndim == 3 else differs
    return first if missing.mean() <= MOST_MISSING else None


def _is_fine(content: bytes) -> bool:
    """Whether the scans of a progressive JPEG bring all coefficients to all bits but the last; true of any other."""
    if not any(marker in content for marker in _JPEG_PROGRESSIVE):
        return True
    bits = np.full((256, 64), 15)
    at = content.find(_JPEG_SCAN_START)
    while at >= 0:
        count = content[at + 4]
        start, stop, last = content[at + 5 + 2 * count], content[at + 6 + 2 * count], content[at + 7 + 2 * count] & 15
        bits[[content[at + 5 + 2 * k] for k in range(count)], start : stop + 1] = last
        at = content.find(_JPEG_SCAN_START, at + 2)
    seen = bits[(bits < 15).any(1)]
    return bool(len(seen)) and bool((seen <= 1).all())


def _jpeg_with_end(content: bytes, size: tuple[int, int]) -> Image.Image:
    image = _open(content + _JPEG_END)
    image.draft(None, size)
    image.load()
    return image


def _over(content: bytes, value: int) -> Image.Image:
    """An image decoded as far as it goes over a ground of one value."""
    image = _open(content)
    if image.format not in ("PNG", "BMP", "TIFF", "PPM"):
        raise ValueError(f"{image.format} is not decoded row by row")
    bands = len(image.getbands())
    image.im = Image.new(image.mode, image.size, value if bands == 1 else (value,) * bands).im
    try:
        image.load()
    except Exception:
        image.tile = []  # type: ignore[attr-defined]  # nothing more can be read
    return image


def _noise() -> bytes:
    """Bytes that no image has where its end is missing, without markers."""
    return random.Random(0).randbytes(2**16).replace(b"\xff", b"\0")


def _open(source: Source) -> Image.Image:
    return Image.open(source if isinstance(source, Path) else io.BytesIO(content_of(source)), formats=FORMATS)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_PNG))
