"""The forms of data beside folders and archives of class folders. A new one is a line in ``FORMS`` and a file."""

from __future__ import annotations

import importlib
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simroot.data.columns import OF_TABLES, Columns
from simroot.data.names import NAMES
from simroot.data.tables import Reader, read_images, read_tables
from simroot.data.tree import Part, Tree, part_of
from simroot.errors import DataError
from simroot.images.listing import ImageFile, ignored, walk

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})")
_MOST_FILES = 100_000
_DATA_FOLDER = "data"  # of downloaded data sets


@dataclass(frozen=True)
class Form:
    """A kind of files with rows.

    Attributes:
        suffixes: of the files' names.
        reader: module of this package and function, (path, columns) -> rows.
        in_folders: whether a folder of such files is one data set.
    """

    suffixes: tuple[str, ...]
    reader: str
    in_folders: bool = True


FORMS = (
    Form((".csv", ".tsv"), "text_tables:read_csv", in_folders=False),
    Form((".jsonl", ".ndjson"), "text_tables:read_jsonl", in_folders=False),
    Form((".parquet",), "arrow_tables:read_parquet"),
    Form((".arrow",), "arrow_tables:read_arrow"),
    Form((".tar", ".tar.gz", ".tgz"), "shards:read_shard"),
)
_SHARDS = FORMS[-1]


@dataclass(frozen=True)
class Tables:
    """A data set of rows: its path, its files and their form."""

    path: Path
    files: tuple[Path, ...]
    form: Form

    def read(self, columns: Columns) -> Tree:
        """The images by part and class; raises DataError."""
        return read_tables(self.path, self.files, self._reader(), columns)

    def images(self, columns: Columns) -> list[ImageFile]:
        """The images of all rows in their order, whatever their labels; raises DataError."""
        return read_images(self.path, self.files, self._reader(), replace(columns, label="", split=""))

    def _reader(self) -> Reader:
        module, _, function = self.form.reader.partition(":")
        found: Reader = getattr(importlib.import_module(f"simroot.data.{module}"), function)
        return found


def tables_of(path: Path) -> Tables | None:
    """The data set of rows at a path, a pattern with braces or a folder; None of folders and archives of images.

    Raises:
        DataError: files of several forms, or a pattern with a file that does not exist.
    """
    if path.is_dir():
        return _of_folder(path)
    files = tuple(expanded(path))
    form = _form_of(files[0])
    if form is None or (form is _SHARDS and len(files) == 1 and not _is_shard(path)):
        return None
    if missing := [file for file in files if not file.exists()]:
        raise DataError(f"{missing[0]} does not exist: expected one of {len(files):,} files of {path}")
    if any(_form_of(file) is not form for file in files):
        raise DataError(f"{path} stands for files of several forms; give one form alone")
    return Tables(path, files, form)


def expanded(path: Path) -> Iterator[Path]:
    """The paths that braces stand for, as in ``{000..099}.tar`` and ``{train,val}.csv``; or the path itself.

    Raises:
        DataError: there are too many.
    """
    text = str(path)
    if path.exists() or not _BRACES.search(text):
        yield path
        return
    pieces = _BRACES.split(text)
    choices = [_alternatives(piece) if number % 2 else [piece] for number, piece in enumerate(pieces)]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > _MOST_FILES:
        raise DataError(f"{path} stands for more than {_MOST_FILES:,} files")
    yield from (Path("".join(chosen)) for chosen in itertools.product(*choices))


def moved(source: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ``load`` for data that others say lies elsewhere now: what was said of tables goes with tables."""
    place = given.get("name_or_path")
    if place is not None and (place in NAMES or tables_of(Path(place).expanduser()) is None):
        source = {name: value for name, value in source.items() if name not in OF_TABLES}
    return {**source, **given}


def merged(tree: Tree) -> Part:
    """All parts as one."""
    classes: dict[str, list[ImageFile]] = {}
    for part in tree.values():
        for label, files in part.items():
            classes.setdefault(label, []).extend(files)
    return Part((" and ".join("/".join(part.folder) for part in tree.values()),), classes)


def _alternatives(text: str) -> list[str]:
    if not (match := _RANGE.fullmatch(text)):
        return text.split(",")
    first, last = int(match[1]), int(match[2])
    if abs(last - first) > _MOST_FILES:
        raise DataError(f"{{{text}}} stands for more than {_MOST_FILES:,} files")
    width = len(match[1]) if match[1].startswith("0") else 0
    step = 1 if first <= last else -1
    return [f"{number:0{width}}" for number in range(first, last + step, step)]


def _form_of(path: Path) -> Form | None:
    name = path.name.lower()
    return next((form for form in FORMS if name.endswith(form.suffixes)), None)


def _is_shard(path: Path) -> bool:
    from simroot.data.shards import is_shard

    return path.is_file() and is_shard(path)


def _of_folder(path: Path) -> Tables | None:
    """The files of a folder of Parquet files, shards or a saved data set, which has no images beside them."""
    files = _candidates(path)
    forms = {form for file in files if (form := _form_of(file)) and form.in_folders}
    if not forms or walk(path).images:
        return None
    if len(forms) > 1:
        raise DataError(f"{path} holds files of several forms ({', '.join(f.suffixes[0] for f in forms)}): give one")
    form = forms.pop()
    chosen = tuple(sorted(file for file in files if _form_of(file) is form))
    return Tables(path, chosen, form)


def _candidates(path: Path) -> list[Path]:
    """The files in a folder, and in those folders inside whose names are those of parts; of a saved set its own."""
    from simroot.data.arrow_tables import arrow_files

    try:
        if saved := arrow_files(path):
            return saved
        found = [Path(entry.path) for entry in os.scandir(path) if not ignored(entry.name)]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    folders = [one for one in found if one.is_dir() and (one.name == _DATA_FOLDER or part_of(one.name))]
    return [one for one in found if one.is_file()] + [file for folder in folders for file in _candidates(folder)]
