"""From the rows of tables to images by part and class, as those of a folder."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from simroot.data.class_texts import SIGN
from simroot.data.columns import Columns
from simroot.data.progress import watched
from simroot.data.rows import Row, label_text, labels_text, part_text, place_of
from simroot.data.tree import WHOLE, Part, Tree, memory_budget, part_of
from simroot.errors import DataError, counted, quoted
from simroot.images.listing import ImageFile, name_text
from simroot.images.sources import Member, Source

_ROW = 500  # bytes that a row takes beside its image

# What becomes of rows that are no images: the reason for one, and for several.
_NO_LABEL = ("row without a label", "rows without a label")
_NO_IMAGE = ("row without an image", "rows without an image")
_NO_PART = ("row without a part", "rows without a part")
_AGAIN = ("row that repeats another", "rows that repeat others")
_MISSING = ("row whose file does not exist", "rows whose file does not exist")

logger = logging.getLogger("simroot")

Reader = Callable[[Path, Columns], Iterator[Row]]


def read_tables(path: Path, files: Sequence[Path], reader: Reader, columns: Columns) -> Tree:
    """The images of the rows of several files, by part and class.

    A part is what a column says, or else the names of the files, as in ``train-00000-of-00002.parquet``, or of their
    folders. Images of a class are in the order of their names, whatever that of the rows.

    Raises:
        DataError: a file is damaged, a row leads out of its folder or contradicts another, or there are no images.
    """
    table = Table(path, columns.root, multi_label=columns.multi_label)
    parts = _parts(files)
    for file in files:
        for row in watched(reader(file, columns), f"reading {file.name}"):
            table.add(row, file, parts[file])
    return table.tree()


def read_images(path: Path, files: Sequence[Path], reader: Reader, columns: Columns) -> list[ImageFile]:
    """The images of the rows of several files, in their order, whatever their labels; errors as ``read_tables``."""
    table = Table(path, columns.root)
    rows = ((file, row) for file in files for row in watched(reader(file, columns), f"reading {file.name}"))
    found = [image for file, row in rows if (image := table.image(row, file)) is not None]
    table.say_what_is_left_out(found)
    return found


def _parts(files: Sequence[Path]) -> dict[Path, str]:
    """The part of each file by its name, or by its folder's if there are several folders; a single one is the whole."""
    folders = len({file.parent for file in files}) > 1
    found = {
        file: part_of(file.name.split(".")[0]) or (part_of(file.parent.name) if folders else None) for file in files
    }
    if len(files) == 1 or not any(found.values()):
        return dict.fromkeys(files, WHOLE)
    if unclear := [file for file, part in found.items() if part is None]:
        raise DataError(
            f"{unclear[0]} lies beside files of parts such as train and val: which part is it? Give the others alone"
        )
    return {file: part[0] for file, part in found.items() if part}


def _order(named: tuple[str, ImageFile]) -> tuple[str, ...]:
    return PurePosixPath(named[0].replace("\\", "/")).parts


class Table:
    """Rows as they come, by part and class; and those that are left out."""

    def __init__(self, path: Path, root: str | Path | None, *, multi_label: bool = False) -> None:
        self.path, self.budget = path, memory_budget()
        self.label_text = labels_text if multi_label else label_text
        self.root = None if root is None else os.path.abspath(root)
        self.roots: dict[Path, str] = {}  # of the files
        # Part -> class -> (name, file).
        self.found: dict[str, dict[str, list[tuple[str, ImageFile]]]] = {}
        self.seen: dict[tuple[str, Path], tuple[str, str]] = {}
        self.left_out: Counter[tuple[str, str]] = Counter()
        self.first: dict[tuple[str, str], str] = {}

    def add(self, row: Row, file: Path, part: str) -> None:
        """Take a row of a file, whose part holds if the row says none; raises DataError."""
        where = f"{file.name}, {row.where}"
        label = self.label_text(row.label, where)
        chosen = part if row.split is None else part_text(row.split, where)
        if label is None or chosen is None:
            self._leave_out(_NO_LABEL if label is None else _NO_PART, where)
            return
        source = self._source(row, file, where)
        if isinstance(source, Path):
            known, before = self.seen.setdefault((chosen, source), (label, where))
            if known != label:
                raise DataError(
                    f"{before} and {where} give {quoted(row.image)} the labels {quoted(known)} and {quoted(label)}:"
                    " expected one"
                )
            if before != where:
                self._leave_out(_AGAIN, where)
                return
        if source is not None:
            of_class = self.found.setdefault(chosen, {}).setdefault(label, [])
            of_class.append((row.name, self._file(row, file, source)))

    def image(self, row: Row, file: Path) -> ImageFile | None:
        """The image of a row of a file; None if it is not there."""
        source = self._source(row, file, f"{file.name}, {row.where}")
        return None if source is None else self._file(row, file, source)

    def _file(self, row: Row, file: Path, source: Source) -> ImageFile:
        name = name_text(row.name or row.where)
        self.budget -= _ROW + len(name) + (len(source) if isinstance(source, bytes) else 0)
        if self.budget < 0:
            raise DataError(f"{self.path} holds more than fits in memory: write its images into files, or give less")
        shown = name if isinstance(source, Path) else f"{file.name}/{name}"
        return ImageFile(shown, source, "" if row.group is None else str(row.group))

    def _source(self, row: Row, file: Path, where: str) -> Source | None:
        """The image of a row; None if it is not there, which is counted."""
        if isinstance(row.image, bytes | Member) and row.image:
            return row.image
        if not row.image:
            self._leave_out(_NO_IMAGE, where)
            return None
        if not isinstance(row.image, str):
            raise DataError(f"{where}: the image is {quoted(row.image)}; expected its path")
        path = place_of(row.image.strip(), self._root(file), where)
        if not os.path.isfile(path):
            self._leave_out(_MISSING, f"{where}, {path}")
            return None
        return path

    def _root(self, file: Path) -> str:
        if file not in self.roots:
            self.roots[file] = self.root or os.path.abspath(file.parent)
        return self.roots[file]

    def _leave_out(self, why: tuple[str, str], where: str) -> None:
        self.left_out[why] += 1
        self.first.setdefault(why, where)

    def tree(self) -> Tree:
        """What was found, sorted; the log says what was left out."""
        self.say_what_is_left_out(self.found)
        return self._sorted()

    def say_what_is_left_out(self, found: Collection[Any]) -> None:
        """In the log, or where nothing was found in an error."""
        counts = ", ".join(
            f"{counted(count, *why)} ({'' if count == 1 else 'the first: '}{self.first[why]})"
            for why, count in self.left_out.items()
        )
        if not found:
            advice = "; --image-root names the folder that paths start from" if self.left_out[_MISSING] else ""
            raise DataError(f"{self.path} holds no images: {counts or 'it has no rows'}{advice}")
        if counts:
            logger.warning("%s: left out %s", self.path, counts)

    def _sorted(self) -> Tree:
        labels = {label for classes in self.found.values() for label in classes}
        if self.label_text is label_text and (several := sorted(label for label in labels if SIGN in label)):
            words = (
                "%s: %s is taken for one class; --multi-label takes what is between %s for classes (multi_label=True)"
            )
            logger.warning(words, self.path, quoted(several[0]), SIGN)
        name = self.path.name
        return {
            part: Part(
                (name if part == WHOLE else f"{part} of {name}",),
                {label: [image for _, image in sorted(rows, key=_order)] for label, rows in classes.items()},
            )
            for part, classes in self.found.items()
        }
