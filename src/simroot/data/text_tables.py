"""Tables in text: CSV and TSV with a header, and JSON Lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from simroot.data.columns import Columns, choose
from simroot.data.rows import Row
from simroot.errors import ConfigError, DataError, quoted
from simroot.untrusted.documents import require_regular

_SIGNS = ",;\t|"
_LONGEST = 2**20  # characters of a line of JSON


def read_csv(path: Path, columns: Columns) -> Iterator[Row]:
    """The rows of a table whose first line names the columns.

    Raises:
        DataError: no such columns, or a row that has another number of cells.
    """
    with _opened(path) as file:
        header = file.readline(_LONGEST)
        sign = "\t" if path.suffix.lower() == ".tsv" else max(_SIGNS, key=header.count)
        file.seek(0)
        table = csv.reader(file, delimiter=sign, strict=True)
        names = next(table, [])
        chosen = choose(names, columns, path.name)
        for cells in table:
            if not cells:
                continue
            number = table.line_num
            if len(cells) != len(names):
                raise DataError(
                    f"{path}, line {number}: {len(cells)} cells, but {len(names)} columns; a sign that separates"
                    " cells needs quotes around its cell"
                )
            yield Row.of(dict(zip(names, cells, strict=True)), chosen, f"line {number}")


def read_jsonl(path: Path, columns: Columns) -> Iterator[Row]:
    """The rows of a table with an object of JSON on each line; the first one's names are the columns.

    Raises:
        DataError: no such columns, or a line that is no object.
    """
    with _opened(path) as file:
        chosen = None
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST), ""), 1):
            if line.isspace():
                continue
            found = _object(line, f"{path}, line {number}")
            chosen = chosen or choose([*found], columns, path.name)
            yield Row.of(found, chosen, f"line {number}")


def _object(line: str, where: str) -> Mapping[str, Any]:
    try:
        if len(line) == _LONGEST:
            raise ValueError(f"it has {_LONGEST:,} characters or more")
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no JSON: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise DataError(f"{where} is {quoted(found)}; expected an object, as in {{...}}")
    return found


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    try:
        require_regular(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except ConfigError as error:
        raise DataError(str(error)) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not written in UTF-8; save it as such") from error
    except csv.Error as error:
        raise DataError(f"{path} is no readable table: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
