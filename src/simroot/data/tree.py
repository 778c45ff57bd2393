"""The image files of a folder or archive, and which part and class each belongs to."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NoReturn

from simroot.data.archives import read_archive
from simroot.errors import DataError, counted
from simroot.images.listing import NO_IMAGE, SUFFIXES, ImageFile, Listing, Parts, class_name, name_text, walk
from simroot.images.sources import Source, content_of

WHOLE = "whole"  # the part of a folder of class folders without train, val or test
_PART_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# What folders of parts, or folders around classes, are called besides.
_FILLERS = ("set", "sets", "data", "dataset", "images", "image", "imgs", "img", "split", "part", "folder", "files")
# What numbered pieces of one data set are called, as fold_1 or images_001.
_PIECES = ("batch", "chunk", "fold", "images", "imgs", "shard", "split", "subset")
_NUMBERED = re.compile(rf".*({'|'.join(_PIECES)})s?[\W\d_]*\d", re.IGNORECASE)
_JOINED = re.compile(f"({'|'.join(sorted(_PART_WORDS, key=len, reverse=True))})({'|'.join(_FILLERS)})")
_TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
_FALLBACK_MEMORY = 16 * 2**30

logger = logging.getLogger("simroot")


class Part(dict[str, list[ImageFile]]):
    """The images of a part by class, all sorted by name; a class may have none.

    ``folder`` is where they lie, as names below the data set's path.
    """

    def __init__(self, folder: Parts, classes: Mapping[str, list[ImageFile]]) -> None:
        super().__init__(sorted(classes.items()))
        self.folder = folder

    @property
    def filled(self) -> list[str]:
        """The classes with images."""
        return [name for name, files in self.items() if files]

    @property
    def empty(self) -> list[str]:
        """The classes without an image."""
        return [name for name, files in self.items() if not files]


Tree = dict[str, Part]


def memory_budget() -> int:
    """Bytes of images that may be kept in memory: a quarter of the machine's."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return _FALLBACK_MEMORY // 4


def read_listing(path: Path) -> Listing:
    """What a folder or a .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz or .zip file holds; the log says what is left out.

    Raises:
        DataError: nothing there, unreadable, a damaged archive, or no images.
    """
    if path.is_dir():
        try:
            listing = walk(path)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
    elif path.is_file():
        listing = read_archive(path, memory_budget())
    elif path.exists():
        raise DataError(f"{path} is a pipe or a device: expected a folder or an archive of images")
    else:
        raise DataError(f"{path} does not exist: expected a folder or an archive of images")
    counts = listing.counts()
    if not listing.images:
        looked_for = ", ".join(sorted(SUFFIXES))
        raise DataError(f"{path} holds no images (looked for {looked_for}; found {counts or 'no file'})")
    if counts:
        only_others = set(listing.left_out.values()) == {NO_IMAGE}
        logger.log(logging.INFO if only_others else logging.WARNING, "%s: left out %s", path, counts)
    return listing


def read_tree(path: Path, *, grouped: bool = False) -> Tree:
    """The images of a folder or archive, by part and class.

    The classes are folders, inside folders of parts or at the top; all of it may lie inside a single folder. A part's
    folder is called ``train``, ``val`` or ``test`` in one of their forms, as in ``training_set``, ``seg_train`` or
    ``val_images``, and may hold a single folder of its own name or such as ``images``. Parts inside of each class are
    found as well, and a copy of all classes in a folder beside them is left out. ``grouped`` says that the folders
    inside of the class folders are groups: they may have the same names.

    Raises:
        DataError: of ``read_listing``; or folders that may be parts or classes, or no class folders.
    """
    return arrange(read_listing(path), path, grouped=grouped)


def arrange(listing: Listing, path: Path, *, grouped: bool = False) -> Tree:
    """The parts of a listing, as ``read_tree``."""
    shape = _Shape(listing, path, grouped=grouped)
    shape.turn_inside_out()
    parts = shape.parts()
    tree = {part: shape.part(shape.unwrapped(folder, part)) for part, folder in parts.items()}
    if not any(tree.values()):
        tables = [name_text(parts[-1]) for parts in listing.left_out if parts[-1].lower().endswith(_TABLES)]
        advice = f"; if {tables[0]} says the classes, give it as --data" if tables else ""
        raise DataError(f"{path} has no class folders: expected one folder of images per class{advice}")
    loose = len(listing.images) - sum(len(files) for part in tree.values() for files in part.values())
    if loose := loose - shape.copies:
        logger.warning("%s: ignored %s outside of the class folders of a known part", path, counted(loose, "image"))
    return tree


def part_inside(listing: Listing, path: Path, folder: str) -> Part | None:
    """The classes below a folder inside of a listing, whatever the folders are called; None without such a folder.

    Raises:
        DataError: it has no class folders with images.
    """
    shape = _Shape(listing, path)
    wanted = tuple(name for name in PurePosixPath(folder).parts if name != ".")
    found = next((inside for inside in (wanted, (*shape.root, *wanted)) if not inside or inside in shape.folders), None)
    if found is None:
        return None
    part = shape.part(shape.unwrapped(found, None) if wanted else shape.root)
    if not part.filled:
        raise DataError(f"{path} has no class folders with images in {name_text(folder)}")
    return part


