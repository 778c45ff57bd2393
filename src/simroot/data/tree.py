"""The image files of a folder or archive, and which part and class each belongs to.

Archives are read into memory and never extracted: members that are links or devices, absolute, or lead upwards are
left out, and the total size is bounded.
"""

from __future__ import annotations

import logging
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from simroot.data.splits import ImageFile
from simroot.errors import DataError
from simroot.images import SUFFIXES

PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
WHOLE = "whole"  # the part of a folder of class folders without train, val or test
_FALLBACK_MEMORY = 16 * 2**30
# RuntimeError: encrypted, or a compression that is not known.
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)

logger = logging.getLogger("simroot")

Tree = dict[str, dict[str, list[ImageFile]]]  # part -> class -> files, all sorted by name
_Entry = tuple[tuple[str, ...], Path | bytes]
_Member = tuple[str, int, Callable[[], bytes]]  # name, size, read


def memory_budget() -> int:
    """Bytes of images that may be kept in memory: a quarter of the machine's."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return _FALLBACK_MEMORY // 4


def read_tree(path: Path) -> Tree:
    """The images of a folder or of a .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz or .zip file, by part and class.

    The classes are folders, inside ``train``, ``val`` (or ``valid``, ``validation``) and ``test`` or at the top; all
    of it may lie inside a single folder. Hidden files and files that are not images are left out.

    Raises:
        DataError: nothing there, unreadable, a damaged archive, no images or no class folders.
    """
    if path.is_dir():
        entries: Iterable[_Entry] = _walk(path)
    elif path.is_file():
        entries = _read_archive(path)
    else:
        raise DataError(f"{path} does not exist: expected a folder or an archive of images")
    return _arrange(dict(entries), path)


def _wanted(parts: tuple[str, ...]) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return bool(parts) and not hidden and PurePosixPath(parts[-1]).suffix.lower() in SUFFIXES


def _walk(root: Path) -> Iterator[_Entry]:
    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error

    seen = set()
    for folder, subfolders, files in os.walk(root, onerror=fail, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            subfolders.clear()  # a link that leads back
            continue
        seen.add(real)
        subfolders.sort()
        relative = Path(folder).relative_to(root).parts
        yield from (((*relative, name), Path(folder, name)) for name in files if _wanted((*relative, name)))


def _read_archive(path: Path) -> Iterator[_Entry]:
    budget = memory_budget()
    members = _zip_members(path) if zipfile.is_zipfile(path) else _tar_members(path)
    try:
        for name, size, read in members:
            parts = PurePosixPath(name).parts
            if name.startswith("/") or ".." in parts:
                logger.warning("%s: left out %r, which leads out of the archive", path, name)
            elif _wanted(parts):
                budget -= size
                if budget < 0:
                    raise DataError(f"{path} holds more images than fit in memory: unpack it and give the folder")
                yield parts, read()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except _DAMAGED as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
        raise DataError(f"{path} is not a readable .tar, .tar.gz or .zip archive: {reason}") from error


def _tar_members(path: Path) -> Iterator[_Member]:
    with tarfile.open(path) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            if content:
                yield member.name, member.size, content.read


def _zip_members(path: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir() and not stat.S_ISLNK(member.external_attr >> 16):
                yield member.filename, member.file_size, partial(archive.read, member)


def _arrange(files: dict[tuple[str, ...], Path | bytes], path: Path) -> Tree:
    if not files:
        raise DataError(f"{path} holds no images (looked for {', '.join(sorted(SUFFIXES))})")
    depth, folders = _top_folders(files)
    in_parts = "train" in folders or folders <= PARTS.keys()
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


def _top_folders(files: Iterable[tuple[str, ...]]) -> tuple[int, set[str]]:
    """The depth and names of the outermost folders below those that wrap everything, as in cifar10/train/cat/1.jpg."""
    depth = 0
    while True:
        folders = {parts[depth].lower() for parts in files if len(parts) > depth + 1}
        nested = any(len(parts) > depth + 2 for parts in files)
        if len(folders) != 1 or folders <= PARTS.keys() or not nested:
            return depth, folders
        depth += 1
