"""A row of a table: where its image is, what its label says; and the checks of both."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from simroot.data.class_texts import SIGN, joined
from simroot.data.columns import Chosen
from simroot.data.tree import part_of
from simroot.errors import DataError, quoted
from simroot.images.listing import class_name

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://|data:", re.IGNORECASE)
_DRIVE = re.compile(r"[a-zA-Z]:[\\/]")
_WHOLE = re.compile(r"([-+]?\d+)\.0+")


class Row(NamedTuple):
    """One image of a table.

    Attributes:
        image: its path as the table has it, its bytes, or where it lies in an archive; None if it is missing.
        name: what the table calls it; rows are put in the order of these names.
        label: whatever the table says.
        split: likewise; None if the table has no such column.
        where: of the table the row is, for people.
        group: what must stay on one side of a split; None if there is none.
    """

    image: Any
    name: str
    label: Any
    split: Any
    where: str
    group: Any = None

    @classmethod
    def of(cls, cells: Mapping[str, Any], columns: Chosen, where: str) -> Row:
        """A row of a table with paths, from its cells by their columns."""
        found = cells.get(columns.image)
        return cls(found, found if isinstance(found, str) else "", *columns.rest(cells, where))


def label_text(value: Any, where: str) -> str | None:
    """The class that a label names; None if it names none, as an empty cell and NaN.

    Whole numbers go by their digits, also where a table has made 3.0 of 3.

    Raises:
        DataError: a number with a fraction, several labels, or something else.
    """
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool | int):
        return str(value).lower()
    if not isinstance(value, str):
        several = "; --multi-label takes lists (multi_label=True of load)" if isinstance(value, list | tuple) else ""
        raise DataError(
            f"{where}: the label is {quoted(value)}; expected one word or whole number for each image{several}"
        )
    text = _WHOLE.sub(r"\1", value.strip()) if _WHOLE.fullmatch(value.strip()) else value.strip()
    return None if text.lower() in ("", "nan") else class_name(text)


def labels_text(value: Any, where: str) -> str | None:
    """The classes that a label names, as ``labels.joined``; None if there is no label, as for null and NaN.

    A label is a list of names or numbers, or a text with ``|`` between. Empty ones name no class, and that is a label.

    Raises:
        DataError: something else.
    """
    if isinstance(value, str):
        if value.strip().lower() == "nan":
            return None
        value = value.split(SIGN)
    if not isinstance(value, list | tuple):
        return label_text(value, where)
    if nested := [one for one in value if isinstance(one, list | tuple)]:
        raise DataError(f"{where}: the label has {quoted(nested[0])} inside; expected a list of words or whole numbers")
    names = [name for one in value if (name := label_text(one, where)) is not None]
    if unclear := [name for name in names if SIGN in name]:
        raise DataError(f"{where}: the class {quoted(unclear[0])} has {SIGN} inside, which stands between classes")
    return joined(names)


def part_text(value: Any, where: str) -> str | None:
    """train, val or test, from a word for it; None if there is none.

    Raises:
        DataError: for another word.
    """
    if value is None or value == "":
        return None
    found = part_of(value) if isinstance(value, str) else None
    if found is None or found[1]:
        raise DataError(
            f"{where}: the part is {quoted(value)}; expected train, val or test; name the column of the parts with"
            " --split-column, or none with --split-column ''"
        )
    return found[0]


def place_of(text: str, root: str, where: str) -> Path:
    """The file that a table's path stands for, inside of a folder, an absolute path; also with Windows' signs.

    Raises:
        DataError: it is an address, or leads out of the folder.
    """
    if _ADDRESS.match(text):
        raise DataError(f"{where}: {quoted(text)} is an address: images are read from files; download them first")
    if "\0" in text:
        raise DataError(f"{where}: {quoted(text)} is no path")
    if "\\" in text and not os.path.exists(os.path.join(root, text)):
        text = text.replace("\\", "/")
    path = os.path.normpath(os.path.join(root, text))  # of words: a table has many rows, and a Path takes its time
    if not path.startswith(root.rstrip(os.sep) + os.sep) or _DRIVE.match(text):
        raise DataError(
            f"{where}: {quoted(text)} leads out of {root}; --image-root names the folder that holds all images"
            " (image_root= of load)"
        )
    return Path(path)