def top_folders(listing: Listing, path: Path) -> list[str]:
    """The names of the outermost folders, below those that wrap everything."""
    shape = _Shape(listing, path)
    return [name_text(name) for name in sorted(shape.below(shape.root))]


def part_of(name: str) -> tuple[str, tuple[str, ...]] | None:
    """(train, val or test; what else the name says) of a folder such as ``seg_train``, or None."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)  # trainA
    words = re.findall(r"[^\W\d_]+", _JOINED.sub(r"\1 \2", spaced.lower()))
    parts = [_PART_WORDS[word] for word in words if word in _PART_WORDS]
    others = tuple(word for word in words if word not in _PART_WORDS and word not in _FILLERS)
    return (parts[0], others) if len(parts) == 1 else None


class _Shape:
    """The folders of a listing and what is in them, down to the first that does not hold all of it."""

    def __init__(self, listing: Listing, path: Path, *, grouped: bool = False) -> None:
        self.grouped = grouped
        self.path, self.images, self.copies = path, dict(listing.images), 0
        # What was meant to be an image counts for the shape.
        self.others = dict(listing.left_out)
        self.meant = [*self.images, *(parts for parts, why in self.others.items() if why != NO_IMAGE)]
        self.folders = listing.folders | {parts[:depth] for parts in self.meant for depth in range(1, len(parts))}
        self.root = self._top()

    def below(self, folder: Parts) -> dict[str, list[Parts]]:
        """Folder inside -> names below it of what was meant to be an image."""
        depth = len(folder)
        found: dict[str, list[Parts]] = {
            parts[-1]: [] for parts in self.folders if len(parts) == depth + 1 and parts[:depth] == folder
        }
        for parts in self.meant:
            if len(parts) > depth + 1 and parts[:depth] == folder:
                found.setdefault(parts[depth], []).append(parts[depth + 1 :])
        return found

    def _top(self) -> Parts:
        """The outermost folder below those that wrap everything, as in cifar10/train/cat/1.jpg."""
        root: Parts = ()
        while True:
            inside = {name: files for name, files in self.below(root).items() if files}
            [(name, files), *more] = inside.items() or [("", [])]
            if more or not _is_nested(files) or self._is_part(name, root):
                return root
            root = (*root, name)

    def _is_part(self, name: str, root: Parts) -> bool:
        """Whether a folder that holds everything is a part: called so alone, or beside others that are empty."""
        beside = [other for other in self.below(root) if part_of(other)]
        return name.lower() in _PART_WORDS or (name in beside and (len(beside) > 1 or part_of(name) == ("train", ())))

    def turn_inside_out(self) -> None:
        """Put parts that lie inside of every class, as in cat/train and dog/train, around the classes."""
        depth, inside = len(self.root), self.below(self.root)
        names = {parts[0] for files in inside.values() for parts in files if len(parts) > 1}
        flat = any(len(parts) == 1 for files in inside.values() for parts in files)
        if len(inside) < 2 or flat or "train" not in {(part_of(name) or ("",))[0] for name in names}:
            return
        if any(map(part_of, inside)) or not all(map(part_of, names)):
            return
        if len(set.intersection(*({parts[1] for parts in files if len(parts) > 2} for files in inside.values()))) > 1:
            return  # data sets beside one another, each with parts of the same classes

        def turned(parts: Parts) -> Parts:
            if len(parts) < depth + 2:
                return parts
            return (*parts[:depth], parts[depth + 1], parts[depth], *parts[depth + 2 :])

        self.images = {turned(parts): source for parts, source in self.images.items()}
        self.others = {turned(parts): why for parts, why in self.others.items()}
        self.meant = [turned(parts) for parts in self.meant]
        self.folders = {turned(parts) for parts in self.folders if len(parts) > depth + 1}
        self.folders |= {parts[:length] for parts in self.folders for length in range(depth + 1, len(parts))}

    def parts(self) -> dict[str, Parts]:
        """Part -> folder; the whole root if its folders are classes.

        Raises:
            DataError: the folders may be parts or classes.
        """
        inside = self.below(self.root)
        known = {name: found for name in inside if (found := part_of(name))}
        nested = [name for name in known if _is_nested(inside[name])]
        train = [name for name in nested if known[name][0] == "train"]
        others = [name for name, files in inside.items() if files and name not in known]
        if not nested or (others and not train):
            self._check_classes(inside)
            return {WHOLE: self.root}
        rests = {known[name][1] for name in (train or nested)}
        chosen: dict[str, Parts] = {}
        for name, (part, rest) in sorted(known.items()):
            if rest not in rests:
                others.append(name)
            elif part in chosen or len(rests) > 1:
                pair = chosen.get(part, (name,))[-1], name
                self._ambiguous(pair, f"{' and '.join(dict.fromkeys(pair))} may be parts of several data sets")
            else:
                chosen[part] = (*self.root, name)
        if others and len(chosen) == 1:
            if rests != {()}:  # as in train_station beside airport
                return {WHOLE: self.root}
            self._ambiguous((*train, *others), f"{train[0]} looks like a part and {others[0]} like a class")
        return chosen

    def unwrapped(self, folder: Parts, part: str | None) -> Parts:
        """The folder inside of one that only wraps it: of the same name or part, or called such as ``images``."""
        while True:
            inside = {name: files for name, files in self.below(folder).items() if files}
            [(name, files), *more] = inside.items() or [("", [])]
            same = folder and name.casefold() == folder[-1].casefold()
            named = name.lower() in _FILLERS or (part and (part_of(name) or ("",))[0] == part)
            if more or not _is_nested(files) or not (same or named):
                return folder
            folder = (*folder, name)

    def part(self, folder: Parts) -> Part:
        """The classes below a folder."""
        inside = self.below(folder)
        if copy := self._copy(folder, inside):
            del inside[copy]
        found: dict[str, list[ImageFile]] = {}
        spellings: dict[str, str] = {}
        for name in sorted(inside):
            files = sorted(parts for parts in inside[name] if (*folder, name, *parts) in self.images)
            if not files and not inside[name] and self._has_others((*folder, name)):
                logger.warning(
                    "%s: %s holds no images and is no class", self.path, name_text("/".join((*folder, name)))
                )
                continue
            label = class_name(name)
            if (other := spellings.setdefault(label, name)) != name:
                logger.warning("%s: folders %r and %r are one class, %s", self.path, other, name, label)
            sources = {(*folder, name, *parts): self.images[(*folder, name, *parts)] for parts in files}
            found.setdefault(label, []).extend(
                ImageFile(name_text("/".join(parts)), source) for parts, source in sources.items()
            )
        return Part(folder, found)

    def _has_others(self, folder: Parts) -> bool:
        return any(why == NO_IMAGE and parts[: len(folder)] == folder for parts, why in self.others.items())

    def _copy(self, folder: Parts, inside: dict[str, list[Parts]]) -> str:
        """The folder that holds a copy of all others beside it, if there is one."""
        for name, files in inside.items():
            others = {other for other in inside if other != name and inside[other]}
            if len(others) < 2 or {parts[0] for parts in files if len(parts) > 1} != others:
                continue
            if all(self._same((*folder, name, *parts), (*folder, *parts)) for parts in files):
                logger.warning(
                    "%s: left out %s, a copy of the folders beside it (%s)",
                    self.path,
                    name_text("/".join((*folder, name))),
                    counted(len(files), "image"),
                )
                self.copies += sum((*folder, name, *parts) in self.images for parts in files)
                return name
            self._ambiguous([name], f"{name} holds folders of the same names as those beside it, with other images")
        return ""

    def _same(self, first: Parts, second: Parts) -> bool:
        one, other = self.images.get(first), self.images.get(second)
        return one == other or (one is not None and other is not None and _content(one) == _content(other))

    def _check_classes(self, inside: dict[str, list[Parts]]) -> None:
        """Refuse what looks like parts of one data set: by its names, or as all hold folders of the same names."""
        insides = [files for files in inside.values() if files]
        if len(insides) > 1 and all(_NUMBERED.fullmatch(name) for name in inside):
            self._ambiguous(sorted(inside), f"{' and '.join(sorted(inside)[:2])} look like pieces of one data set")
        found = {(part_of(name) or ("",))[0] for name, files in inside.items() if files}
        if len(found) > 1 and "train" in found and "" not in found:
            raise DataError(
                f"{self.path}: {name_text(' and '.join(sorted(inside)))} look like parts, but hold no class folders:"
                " expected a folder of images per class in each, or --train . if these are the classes"
            )
        if self.grouped or len(insides) < 2 or any(len(parts) == 1 for files in insides for parts in files):
            return
        common = set.intersection(*({parts[0] for parts in files} for files in insides))
        if len(common) > 1:
            same = ", ".join(map(name_text, sorted(common)[:3]))
            self._ambiguous(sorted(inside), f"each of its folders holds {same}")

    def _ambiguous(self, names: Sequence[str], why: str) -> NoReturn:
        first, second = [*map(name_text, names), "DIR"][:2]
        raise DataError(
            f"{self.path}: {name_text(why)}, so that it is not clear which folders are parts and which are classes;"
            f" name the parts, as in --train {first} --val {second} (train= and val= of load), or give --train . if"
            " these are the classes"
        )


def _is_nested(files: Iterable[Parts]) -> bool:
    return any(len(parts) > 1 for parts in files)


def _content(source: Source) -> bytes:
    try:
        return content_of(source)
    except OSError:
        return b""
