"""Which files of a folder or archive are trained on, and which are held against them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simroot.data.class_texts import all_classes, marked, parted
from simroot.data.columns import Columns
from simroot.data.forms import Tables, merged, tables_of
from simroot.data.tree import WHOLE, Part, Tree, arrange, part_inside, part_of, read_listing, read_tree, top_folders
from simroot.errors import DataError, listed
from simroot.images.listing import ImageFile, Listing, name_text

_GUESSED = Columns()

logger = logging.getLogger("simroot")


@dataclass(frozen=True)
class Labelled:
    """Files with their labels, see ``simroot.data.labels``, and where they lie, for people."""

    files: list[ImageFile]
    labels: NDArray[np.integer[Any]]
    where: str


def labelled_parts(
    path: Path, train: str | Path | None, val: str | Path | None, columns: Columns = _GUESSED
) -> tuple[tuple[str, ...], Labelled, Labelled | None]:
    """The classes, what to train on, and the validation part if there is one.

    Args:
        path: a folder or an archive, or a table or shards.
        train: the folder inside of it, or a path of its own, whose folders are the classes; of a table the part; None
            to look for the part.
        val: likewise; None to look for it, but not if ``train`` is given.
        columns: of tables.

    Raises:
        DataError: there is no training part, a class has no image, or the parts have different classes.
    """
    tables = tables_of(path)
    if tables is None:
        chosen, held_against = _parts_of_folder(path, train, val, columns)
    else:
        chosen, held_against = _parts_of_tables(tables, train, val, columns)
    if columns.level is not None:
        if tables is not None:
            raise DataError(f"{path} is no folder of class folders: --group-column names the groups, not --group-level")
        chosen = _grouped(chosen, columns.level, path)
        held_against = held_against and _grouped(held_against, columns.level, path)
    elif columns.group is not None and tables is None:
        raise DataError(f"{path} is no table: --group-level names the groups, not --group-column")
    if tables is None and not any(_is_table(part) for part in (train, val)):
        columns.require_none(f"{path} holds class folders")
    return _checked(chosen, held_against, path, same=tables is None, multi_label=columns.multi_label)


def _is_table(part: str | Path | None) -> bool:
    return part is not None and tables_of(Path(part).expanduser()) is not None


def _grouped(part: Part, level: int, path: Path) -> Part:
    """The part with groups: the folders so deep inside of the class folders, by their names alone."""

    def grouped(file: ImageFile) -> ImageFile:
        inside = file.name.split("/")[len(part.folder) + 1 : -1]
        if len(inside) < level:
            raise DataError(f"{path}: {file.name} lies in no folder inside of its class folder, {level} deep")
        return replace(file, group="/".join(inside[:level]))

    return Part(part.folder, {name: [grouped(file) for file in files] for name, files in part.items()})


def parts_of_tree(
    tree: Tree, path: Path, *, multi_label: bool = False
) -> tuple[tuple[str, ...], Labelled, Labelled | None]:
    """``labelled_parts`` of rows that have been read."""
    return _checked(_training(tree, path), _validation(tree, path), path, same=False, multi_label=multi_label)


def _checked(
    chosen: Part, held_against: Part | None, path: Path, *, same: bool, multi_label: bool
) -> tuple[tuple[str, ...], Labelled, Labelled | None]:
    """The parts with their classes, which must be the ``same`` if it is said: of rows, those of a part may lack one."""
    classes = _classes(chosen, multi_label)
    if held_against:
        others = _classes(held_against, multi_label)
        only_train = sorted(set(classes) - set(others)) if same else []
        only_val = sorted(set(others) - set(classes))
        if only_train or only_val:
            raise DataError(
                f"{path}: training and validation part have different classes (only in training:"
                f" {', '.join(only_train) or 'none'}; only in validation: {', '.join(only_val) or 'none'})"
            )
    if len(classes) < 2 and multi_label:
        raise DataError(
            f"{path}: the labels name {listed(classes, 1) or 'no class'} alone: expected at least 2 classes"
        )
    if len(classes) < 2:
        raise DataError(f"{path} has one class ({classes[0]}): expected at least 2 class folders")
    second = _labelled(held_against, classes, multi_label) if held_against else None
    return classes, _labelled(chosen, classes, multi_label), second


def _classes(part: Part, multi_label: bool) -> tuple[str, ...]:
    return all_classes(part) if multi_label else tuple(part)


def _parts_of_folder(
    path: Path, train: str | Path | None, val: str | Path | None, columns: Columns
) -> tuple[Part, Part | None]:
    listing = read_listing(path)
    tree = arrange(listing, path, grouped=columns.level is not None) if train is None else {}
    chosen = _training(tree, path) if train is None else _named(listing, path, train, columns)
    held_against = _validation(tree, path) if val is None else _named(listing, path, val, columns)
    for part in (chosen, held_against):
        if part and part.empty:
            empty = ", ".join(name_text("/".join((*part.folder, name))) for name in part.empty)
            found = f" ({counts})" if (counts := listing.counts()) else ""
            raise DataError(f"{path}: no image can be read in {empty}{found}: add images, or remove what is no class")
    return chosen, held_against


def _parts_of_tables(
    tables: Tables, train: str | Path | None, val: str | Path | None, columns: Columns
) -> tuple[Part, Part | None]:
    tree, path = tables.read(columns), tables.path
    chosen = _training(tree, path) if train is None else _part_of_tree(tree, path, train, columns)
    if val is not None:
        return chosen, _part_of_tree(tree, path, val, columns)
    return chosen, _validation(tree, path) if train is None else None


def _training(tree: Tree, path: Path) -> Part:
    if (chosen := tree.get("train", tree.get(WHOLE))) is None:
        raise DataError(f"{path} has {' and '.join(sorted(tree))} but no train folder")
    return chosen


def labelled_test(path: Path, classes: Sequence[str], columns: Columns = _GUESSED) -> tuple[str, Labelled]:
    """The part ``test``, or else ``val``, or else ``whole``, all class folders, for the classes of a network.

    Raises:
        DataError: there are none, or they have a class that the network does not know.
    """
    tables = tables_of(path)
    if tables is None:
        columns.require_none(f"{path} holds class folders")
    tree = read_tree(path, grouped=columns.level is not None) if tables is None else tables.read(columns)
    name = next((name for name in ("test", "val", WHOLE) if (found := tree.get(name)) and found.filled), None)
    if name is None:
        raise DataError(f"{path} has only a train folder: expected test or val, or only class folders")
    part = tree[name]
    if part.empty:
        logger.warning("%s: no image can be read of %s", path, ", ".join(part.empty))
    check_known(str(path), all_classes(part) if columns.multi_label else part.filled, classes)
    return name, _labelled(part, classes, columns.multi_label)


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


def _part_of_tree(tree: Tree, path: Path, part: str | Path, columns: Columns) -> Part:
    """The part of a table's that is called so, all of it (``.``), or else that in a path of its own."""
    if str(part) == ".":
        return merged(tree)
    if isinstance(part, str) and (found := part_of(part)) and found[0] in tree:
        return tree[found[0]]
    if (own := _elsewhere(part, columns)) is not None:
        return own
    raise DataError(f"{path} has no part {name_text(str(part))}; its parts are {', '.join(tree)}")


