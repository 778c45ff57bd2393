"""Which columns of a table hold the images, their labels and the parts that they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from simroot.errors import DataError, is_whole, listed, quoted

# What columns are called, the likeliest name first; compared in small letters, without blanks and signs.
_IMAGE = (
    "image img path file filename filepath imagepath imgpath imagefile imgfile imagename relativepath picture photo"
)
_LABEL = (
    "label class category target labels classes labelname classname categoryname species breed tag tags categories y"
)
_SPLIT = "split subset partition part set"
_GROUP: list[str] = []  # never guessed: it changes which images are held out
_GUESSES = {"image": _IMAGE.split(), "label": _LABEL.split(), "split": _SPLIT.split(), "group": _GROUP}
_MARKS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
_SHOWN = 12  # columns that a message names


@dataclass(frozen=True)
class Columns:
    """What was said of the columns of tables; None leaves it to their names.

    Attributes:
        image: the column of the images: paths, or the images themselves.
        label: of the class names or numbers; empty for none. If images may have several, also those of the classes,
            with commas between.
        split: of the words train, val and test; empty for none.
        group: of what must stay on one side of a split, such as the person in the image.
        level: of folders, the depth of those inside of a class folder that are groups.
        root: the folder that the paths start from and stay in; None for that of the table.
        multi_label: whether a label names any number of classes.
    """

    image: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = None
    level: int | None = None
    root: Path | None = None
    multi_label: bool = False

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Columns:
        """From the arguments of ``simroot.data.load``, others among them."""
        root = arguments.get("image_root")
        names = {kind: arguments.get(f"{kind}_column") for kind in _GUESSES}
        level = arguments.get("group_level")
        if level is not None and not is_whole(level, 1):
            raise DataError(f"group_level is {quoted(level)}; expected 1 for the folders inside of the class folders")
        multi_label = bool(arguments.get("multi_label", False))
        root = None if root is None else Path(root).expanduser()
        return cls(**names, level=level, root=root, multi_label=multi_label)

    def require_none(self, where: str) -> None:
        """Refuse columns of what has none.

        Raises:
            DataError: naming what was said, and what the data is: ``where``.
        """
        for name, kind in OF_TABLES.items():
            said = getattr(self, kind)
            if said is not None and said is not False:
                option = f"--{name.replace('_', '-')}"
                shown = option if said is True else f"{option} {quoted(str(said))}"
                raise DataError(
                    f"{where}, which has no columns; {shown} ({name}= of load) goes with tables, Parquet and shards:"
                    " leave it out, or give such data"
                )


COLUMN_ARGUMENTS = (*(f"{kind}_column" for kind in _GUESSES), "group_level", "image_root")
# Arguments that say something of tables alone, and the attributes that hold it.
OF_TABLES = {**{f"{kind}_column": kind for kind in _GUESSES}, "image_root": "root", "multi_label": "multi_label"}


class Chosen(NamedTuple):
    """Names of a table's columns; None where there is none."""

    image: str
    label: str | None
    split: str | None
    group: str | None
    marks: tuple[str, ...] = ()  # the classes, if each has a column of 0 and 1

    @property
    def needed(self) -> list[str]:
        """All of them, each once."""
        return [*dict.fromkeys(name for name in (*self[:4], *self.marks) if isinstance(name, str))]

    def rest(self, cells: Mapping[str, Any], where: str) -> tuple[Any, Any, str, Any]:
        """Label, split, where and group of a row, from its cells by their columns; the split is None without one."""
        label = cells.get(self.label) if self.label else self._marked(cells, where)
        split = cells.get(self.split, "") if self.split else None
        return label, split, where, cells.get(self.group) if self.group else None

    def _marked(self, cells: Mapping[str, Any], where: str) -> list[str] | None:
        """The classes whose columns hold 1; None without such columns."""
        for name in self.marks:
            if _text(cells.get(name)) not in _MARKS:
                raise DataError(
                    f"{where}: column {quoted(name)} holds {quoted(cells.get(name))}; expected 0 or 1, as no column is"
                    " known to hold the labels: --label-column names it, or the columns of the classes, as in a,b"
                )
        return [name for name in self.marks if _MARKS[_text(cells.get(name))]] if self.marks else None


def choose(names: Sequence[str], asked: Columns, where: str, typed: Mapping[str, str] | None = None) -> Chosen:
    """The columns of a table.

    Args:
        names: of all columns.
        asked: what was said of them.
        where: what to call the table.
        typed: "image" or "label" -> the column that the table's own types say it is.

    Raises:
        DataError: one that was asked for is not there, or that of images or labels cannot be told.
    """
    found: dict[str, str | None] = {}
    marks = _named_marks(names, asked)
    if marks:
        asked = replace(asked, label="")
    for kind, guesses in _GUESSES.items():
        told = getattr(asked, kind)
        if told:
            if list(names).count(told) != 1:
                count = "two columns" if told in names else "no column"
                raise DataError(f"{where} has {count} {quoted(told)}; its columns are {_shown(names)}")
            found[kind] = told
        elif told is None:
            found[kind] = (typed or {}).get(kind) or _guessed(names, guesses)
    if asked.multi_label and asked.label is None and not found.get("label"):
        marks = tuple(name for name in names if name.strip() and name not in found.values())
    if twice := [name for name in marks if list(names).count(name) + marks.count(name) > 2]:
        raise DataError(f"{where} has two columns {quoted(twice[0])}; expected one for each class")
    for kind in ("image", "label"):
        if not found.get(kind) and getattr(asked, kind) != "" and not (kind == "label" and marks):
            raise DataError(
                f"{where}: which column holds the {kind}s? Its columns are {_shown(names)}; name it with"
                f" --{kind}-column ({kind}_column= of load)"
            )
    return Chosen(str(found["image"]), found.get("label"), found.get("split"), found.get("group"), marks)


def plain(name: str) -> str:
    """A column's name as names are compared."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _named_marks(names: Sequence[str], asked: Columns) -> tuple[str, ...]:
    """The columns of the classes if several are named."""
    named = tuple((asked.label or "").split(","))
    several = asked.multi_label and asked.label not in names and len(named) > 1 and set(named) <= set(names)
    return named if several else ()


def _text(value: Any) -> str:
    return str(value).strip().lower()


def _guessed(names: Sequence[str], guesses: Sequence[str]) -> str | None:
    known = {plain(name): name for name in reversed(names)}
    return next((known[guess] for guess in guesses if guess in known), None)


def _shown(names: Sequence[str]) -> str:
    return listed([quoted(name)[1:-1] for name in names], _SHOWN) or "none"
