"""Which files are images, and those of a folder: by their names, or else by how they begin. Without PyTorch."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from simroot.errors import counted
from simroot.images.sources import Source

SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".apng",
        ".gif",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".webp",
        ".pbm",
        ".pgm",
        ".ppm",
        ".pnm",
    ],
)
# Formats of images that are not read.
_OTHER_FORMATS = frozenset(
    [
        ".arw",
        ".avif",
        ".cr2",
        ".dcm",
        ".dng",
        ".eps",
        ".exr",
        ".heic",
        ".heif",
        ".ico",
        ".j2k",
        ".jp2",
        ".jxl",
        ".nef",
        ".psd",
        ".raw",
        ".svg",
        ".tga",
    ],
)
# Left by desktops, file servers and notebooks; hidden files are ignored as well.
_IGNORED = frozenset(
    (
        "$recycle.bin",
        "#recycle",
        "@eadir",
        "@recycle",
        "__macosx",
        "__pycache__",
        "_ds_store",
        "desktop.ini",
        "ehthumbs.db",
        "icon\r",
        "lost+found",
        "recycler",
        "system volume information",
        "thumbs.db",
    )
)
HEAD = 32  # bytes that tell what a file is
_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*", b"BM")
_BRANDS = {b"avif": ".avif", b"avis": ".avif", b"heic": ".heic", b"heix": ".heic", b"mif1": ".heic", b"msf1": ".heic"}

Parts = tuple[str, ...]

NOT_READ = "images in formats that are not read (convert them to .png or .jpg)"
NO_IMAGE = "files that are no images"
LOST_LINK = "links that lead to nothing that can be read"
UNREADABLE = "files and folders that cannot be read"
SPECIAL = "pipes, devices and other things that are no files"
_ONE = {
    NOT_READ: "image in a format that is not read (convert it to .png or .jpg)",
    NO_IMAGE: "file that is no image",
    LOST_LINK: "link that leads to nothing that can be read",
    UNREADABLE: "file or folder that cannot be read",
    SPECIAL: "pipe, device or other thing that is no file",
}


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An encoded image: its name for people, where it is, and the group that it belongs to, if any."""

    name: str
    source: Source
    group: str = ""


@dataclass
class Listing:
    """What a folder or an archive holds, ignored names apart; names are tuples of folders and file.

    Attributes:
        images: what looks like an image: its path, or its bytes.
        left_out: everything else, and why.
        folders: all folders, also those that are empty.
    """

    images: dict[Parts, Source] = field(default_factory=dict)
    left_out: dict[Parts, str] = field(default_factory=dict)
    folders: set[Parts] = field(default_factory=set)

    def leave_out(self, parts: Parts, why: str) -> None:
        """Leave something out; a link without a suffix may have been meant for a folder."""
        self.left_out[parts] = why
        if why == LOST_LINK and not PurePosixPath(parts[-1]).suffix:
            self.folders.add(parts)

    def counts(self) -> str:
        """What is left out, counted by reason and suffix, in one line; empty if nothing is."""
        reasons: dict[str, Counter[str]] = {}
        for parts, why in self.left_out.items():
            reasons.setdefault(why, Counter())[_suffix(parts[-1])] += 1
        return "; ".join(
            f"{counted(sum(kinds.values()), _ONE.get(why, why), why)}: "
            + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
            for why, kinds in sorted(reasons.items())
        )


def ignored(name: str) -> bool:
    """Whether a file or folder of this name is never looked at."""
    return name.startswith(".") or name.lower() in _IGNORED


def file_kind(name: str, head: bytes | None) -> str:
    """Empty for an image, or else why it is none: by the suffix, or for an unknown one by the first bytes.

    Args:
        name: of the file.
        head: its first bytes; None if they are not known yet: then "?" is returned where they would decide.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in SUFFIXES:
        return ""
    if suffix in _OTHER_FORMATS:
        return NOT_READ
    if head is None:
        return "?"
    if head.startswith(_STARTS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return ""
    return NOT_READ if other_format(head) else NO_IMAGE


def other_format(head: bytes) -> str:
    """The suffix of an image format that is not read, if a file begins like one."""
    return _BRANDS.get(head[8:12], "") if head[4:8] == b"ftyp" else ""


def name_text(name: str) -> str:
    """A name of a file as text: bytes that are no UTF-8 are written in hexadecimal, as Python does."""
    return os.fsencode(name).decode("utf-8", "backslashreplace") if _has_surrogates(name) else name


def class_name(folder: str) -> str:
    """The name of a class: its folder's as composed Unicode (NFC), without blanks around it."""
    name = unicodedata.normalize("NFC", name_text(folder))
    return name.strip() or name


def walk(root: Path) -> Listing:
    """The files of a folder and of all inside it, links followed, none twice on the way down.

    Raises:
        OSError: the folder itself cannot be read.
    """
    os.listdir(root)  # of folders inside, what cannot be read is left out
    listing = Listing()
    _walk(listing, root, (), frozenset((os.path.realpath(root),)))
    return listing


def _walk(listing: Listing, folder: Path, parts: Parts, above: frozenset[str]) -> None:
    try:
        names = sorted(name for name in os.listdir(folder) if not ignored(name))
    except OSError:
        listing.left_out[parts] = UNREADABLE
        return
    for name in names:
        path, inside = folder / name, (*parts, name)
        try:
            mode = path.stat().st_mode
        except OSError:
            mode = 0
        if stat.S_ISDIR(mode):
            if (real := os.path.realpath(path)) not in above:  # a link that leads back
                listing.folders.add(inside)
                _walk(listing, path, inside, above | {real})
        elif why := _why_not(path, mode):
            listing.leave_out(inside, why)
        else:
            listing.images[inside] = path


def _why_not(path: Path, mode: int) -> str:
    """Why a file is no image; what is called one but cannot be read is found out when it is decoded."""
    if (why := file_kind(path.name, None)) != "?":
        return why
    if not mode:
        return LOST_LINK if path.is_symlink() else UNREADABLE
    if not stat.S_ISREG(mode):
        return SPECIAL
    try:
        with path.open("rb") as file:
            return file_kind(path.name, file.read(HEAD))
    except OSError:
        return UNREADABLE


def _suffix(name: str) -> str:
    return PurePosixPath(name_text(name)).suffix.lower() or "without suffix"


def _has_surrogates(name: str) -> bool:
    return any("\udc80" <= letter <= "\udcff" for letter in name)
