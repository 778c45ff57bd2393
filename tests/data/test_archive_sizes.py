"""What an archive says of sizes is checked first, and one damaged member costs itself alone."""

from __future__ import annotations

import io
import logging
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from simroot.data import archives, load, tree
from simroot.errors import DataError

COUNTS = {"cat": 5, "dog": 5}
Write = Callable[..., Path]
Pack = Callable[[Path, Path], Path]


def add(archive: Path, name: str, content: bytes, kind: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(archive, "a", kind) as target:
        target.writestr(name, content)
    return archive


def png(width: int, height: int) -> bytes:
    """A PNG that says a size and holds nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def test_sizes_that_are_too_large_are_refused_before_anything_is_read(
    tmp_path: Path, write_classes: Write, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(write_classes(tmp_path / "pets", COUNTS), tmp_path / "pets.zip")
    add(archive, "pets/cat/zeros.png", bytes(100_000))
    monkeypatch.setattr(tree, "memory_budget", lambda: 50_000)
    monkeypatch.setattr(archives, "_take", lambda *arguments: pytest.fail("something was read"))
    with pytest.raises(DataError, match="unpack it"):
        load(archive)


@pytest.mark.parametrize("head", [b"", png(8, 8), png(2**15, 2**15), b"\xff\xd8\xff"])
def test_of_members_larger_than_their_pixels_the_head_is_read(
    tmp_path: Path, write_classes: Write, pack: Pack, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    archive = pack(write_classes(tmp_path / "pets", COUNTS), tmp_path / "pets.zip")
    add(archive, "pets/cat/large.png", head + bytes(10**6))
    monkeypatch.setattr(archives, "_LARGE", 2**16)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    monkeypatch.setattr(archives, "_rest", refuse_more_than(200_000, archives._rest))
    assert load(archive).skipped == ("pets/cat/large.png",)


def refuse_more_than(size: int, read: Callable[..., bytes]) -> Callable[..., bytes]:
    def checked(stream: object, wanted: int, piece: int) -> bytes:
        assert wanted <= size
        return read(stream, wanted, piece)

    return checked


def test_large_images_that_need_their_bytes_are_read(
    tmp_path: Path, write_classes: Write, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_LARGE", 100)
    folder = write_classes(tmp_path / "pets", COUNTS, size=40)
    data = load(pack(folder, tmp_path / "pets.zip"))
    assert (data.image_size, data.skipped, len(data.train)) == (40, (), 8)


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_no_more_is_read_than_is_declared(
    tmp_path: Path, write_classes: Write, pack: Pack, kind: int, caplog: pytest.LogCaptureFixture
) -> None:
    archive = pack(write_classes(tmp_path / "pets", COUNTS), tmp_path / "pets.zip")
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    add(archive, "pets/cat/zz.png", buffer.getvalue() + bytes(10**6), kind)
    content = bytearray(archive.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 500)  # the size as it is said
    archive.write_bytes(content)
    data = load(archive)
    assert data.skipped == ("pets/cat/zz.png",)
    assert "pets/cat/zz.png cannot be read: Bad CRC-32" in caplog.text


@pytest.mark.parametrize("change", ["name", "suffix", "nul", "checksum"])
def test_one_damaged_member_is_named_and_the_others_are_read(
    tmp_path: Path, write_classes: Write, pack: Pack, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    archive = pack(write_classes(tmp_path / "pets", COUNTS), tmp_path / "pets.zip")
    content = bytearray(archive.read_bytes())
    at = content.rindex(b"pets/dog/004.png")
    if change == "checksum":
        content[at - 46 + 16] ^= 1
    else:
        position, letter = {"name": (9, b"x"), "suffix": (13, b"x"), "nul": (10, b"\0")}[change]
        content[at + position : at + position + 1] = letter
    archive.write_bytes(content)
    data = load(archive)
    assert len(data.train) + len(data.val) == 9
    assert "cannot be read" in caplog.text
    assert "pets/dog/" in caplog.text
