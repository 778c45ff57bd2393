"""The images of an archive, never extracted: of a plain .tar where they lie, of others read into memory.

Members that lead out of the archive or are devices are left out; a link stands for what it leads to inside. The sizes
that it gives are checked before anything is read, and no more is read than they say.
"""

from __future__ import annotations

import io
import logging
import lzma
import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from PIL import Image

from simroot.data.progress import watched
from simroot.errors import DataError
from simroot.images.decoding import open_image
from simroot.images.listing import (
    HEAD,
    LOST_LINK,
    NOT_READ,
    SPECIAL,
    UNREADABLE,
    Listing,
    Parts,
    file_kind,
    ignored,
    name_text,
)
from simroot.images.sources import TAR_BLOCK, Member, header_check

_DAMAGED_MEMBER = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError)
# RuntimeError: encrypted, or a compression that is not known. ValueError and IndexError: names and sizes of a zip.
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    ValueError,
    IndexError,
)
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
_AFTER_END = 2**20  # bytes that are looked at
_UTF8_NAME = 0x800
# The header of a member larger than this is looked at before the rest is read.
_LARGE = 16 * 2**20
_HEADER = 2**16
_BYTES_PER_PIXEL = 8
_PIECE = 4096  # read at a time where a decoder may give any number of bytes for it
_LONGEST_LINK = 4096
_MOST_LINKED = 1_000_000
_NAMED_IN_LOG = 5

logger = logging.getLogger("simroot")


class _Member(NamedTuple):
    """``content`` opens a file; a link has its target instead, and a folder or device neither."""

    parts: Parts
    size: int
    content: Callable[[], IO[bytes]] | None = None
    link: str | None = None
    is_folder: bool = False
    alone: bool = False  # whether damage of it leaves the others whole
    piece: int = 2**31  # bytes to read at a time
    place: Member | None = None  # where it can be read again, if it lies there as it is