def _elsewhere(place: str | Path, columns: Columns) -> Part | None:
    """All of the data set at a path; None if there is nothing."""
    own = Path(place).expanduser()
    if (tables := tables_of(own)) is not None:
        return merged(tables.read(columns))
    return part_inside(read_listing(own), own, ".") if own.exists() else None


def _named(listing: Listing, path: Path, folder: str | Path, columns: Columns) -> Part:
    """The part in a folder inside of the data, or else in a path of its own."""
    own, name = Path(folder).expanduser(), str(folder)
    if path.is_dir() and not (path / own).exists() and own.resolve().is_relative_to(path.resolve()):
        name = own.resolve().relative_to(path.resolve()).as_posix()
    if not Path(name).is_absolute() and (part := part_inside(listing, path, name)) is not None:
        return part
    if (part := _elsewhere(own, columns)) is not None:
        return part
    known = ", ".join(top_folders(listing, path)) or "none"
    raise DataError(f"{path} has no folder {name_text(name)}; its folders are {known}")


def _labelled(part: Part, classes: Sequence[str], multi_label: bool) -> Labelled:
    where = name_text("/".join(part.folder)) or "its class folders"
    files = [file for files in part.values() for file in files]
    if multi_label:
        known = {name: number for number, name in enumerate(classes)}
        rows = marked([[known[name] for name in parted(text)] for text in part], len(classes))
    else:
        rows = np.array([classes.index(name) if own else -1 for name, own in part.items()], dtype=np.int64)
    return Labelled(files, rows.repeat([len(own) for own in part.values()], axis=0), where)
