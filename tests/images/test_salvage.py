"""Damaged metadata cost no image; of one that is cut off what is there is read, unless much is missing."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from simroot.images.decoding import decode_array, probe
from simroot.images.preparation import Preparation

BLOCKS = np.random.default_rng(0).integers(0, 256, (6, 12, 3), dtype=np.uint8)
PICTURE = Image.fromarray(np.kron(BLOCKS, np.ones((8, 8, 1), np.uint8)))  # 96 x 48
TURNED = PICTURE.transpose(Image.Transpose.ROTATE_270)  # as EXIF's orientation 6 asks for


def encoded(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    PICTURE.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(content: bytes) -> NDArray[np.uint8]:
    return decode_array(content, Preparation(3, 48))


def exif(*tags: tuple[int, int, int, bytes]) -> bytes:
    """A big-endian EXIF block of (tag, type, count, the four bytes of its value or offset)."""
    entries = b"".join(struct.pack(">HHI", *tag[:3]) + tag[3] for tag in tags)
    return b"MM\0*\0\0\0\x08" + struct.pack(">H", len(tags)) + entries + b"\0\0\0\0"


def jpeg_with_exif(block: bytes) -> bytes:
    content = encoded("JPEG")
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 8) + b"Exif\0\0" + block + content[2:]


def chunk(kind: bytes, data: bytes, checksum: int | None = None) -> bytes:
    crc = zlib.crc32(kind + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def png_with(extra: bytes, *, late: bool = False) -> bytes:
    content = encoded("PNG")
    at = content.index(b"IEND") - 4 if late else content.index(b"IDAT") - 4
    return content[:at] + extra + content[at:]


LONG = zlib.compress(b"x" * 2**21)
SHORT, LONG_TYPE, RATIONAL, BYTE, ASCII, UNDEFINED, DOUBLE = 3, 4, 5, 1, 2, 7, 12


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"zTXt", b"note\0\0" + LONG),
        chunk(b"iTXt", b"note\0\1\0\0\0" + LONG),
        chunk(b"iCCP", b"profile\0\0" + LONG),
        chunk(b"tEXt", b"note\0text", checksum=1),
        chunk(b"iCCP", b"profile"),
        chunk(b"gAMA", b""),
        chunk(b"pHYs", b"\0"),
        chunk(b"eXIf", b"\0\x08\0\x02\x01\x12\0\x03"),
        chunk(b"eXIf", b"II"),
        chunk(b"fcTL", b"\0"),
    ],
    ids=lambda extra: repr(extra[4:8]),
)
@pytest.mark.parametrize("late", [False, True])
def test_no_chunk_of_a_png_costs_the_image(extra: bytes, late: bool) -> None:
    content = png_with(extra, late=late)
    assert probe(content)[:3] == (96, 48, False)
    assert np.array_equal(pixels(content), pixels(encoded("PNG")))


@pytest.mark.parametrize(
    ("block", "turned"),
    [
        (exif((0x0112, SHORT, 1, b"\0\x06\0\0")), True),
        (exif((0x0112, BYTE, 1, b"\x06\0\0\0")), True),
        (exif((0x0112, LONG_TYPE, 1, b"\0\0\0\x06")), True),
        (exif((0x0112, ASCII, 2, b"6\0\0\0")), True),
        (exif((0x0112, SHORT, 1, b"\0\x06\0\0"), (0x8298, RATIONAL, 1, b"\0\0\0\x08")), True),
        (exif((0x0112, SHORT, 1, b"\0\x09\0\0")), False),
        (exif((0x0112, ASCII, 4, b"up\0\0")), False),
        (exif((0x0112, UNDEFINED, 0, b"\0\0\0\0")), False),
        (exif((0x0112, RATIONAL, 1, b"\xff\xff\xff\xff")), False),
        (exif((0x0112, DOUBLE, 1, b"\0\0\0\x08")), False),
        (exif((0x0112, 99, 1, b"\0\x06\0\0")), False),
        (b"MM\0*\xff\xff\xff\xff", False),
        (b"nothing", False),
        (b"", False),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow says what is damaged
def test_exif_of_any_type_is_used_or_left_out(block: bytes, turned: bool) -> None:
    content = jpeg_with_exif(block)
    assert probe(content)[:3] == ((48, 96, False) if turned else (96, 48, False))
    whole = np.asarray(Image.fromarray(pixels(content).transpose(1, 2, 0)).resize((6, 6)), dtype=int)
    side = TURNED.crop((0, 24, 48, 72)) if turned else PICTURE.crop((24, 0, 72, 48))
    assert np.abs(whole - np.asarray(side.resize((6, 6)), dtype=int)).mean() < 10


def test_segments_of_a_jpeg_that_say_nonsense() -> None:
    content = encoded("JPEG")
    for kind in (0xE1, 0xE2, 0xED, 0xEE, 0xFE):
        for data in (b"", b"\0", b"MPF\0" + b"\xff" * 20, b"Photoshop 3.0\0" + b"8BIM" * 9, b"http\0" * 9, b"Adobe"):
            segment = bytes((0xFF, kind)) + struct.pack(">H", len(data) + 2) + data
            assert np.array_equal(pixels(content[:2] + segment + content[2:]), pixels(content))


@pytest.mark.parametrize(
    ("kind", "options", "kept", "lost"),
    [
        ("JPEG", {}, (1, 2, 3), 2),
        ("JPEG", {"progressive": True}, (1, 2), 2),
        ("PNG", {}, (1, 4, 12, 16), 2),
        ("BMP", {}, (1, 300), 4),
        ("PPM", {}, (1, 300), 4),
    ],
)
def test_of_an_image_that_is_cut_off_what_is_there_is_read(
    kind: str, options: dict[str, Any], kept: tuple[int, ...], lost: int
) -> None:
    content = encoded(kind, **options)
    for cut in kept:
        differs = (pixels(content[:-cut]) != pixels(content)).any(0)
        assert differs.mean() <= 1 / 12  # a sixteenth of the whole, of which the middle is seen
    with pytest.raises(OSError, match=r"[tT]runcated"):
        pixels(content[: -(len(content) // lost)])


@pytest.mark.parametrize("spoil", [lambda c: c[:40], lambda c: b"GIF89a" + c, lambda c: c[:8], lambda c: c[1:]])
def test_what_has_lost_its_head_is_no_image(spoil: Callable[[bytes], bytes]) -> None:
    for kind in ("JPEG", "PNG"):
        with pytest.raises(Exception, match=r"."):
            pixels(spoil(encoded(kind)))


@pytest.mark.parametrize("data", [b"", b"\0\1\0\2\0"])
def test_a_transparent_colour_that_is_cut_short_costs_no_image(data: bytes) -> None:
    assert np.array_equal(pixels(png_with(chunk(b"tRNS", data))), pixels(encoded("PNG")))


def test_a_progressive_jpeg_that_lacks_scans_is_not_read_blurred() -> None:
    content = encoded("JPEG", progressive=True)
    scans = [at for at in range(len(content)) if content.startswith(b"\xff\xda", at)]
    assert len(scans) > 3
    for scan in scans[1:4]:
        with pytest.raises(OSError, match=r"[tT]runcated"):
            pixels(content[: content.rfind(b"\xff\xc4", 0, scan)])  # with its table of codes
    assert np.array_equal(pixels(content[:-2]), pixels(content))
