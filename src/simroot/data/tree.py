"""The image files of a folder or archive, and which part and class each belongs to.

Archives are read into memory and never extracted: members that are symbolic links or devices, absolute, or lead upwards
are left out, and the total size is bounded.
"""

from __future__ import annotations

import logging
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from simroot.errors import DataError
from simroot.images import SUFFIXES
from simroot.salvage import Source

PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
WHOLE = "whole"  # the part of a folder of class folders without train, val or test
_FALLBACK_MEMORY = 16 * 2**30
# RuntimeError: encrypted, or a compression that is not known. ValueError and IndexError: names and sizes of a zip.
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    ValueError,
    IndexError,
)
# Formats of images that are not read.
_OTHER_FORMATS = frozenset((".avif", ".heic", ".heif", ".jp2", ".jxl", ".psd", ".svg", ".tga"))
_BLOCK = 512  # of a tar

logger = logging.getLogger("simroot")


@dataclass(frozen=True)
class ImageFile:
    """An encoded image: its name for people, and its path or its bytes."""

    name: str
    source: Source


Tree = dict[str, dict[str, list[ImageFile]]]  # part -> class -> files, all sorted by name
_Entry = tuple[tuple[str, ...], Path | bytes]
_Member = tuple[str, int, Callable[[], bytes] | str]  # name, size, and how to read it or the name of what it links to


def memory_budget() -> int:
    """Bytes of images that may be kept in memory: a quarter of the machine's."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return _FALLBACK_MEMORY // 4


def read_tree(path: Path) -> Tree:
    """The images of a folder or of a .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz or .zip file, by part and class.

    The classes are folders, inside ``train`` (or ``training``), ``val`` (or ``valid``, ``validation``) and ``test`` (or
    ``testing``) or at the top; all of it may lie inside a single folder. Hidden files and files that are not images are
    left out.

    Raises:
        DataError: nothing there, unreadable, a damaged archive, no images or no class folders.
    """
    if path.is_dir():
        entries: Iterable[_Entry] = _walk(path)
    elif path.is_file():
        entries = _read_archive(path).items()
    else:
        raise DataError(f"{path} does not exist: expected a folder or an archive of images")
    return _arrange(dict(entries), path)


def _wanted(parts: tuple[str, ...]) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return bool(parts) and not hidden and _suffix(parts) in SUFFIXES


def _suffix(parts: tuple[str, ...]) -> str:
    return PurePosixPath(parts[-1]).suffix.lower()


def _walk(root: Path) -> Iterator[_Entry]:
    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error

    above: dict[str, set[str]] = {}  # real paths of a folder and of what it lies in
    unread: Counter[str] = Counter()
    for folder, subfolders, files in os.walk(root, onerror=fail, followlinks=True):
        real, ancestors = os.path.realpath(folder), above.get(os.path.dirname(folder), set())
        if real in ancestors:
            subfolders.clear()  # a link that leads back
            continue
        above[folder] = {*ancestors, real}
        subfolders.sort()
        relative = Path(folder).relative_to(root).parts
        yield from (((*relative, name), Path(folder, name)) for name in files if _wanted((*relative, name)))
        unread.update(suffix for name in files if (suffix := _suffix((name,))) in _OTHER_FORMATS)
    if unread:
        found = ", ".join(f"{count} {suffix}" for suffix, count in sorted(unread.items()))
        logger.warning(
            "%s: left out images in formats that are not read: %s; convert them to .png or .jpg", root, found
        )


def _read_archive(path: Path) -> dict[tuple[str, ...], bytes]:
    budget, found, left_out = memory_budget(), dict[tuple[str, ...], bytes](), 0
    try:
        members = _tar_members(path) if tarfile.is_tarfile(path) else _zip_members(path)
        for name, size, read in members:
            parts = PurePosixPath(name).parts
            if name.startswith("/") or ".." in parts:
                logger.warning("%s: left out %r, which leads out of the archive", path, name)
            elif not _wanted(parts):
                continue
            elif not isinstance(read, str):
                budget -= size
                if budget < 0:
                    raise DataError(f"{path} holds more images than fit in memory: unpack it and give the folder")
                found[parts] = read()
            elif (target := found.get(PurePosixPath(read).parts)) is not None:
                found[parts] = target
            else:
                left_out += 1
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except _DAMAGED as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
        raise DataError(f"{path} is not a readable .tar, .tar.gz or .zip archive: {reason}") from error
    if left_out:
        logger.warning("%s: left out %d images that are links or devices", path, left_out)
    return found


def _tar_members(path: Path) -> Iterator[_Member]:
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isreg() and (content := archive.extractfile(member)):
                yield member.name, member.size, content.read
            elif not member.isdir():
                # Only a hard link names a member, one that has come before.
                yield member.name, 0, member.linkname if member.islnk() else ""
        # tarfile stops in silence at a damaged header; a whole archive ends in blocks of zeros.
        assert archive.fileobj is not None
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(_BLOCK) != bytes(_BLOCK):
            raise tarfile.ReadError(f"it is cut off or damaged at byte {archive.offset}")


def _zip_members(path: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if stat.S_ISLNK(member.external_attr >> 16):
                yield member.filename, 0, ""
            elif not member.is_dir():
                yield member.filename, member.file_size, partial(archive.read, member)


def _arrange(files: dict[tuple[str, ...], Path | bytes], path: Path) -> Tree:
    if not files:
        raise DataError(f"{path} holds no images (looked for {', '.join(sorted(SUFFIXES))})")
    depth, folders = _top_folders(files)
    in_parts = _are_parts(files, depth, folders)
    class_at = depth + 1 if in_parts else depth
    tree: Tree = {}
    ignored = 0
    for parts in sorted(files):
        part = PARTS.get(parts[depth].lower()) if in_parts and len(parts) > depth else WHOLE
        if part is None or len(parts) < class_at + 2:
            ignored += 1
            continue
        file = ImageFile("/".join(parts), files[parts])
        tree.setdefault(part, {}).setdefault(parts[class_at], []).append(file)
    if not tree:
        raise DataError(f"{path} has no class folders: expected one folder of images per class")
    if ignored:
        logger.warning("%s: ignored %d images that are not in a class folder of a known part", path, ignored)
    return tree


def _are_parts(files: Iterable[tuple[str, ...]], depth: int, folders: set[str]) -> bool:
    """Whether folders are train, val or test, with classes inside, and no classes that happen to be called so."""
    classes_inside = any(len(parts) > depth + 2 and parts[depth].lower() in PARTS for parts in files)
    return classes_inside and (folders <= PARTS.keys() or any(PARTS.get(folder) == "train" for folder in folders))


def _top_folders(files: Iterable[tuple[str, ...]]) -> tuple[int, set[str]]:
    """The depth and names of the outermost folders below those that wrap everything, as in cifar10/train/cat/1.jpg."""
    depth = 0
    while True:
        folders = {parts[depth].lower() for parts in files if len(parts) > depth + 1}
        nested = any(len(parts) > depth + 2 for parts in files)
        if len(folders) != 1 or folders <= PARTS.keys() or not nested:
            return depth, folders
        depth += 1
