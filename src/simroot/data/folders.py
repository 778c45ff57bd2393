"""Which files of a folder or archive are trained on, and which are held against them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simroot.data.tree import WHOLE, Part, arrange, part_inside, read_listing, read_tree, top_folders
from simroot.errors import DataError
from simroot.images.listing import ImageFile, Listing, name_text

logger = logging.getLogger("simroot")


@dataclass(frozen=True)
class Labelled:
    """Files with the indices of their classes, and where they lie, for people."""

    files: list[ImageFile]
    labels: list[int]
    where: str


def labelled_parts(
    path: Path, train: str | Path | None, val: str | Path | None
) -> tuple[tuple[str, ...], Labelled, Labelled | None]:
    """The classes, what to train on, and the validation part if there is one.

    Args:
        path: a folder or an archive.
        train: the folder inside of it, or a path of its own, whose folders are the classes; None to look for the part.
        val: likewise; None to look for it, but not if ``train`` is given.

    Raises:
        DataError: there is no training part, a class has no image, or the parts have different classes.
    """
    listing = read_listing(path)
    tree = arrange(listing, path) if train is None else {}
    chosen = tree.get("train", tree.get(WHOLE)) if train is None else _named(listing, path, train)
    if chosen is None:
        raise DataError(f"{path} has {' and '.join(sorted(tree))} but no train folder")
    held_against = _validation(tree, path) if val is None else _named(listing, path, val)
    for part in (chosen, held_against):
        if part and part.empty:
            empty = ", ".join(name_text("/".join((*part.folder, name))) for name in part.empty)
            found = f" ({counts})" if (counts := listing.counts()) else ""
            raise DataError(f"{path}: no image can be read in {empty}{found}: add images, or remove what is no class")
    classes = tuple(chosen)
    if held_against:
        only_train, only_val = sorted(set(classes) - set(held_against)), sorted(set(held_against) - set(classes))
        if only_train or only_val:
            raise DataError(
                f"{path}: training and validation part have different classes (only in training:"
                f" {', '.join(only_train) or 'none'}; only in validation: {', '.join(only_val) or 'none'})"
            )
    if len(classes) < 2:
        raise DataError(f"{path} has one class ({classes[0]}): expected at least 2 class folders")
    return classes, _labelled(chosen, classes), _labelled(held_against, classes) if held_against else None


def labelled_test(path: Path, classes: Sequence[str]) -> tuple[str, Labelled]:
    """The part ``test``, or else ``val``, or else ``whole``, all class folders, for the classes of a network.

    Raises:
        DataError: there are none, or they have a class that the network does not know.
    """
    tree = read_tree(path)
    name = next((name for name in ("test", "val", WHOLE) if (found := tree.get(name)) and found.filled), None)
    if name is None:
        raise DataError(f"{path} has only a train folder: expected test or val, or only class folders")
    part = tree[name]
    if part.empty:
        logger.warning("%s: no image can be read of %s", path, ", ".join(part.empty))
    check_known(str(path), part.filled, classes)
    return name, _labelled(part, classes)


def check_known(name: str, found: Sequence[str], classes: Sequence[str]) -> None:
    """Refuse classes that a network does not know."""
    if unknown := sorted(set(found) - set(classes)):
        raise DataError(f"{name} has classes that the network does not know: {', '.join(unknown)}")


def _validation(tree: dict[str, Part], path: Path) -> Part | None:
    """The validation part, or else the test part; None if there is neither and some of the training is held out."""
    part = next((tree[name] for name in ("val", "test") if name in tree), None)
    if part is None or part.filled:
        return part
    where = "/".join(part.folder)
    if part is tree.get("val") or part:
        raise DataError(
            f"{path}: no image in a class folder of {where} can be read; add some, or remove {where} to hold out a part"
            " of the training images"
        )
    logger.warning("%s: %s has no class folders, so that a part of the training images is held out", path, where)
    return None


def _named(listing: Listing, path: Path, folder: str | Path) -> Part:
    """The part in a folder inside of the data, or else in a path of its own."""
    own, name = Path(folder).expanduser(), str(folder)
    if path.is_dir() and not (path / own).exists() and own.resolve().is_relative_to(path.resolve()):
        name = own.resolve().relative_to(path.resolve()).as_posix()
    if not Path(name).is_absolute() and (part := part_inside(listing, path, name)) is not None:
        return part
    if own.exists():
        part = part_inside(read_listing(own), own, ".")
        assert part is not None
        return part
    known = ", ".join(top_folders(listing, path)) or "none"
    raise DataError(f"{path} has no folder {name_text(name)}; its folders are {known}")


def _labelled(part: Part, classes: Sequence[str]) -> Labelled:
    pairs = [(file, classes.index(name)) for name, files in part.items() for file in files]
    where = name_text("/".join(part.folder)) or "its class folders"
    return Labelled([file for file, _ in pairs], [label for _, label in pairs], where)
