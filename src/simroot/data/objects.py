"""Data sets that are objects of Python: torch's, those of the datasets package, or any pairs of image and label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from os.path import abspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from simroot.data.arrays import pixels
from simroot.data.choices import Asked
from simroot.data.class_texts import marked
from simroot.data.columns import Columns
from simroot.data.folders import Labelled, parts_of_tree
from simroot.data.loading import load_files
from simroot.data.progress import watched
from simroot.data.splits import ImageData
from simroot.data.tables import Table
from simroot.data.tree import WHOLE, memory_budget, part_of
from simroot.errors import DataError, quoted
from simroot.images.decoding import encoded
from simroot.images.listing import ImageFile
from simroot.images.preparation import AUTO, ImageSize
from simroot.images.sources import Source

_BATCH = 64


def from_dataset(
    dataset: Any,
    *,
    val: Any = None,
    classes: Sequence[str] | None = None,
    image_size: ImageSize | None = None,
    fit: str = AUTO,
    pixel_range: str | tuple[float, float] = AUTO,
    background: str | tuple[int, int, int] = AUTO,
    validation: float | int | None = None,
    seed: int = 0,
    limit: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
    name: str = "data set",
    multi_label: bool = False,
) -> ImageData:
    """Data to train on from a data set in Python. All of it is read once, into memory.

    Args:
        dataset: what gives pairs of image and label: a ``torch.utils.data.Dataset``, or anything else that can be gone
            through. An image is one of Pillow's, an array or a tensor, a path or the bytes of a file; leave out what
            normalises it. Or a ``Dataset`` or ``DatasetDict`` of the datasets package.
        val: likewise the validation part; without, it is held out of the training part.
        classes: names of the labels 0, 1, ...; by default those that the data set knows, or else the numbers.
        image_size: as the arguments that follow, of ``simroot.data.load``.
        fit: see there.
        pixel_range: see there.
        background: see there.
        validation: see there.
        seed: see there.
        limit: see there.
        image_column: of the datasets package, the column of the images (default: found by its type).
        label_column: likewise of their classes.
        group_column: likewise of what stays on one side where a part is held out.
        name: what to call the data.
        multi_label: an image may have any number of classes: its label is a list of words or numbers, or a tensor or
            array with 0 or 1 for each class.

    Raises:
        DataError: something else was received, or there is nothing to train on.
    """
    asked = Asked.of(image_size, None, fit, pixel_range, background)
    given = dict(dataset) if isinstance(dataset, Mapping) else {"train" if val is not None else WHOLE: dataset}
    if val is not None:
        given["val"] = val
    if all(hasattr(part, "with_format") and hasattr(part, "features") for part in given.values()):
        columns = Columns(image_column, label_column, "", group_column, multi_label=multi_label)
        found = _of_datasets(given, columns, name)
    else:
        found = _of_pairs(given, classes, name, multi_label=multi_label)
    return load_files(name, *found, asked, validation=validation, seed=seed, limit=limit)


Parts = tuple[tuple[str, ...], Labelled, Labelled | None]


def _of_datasets(given: Mapping[str, Any], columns: Columns, name: str) -> Parts:
    """By the rows of the tables behind them, so that they are the same as from the files of such a data set."""
    from simroot.data.arrow_tables import Schema

    table = Table(Path(name), Path(abspath(".")).anchor, multi_label=columns.multi_label)
    for key, part in given.items():
        chosen = WHOLE if key == WHOLE or len(given) == 1 else _part(key)
        schema = Schema(part.features.arrow_schema, columns, name)
        start = 0
        for batch in part.with_format("arrow").iter(_BATCH):
            for row in schema.rows(batch, start):
                image = abspath(row.image) if isinstance(row.image, str) and row.image else row.image
                table.add(row._replace(image=image), Path(name), chosen)
            start += batch.num_rows
    return parts_of_tree(table.tree(), Path(name), multi_label=columns.multi_label)


def _of_pairs(given: Mapping[str, Any], classes: Sequence[str] | None, name: str, *, multi_label: bool) -> Parts:
    """In the order in which they come."""
    found: dict[str, tuple[list[ImageFile], list[Any]]] = {}
    budget = memory_budget()
    for key, part in given.items():
        files, labels = found.setdefault(WHOLE if key == WHOLE or len(given) == 1 else _part(key), ([], []))
        for number, item in enumerate(watched(_items(part), "reading the data set")):
            source, label = _pair(item, f"item {number} of {name}", multi_label=multi_label)
            budget -= len(source) if isinstance(source, bytes) else 0
            if budget < 0:
                raise DataError(f"{name} holds more images than fit in memory: write them into files")
            files.append(ImageFile(f"item {number}", source))
            labels.append(label)
        classes = classes or getattr(part, "classes", None)
    every = [label for _, labels in found.values() for label in labels]
    names, index = _classes([one for own in every for one in own] if multi_label else every, classes, name)

    def numbered(labels: list[Any]) -> NDArray[np.integer[Any]]:
        if multi_label:
            return marked([[index[one] for one in own] for own in labels], len(names))
        return np.array([index[label] for label in labels], dtype=np.int64)

    parts = {part: Labelled(files, numbered(labels), name) for part, (files, labels) in found.items()}
    train = parts.get("train", parts.get(WHOLE))
    if train is None:
        raise DataError(f"{name} has {', '.join(parts)} but no train part")
    return names, train, parts.get("val", parts.get("test"))


def _part(key: Any) -> str:
    found = part_of(key) if isinstance(key, str) else None
    if found is None:
        raise DataError(f"a part of the data is called {quoted(key)}; expected train, val or test")
    return found[0]


def _items(part: Any) -> Iterator[Any]:
    if hasattr(part, "__len__") and hasattr(part, "__getitem__"):
        return (part[number] for number in range(len(part)))  # torch's need not end by themselves
    if isinstance(part, Iterable):
        return iter(part)
    raise DataError(f"the data set is {quoted(part)}; expected one of torch's or of datasets', or pairs")


def _pair(item: Any, where: str, *, multi_label: bool) -> tuple[Source, Any]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise DataError(f"{where} is {quoted(item)}; expected an image and its label")
    label = (_labels if multi_label else _label)(item[1], where)
    return _source(item[0], where), label


def _label(label: Any, where: str) -> Any:
    if isinstance(label, Tensor | np.generic | np.ndarray):
        label = label.tolist()  # a number of what has no dimensions
    if isinstance(label, bool) or not isinstance(label, int | str):
        several = "; multi_label=True takes lists" if isinstance(label, list | tuple | set) else ""
        raise DataError(f"{where} has the label {quoted(label)}; expected a whole number or a word{several}")
    return label


def _labels(label: Any, where: str) -> list[Any]:
    """Words or numbers of classes, from a list of them or from 0 or 1 for each class."""
    if isinstance(label, Tensor | np.ndarray):
        array = np.asarray(label)
        if array.ndim != 1 or not set(np.unique(array).tolist()) <= {0, 1}:
            raise DataError(f"{where} has a label of the shape {array.shape}; expected 0 or 1 for each class")
        return [int(number) for number in np.flatnonzero(array)]
    if not isinstance(label, list | tuple | set):
        raise DataError(f"{where} has the label {quoted(label)}; expected a list, since multi_label is True")
    return [_label(one, where) for one in label]


def _source(image: Any, where: str) -> Source:
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        return Path(image)
    if isinstance(image, Image.Image):
        return encoded(image)
    array = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    return encoded(pixels(array[None], f"the image of {where}", rectangles=True)[0].permute(1, 2, 0).numpy())


def _classes(labels: Sequence[Any], classes: Sequence[str] | None, name: str) -> tuple[tuple[str, ...], dict[Any, int]]:
    """The names of classes in their order, and the number of each label."""
    kinds = {type(label) for label in labels}
    if not labels or len(kinds) > 1:
        raise DataError(f"{name} has {'words and numbers' if kinds else 'no items and no labels'}: expected one kind")
    if kinds == {str}:
        names = tuple(classes or sorted(set(labels)))
        index = {word: number for number, word in enumerate(names)}
    else:
        highest = max(labels)
        names = tuple(classes or map(str, range(min(highest + 1, len(labels)))))
        index = {number: number for number in range(len(names))}
    if unknown := [label for label in dict.fromkeys(labels) if label not in index]:
        raise DataError(f"{name} has the label {quoted(unknown[0])}; its {len(names)} classes do not have it")
    return names, index