def read_archive(path: Path, budget: int) -> Listing:
    """The images of a .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz or .zip file, of ``budget`` bytes at most.

    Raises:
        DataError: it cannot be read or is damaged, or holds more than that.
    """
    try:
        members = _tar_members(path) if tarfile.is_tarfile(path) else _zip_members(path, budget)
        return _listing(watched(members, "reading the archive"), budget, path)
    except DataError:
        raise
    except DAMAGED as error:
        raise DataError(f"{path} is not a readable .tar, .tar.gz or .zip archive: {damage(error)}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def damage(error: Exception) -> str:
    """What is wrong with an archive, in one line."""
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(": ")


def _listing(members: Iterator[_Member], budget: int, path: Path) -> Listing:
    listing, links, trouble = Listing(), dict[Parts, Parts](), list[str]()
    for member in members:
        parts = member.parts
        if not parts:
            continue
        if parts[0].startswith("/") or ".." in parts:
            trouble.append(f"left out {'/'.join(parts)!r}, which leads out of the archive")
        elif any(map(ignored, parts)):
            pass
        elif member.is_folder:
            listing.folders.add(parts)
        elif member.link is not None:
            links[parts] = PurePosixPath(member.link).parts
        elif member.content is None:
            listing.left_out[parts] = SPECIAL
        else:
            if parts in listing.images:
                trouble.append(f"{name_text('/'.join(parts))} is there more than once; the last one counts")
            budget -= _take(listing, member, budget, path, trouble)
    listing.folders |= {parts[:depth] for parts in listing.images for depth in range(1, len(parts))}
    _follow(listing, links, path)
    for what in trouble[:_NAMED_IN_LOG]:
        logger.warning("%s: %s", path, what)
    if len(trouble) > _NAMED_IN_LOG:
        logger.warning("%s: and %d more", path, len(trouble) - _NAMED_IN_LOG)
    return listing


def _take(listing: Listing, member: _Member, budget: int, path: Path, trouble: list[str]) -> int:
    """Keep a member if it is an image; the bytes that this takes."""
    parts, name, where = member.parts, member.parts[-1], name_text("/".join(member.parts))
    why = file_kind(name, None)
    if why == NOT_READ:
        listing.left_out[parts] = why
        return 0
    assert member.content is not None
    try:
        with member.content() as stream:
            content = stream.read(HEAD)
            if why == "?" and (why := file_kind(name, content)):
                listing.left_out[parts] = why
                return 0
            if member.size > _LARGE:
                content += stream.read(_HEADER)
                if (largest := _largest(content)) < member.size:
                    trouble.append(f"{where} is said to have {member.size:,} bytes, too many for its pixels; not read")
                    listing.images[parts] = content[:largest]
                    return 0
            if member.place is not None:
                listing.images[parts] = member.place
                return 0
            if member.size > budget:
                raise _too_much(path)
            listing.images[parts] = content + _rest(stream, member.size - len(content), member.piece)
    except _DAMAGED_MEMBER as error:
        if not member.alone:
            raise
        trouble.append(f"{where} cannot be read: {' '.join(str(error).split())}")
        if why:
            listing.left_out[parts] = UNREADABLE
        else:
            listing.images[parts] = b""  # named and skipped when it is decoded
        return 0
    return member.size


def _largest(head: bytes) -> int:
    """The most bytes that a file which begins so can need."""
    limit = Image.MAX_IMAGE_PIXELS or 2**28
    try:
        with open_image(head) as image:
            pages = image.format in ("TIFF", "GIF")  # whose number is not known
            return _BYTES_PER_PIXEL * (limit if pages else image.width * image.height) + _LARGE
    except Exception:  # a decoder may raise anything
        return 0 if file_kind("", head) else _BYTES_PER_PIXEL * limit


def _rest(stream: IO[bytes], size: int, piece: int) -> bytes:
    pieces = []
    while size > 0 and (content := stream.read(min(size, piece))):
        pieces.append(content)
        size -= len(content)
    return b"".join(pieces)


def _follow(listing: Listing, links: dict[Parts, Parts], path: Path) -> None:
    """Put what links lead to in their place: images and folders of images, but not links to links."""
    below: dict[Parts, list[Parts]] = {}
    if links:
        for parts in listing.images:
            for depth in range(1, len(parts)):
                below.setdefault(parts[:depth], []).append(parts)
    real = dict(listing.images)
    for link, target in links.items():
        found = [target] if target in real else below.get(target, [])
        if not found or link[: len(target)] == target:
            listing.leave_out(link, LOST_LINK)
            continue
        for parts in found:
            listing.images[(*link, *parts[len(target) :])] = real[parts]
        if found != [target]:
            listing.folders.add(link)
        if len(listing.images) - len(real) > _MOST_LINKED:
            raise DataError(f"{path} has links that stand for more than {_MOST_LINKED:,} images: unpack it")


def _inside(link: Parts, target: str) -> str:
    """The name in the archive that a symbolic link leads to; empty if it leads out."""
    name = posixpath.normpath(posixpath.join(*link[:-1], target))
    return "" if name.startswith(("/", "..")) else name


def _tar_members(path: Path) -> Iterator[_Member]:
    with tarfile.open(path, encoding="utf-8") as archive:
        last = -1
        for member in archive:
            vars(archive)["members"].clear()  # tarfile would remember each, which takes as much as a small image
            if member.size < 0 or member.offset <= last:  # a size that leads back
                raise tarfile.ReadError(f"it is damaged at byte {max(last, 0)}")
            last = member.offset
            parts = PurePosixPath(member.name).parts
            if member.isreg():
                plain = isinstance(archive.fileobj, io.BufferedReader) and not member.issparse()
                place = _place(path, archive, member) if plain else None
                yield _Member(parts, member.size, partial(_tar_content, archive, member), place=place)
            elif member.issym():
                yield _Member(parts, 0, link=_inside(parts, member.linkname))
            elif member.islnk():
                yield _Member(parts, 0, link=member.linkname)
            else:
                yield _Member(parts, 0, is_folder=member.isdir())
        # tarfile stops in silence at a damaged header; a whole archive ends in blocks of zeros.
        assert archive.fileobj is not None
        archive.fileobj.seek(archive.offset)
        end = archive.fileobj.read(TAR_BLOCK)
        if not end:
            logger.warning("%s has no end mark: if it was cut off between two images, those after it are missing", path)
        elif end != bytes(TAR_BLOCK):
            raise tarfile.ReadError(f"it is cut off or damaged at byte {archive.offset}")
        if any(archive.fileobj.read(_AFTER_END)):
            logger.warning("%s goes on after its end mark, as two archives in one file do: that is not read", path)


def _place(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Member:
    assert archive.fileobj is not None
    archive.fileobj.seek(member.offset_data - TAR_BLOCK)
    return Member(path, member.offset_data, member.size, header_check(archive.fileobj.read(TAR_BLOCK)))


def _tar_content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(member)
    assert content is not None
    return content


class TarFile(NamedTuple):
    """A file of a tar."""

    name: str
    size: int
    opened: Callable[[], IO[bytes]] | None  # None of a link
    place: Member | None  # where it lies, if it lies there as it is

    def content(self) -> bytes:
        """Its bytes; none of a link."""
        if self.opened is None:
            return b""
        with self.opened() as stream:
            return stream.read(self.size)

    def image(self) -> bytes | Member:
        """The image; its beginning alone if it is said to have more bytes than its pixels can need."""
        if self.size > _LARGE and self.opened is not None:
            with self.opened() as stream:
                head = stream.read(_HEADER)
            if (largest := _largest(head)) < self.size:
                return head[:largest]
        return self.place or self.content()


def tar_files(path: Path) -> Iterator[TarFile]:
    """The files of a tar, and links without what they lead to, in their order; raises one of ``DAMAGED`` or OSError."""
    for member in _tar_members(path):
        if member.content is not None or member.link is not None:
            yield TarFile("/".join(member.parts), member.size, member.content, member.place)


def _zip_members(path: Path, budget: int) -> Iterator[_Member]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        names = _zip_names(members)
        if sum(member.file_size for member, name in zip(members, names, strict=True) if _is_wanted(name)) > budget:
            raise _too_much(path)
        for member, name in zip(members, names, strict=True):
            parts = PurePosixPath(name).parts
            piece = member.file_size if member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) else _PIECE
            if name.endswith("/"):
                yield _Member(parts, 0, is_folder=True)
            elif stat.S_ISLNK(member.external_attr >> 16):
                with archive.open(member) as content:
                    target = content.read(_LONGEST_LINK).decode("utf-8", "replace")
                yield _Member(parts, 0, link=_inside(parts, target))
            else:
                yield _Member(parts, member.file_size, partial(archive.open, member), alone=True, piece=piece)


def _is_wanted(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and not any(map(ignored, parts)) and not file_kind(parts[-1], None)


def _zip_names(members: Sequence[zipfile.ZipInfo]) -> list[str]:
    """Names with slashes; those that do not say so are UTF-8 as well, if all of them can be."""
    names = [member.filename for member in members]
    with suppress(UnicodeError):
        names = [
            name if member.flag_bits & _UTF8_NAME else name.encode("cp437").decode()
            for member, name in zip(members, names, strict=True)
        ]
    return [name if "/" in name else name.replace("\\", "/") for name in names]


def _too_much(path: Path) -> DataError:
    return DataError(f"{path} holds more images than fit in memory: unpack it and give the folder")
