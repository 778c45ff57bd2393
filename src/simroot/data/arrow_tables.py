"""Parquet and Arrow files in the form of Hugging Face: images as bytes or paths, class names in the schema."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from simroot.data.columns import Columns, choose
from simroot.data.rows import Row
from simroot.errors import DataError, SimrootError, quoted
from simroot.untrusted.documents import read_json, require_regular

_BATCH = 64  # rows that are in memory twice
_METADATA = b"huggingface"
_INFO, _STATE = "dataset_info.json", "state.json"


def read_parquet(path: Path, columns: Columns) -> Iterator[Row]:
    """The rows of a Parquet file.

    Raises:
        DataError: no such columns, a damaged file, or pyarrow is not installed.
    """
    parquet = _library("pyarrow.parquet")

    def batches() -> Iterator[Any]:
        with parquet.ParquetFile(path) as file:
            found = Schema(file.schema_arrow, columns, path.name)
            for batch in file.iter_batches(_BATCH, columns=found.needed):
                yield found, _validated(batch)

    return _rows(path, batches())


def read_arrow(path: Path, columns: Columns) -> Iterator[Row]:
    """The rows of an Arrow file, as ``Dataset.save_to_disk`` writes it; errors as ``read_parquet``."""
    arrow = _library("pyarrow")

    def batches() -> Iterator[Any]:
        with arrow.memory_map(str(path)) as file, arrow.ipc.open_stream(file) as stream:
            found = Schema(stream.schema, columns, path.name)
            for whole in map(_validated, stream):
                for start in range(0, whole.num_rows, _BATCH):
                    yield found, whole.slice(start, _BATCH)

    return _rows(path, batches())


def arrow_files(folder: Path) -> list[Path]:
    """The files of a saved data set: those that its state names; none if the folder holds no such set."""
    if not all((folder / name).is_file() for name in (_INFO, _STATE)):
        return []
    state = read_json(folder / _STATE)
    files = state.get("_data_files") if isinstance(state, dict) else None
    names = [file.get("filename") for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    found = [folder / name for name in names if isinstance(name, str) and Path(name).name == name]
    if not found or len(found) < len(names):
        raise DataError(f"{folder / _STATE} is damaged: expected the names of the files beside it")
    return found


class Schema:
    """The columns of a table, by what its schema says of their types and by their names."""

    def __init__(self, schema: Any, asked: Columns, where: str) -> None:
        features = _features(schema.metadata)
        kinds = {
            "image": [name for name, kind in features.items() if kind.get("_type") == "Image"],
            "label": [name for name, kind in features.items() if kind.get("_type") == "ClassLabel"],
        }
        kinds = {kind: [name for name in found if name in schema.names] for kind, found in kinds.items()}
        typed = {kind: found[0] for kind, found in kinds.items() if len(found) == 1}
        self.chosen, self.where = choose(schema.names, asked, where, typed), where
        self.needed = self.chosen.needed
        self.classes = _class_names(features.get(self.chosen.label or "", {}))

    def rows(self, batch: Any, start: int) -> Iterator[Row]:
        """The rows of some of the table, numbered from ``start``."""
        cells = {name: batch.column(name).to_pylist() for name in self.needed}
        for index in range(batch.num_rows):
            where = f"row {start + index}"
            row = {name: values[index] for name, values in cells.items()}
            if self.chosen.label is not None:
                row[self.chosen.label] = self._label(row[self.chosen.label], where)
            yield Row(*_image(row[self.chosen.image]), *self.chosen.rest(row, where))

    def _label(self, value: Any, where: str) -> Any:
        if isinstance(value, list):
            return [self._label(one, where) for one in value]
        if self.classes is None or not isinstance(value, int) or isinstance(value, bool):
            return value
        if value == -1:  # Hugging Face's word for no label
            return None
        if not 0 <= value < len(self.classes):
            raise DataError(
                f"{self.where}, {where}: the label is {value}; the schema names {len(self.classes)} classes"
            )
        return self.classes[value]


def _image(cell: Any) -> tuple[Any, str]:
    """The bytes or the path of an image, and its name."""
    if isinstance(cell, Mapping):
        content, path = cell.get("bytes"), cell.get("path")
        name = path if isinstance(path, str) else ""
        return (content or name), name
    return cell, cell if isinstance(cell, str) else ""


def _rows(path: Path, batches: Iterator[Any]) -> Iterator[Row]:
    """The rows of batches; whatever the library raises on damaged bytes becomes one line."""
    start = 0
    try:
        require_regular(path)
        for found, batch in batches:
            yield from found.rows(batch, start)
            start += batch.num_rows
    except DataError:
        raise
    except (SimrootError, OSError, ValueError, KeyError, IndexError, MemoryError, NotImplementedError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read: {reason}") from error


def _validated(batch: Any) -> Any:
    """The batch, if all that it says of lengths is true: pyarrow reads beyond its memory where it is not."""
    batch.validate(full=True)
    return batch


def _features(metadata: Mapping[bytes, bytes] | None) -> dict[str, dict[str, Any]]:
    """Column -> what Hugging Face's metadata say of it."""
    try:
        found = json.loads((metadata or {}).get(_METADATA, b"{}"))["info"]["features"]
        kinds = {
            name: {"feature": kind[0]} if isinstance(kind, list) and kind else kind for name, kind in found.items()
        }
        return {name: kind for name, kind in kinds.items() if isinstance(kind, dict)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _class_names(feature: Mapping[str, Any]) -> Sequence[str] | None:
    """Those of a label, or of each in a list of them."""
    if isinstance(inside := feature.get("feature"), Mapping):  # a Sequence, or a List as it is called since, or [...]
        feature = inside
    names = feature.get("names") if feature.get("_type") == "ClassLabel" else None
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return names
    if names is not None:
        raise DataError(f"the schema's names of classes are {quoted(names)}; expected a list of words")
    return None


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DataError(
            "Parquet and Arrow files need pyarrow, which is not installed; install it with pip install"
            " 'simroot[tables]'"
        ) from error
