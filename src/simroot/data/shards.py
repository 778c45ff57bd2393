"""WebDataset shards: archives in which the files of a sample have one name and stand side by side.

They are read here as all archives are, and not by the webdataset package: that would run a shell for a name such as
``pipe:...`` and read members of any size. Of an image it is noted where it lies; of a compressed archive, the image.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from simroot.data.archives import DAMAGED, tar_files
from simroot.data.columns import Columns, choose
from simroot.data.rows import Row
from simroot.data.tree import memory_budget
from simroot.errors import DataError
from simroot.images.listing import SUFFIXES, ignored
from simroot.images.sources import Source

_LOOKED_AT = 100  # members that tell what an archive is
_LARGEST_LABEL = 2**20
_CLASS, _JSON = "cls", "json"
_IMAGE = "image"  # as a column; files have their formats' names


class _Member(NamedTuple):
    key: str  # the name up to the first dot of the file's: that of the sample
    kind: str  # the rest of the name, as in jpg or seg.png
    content: Source


def is_shard(path: Path) -> bool:
    """Whether an archive holds samples: labels in .cls files beside images, or in .json files beside loose images."""
    keys: dict[str, set[str]] = {}
    with suppress(OSError, *DAMAGED), tarfile.open(path) as archive:
        for member in islice(archive, _LOOKED_AT):
            key, kind = _split(member.name)
            keys.setdefault(key, set()).add(kind)
    samples = [(key, kinds) for key, kinds in keys.items() if any(map(_is_image, kinds))]
    return any(_CLASS in kinds or (_JSON in kinds and "/" not in key) for key, kinds in samples)


def read_shard(path: Path, columns: Columns) -> Iterator[Row]:
    """The samples of a shard, one after the other.

    The label is in the file .cls, or under one of the usual names in .json, or where ``columns`` says: the kind of a
    file, or a name in .json. Images of archives that are not compressed are read when they are needed.

    Raises:
        DataError: the archive is damaged, or a sample has no label in such a place.
    """
    chosen = None
    for key, members in groupby(_members(path), lambda member: member.key):
        files = {member.kind: member.content for member in members}
        images = [kind for kind in files if _is_image(kind)]
        kind = columns.image if columns.image in files else next(iter(images), None)
        if kind is None:
            continue
        where = f"sample {key}"
        texts = {kind: content for kind, content in files.items() if isinstance(content, bytes)}
        cells = {**_json(texts.get(_JSON), f"{path}, {where}"), **_texts(texts)}
        if chosen is None:
            usual = {"label": _CLASS} if _CLASS in cells else {}
            asked = replace(columns, image=_IMAGE)
            chosen = choose([_IMAGE, *cells], asked, f"{path.name}, {where}", usual)
        yield Row(files[kind], f"{key}.{kind}", *chosen.rest(cells, where))


def _members(path: Path) -> Iterator[_Member]:
    try:
        for name, size, read, place in tar_files(path):
            key, kind = _split(name)
            if any(map(ignored, PurePosixPath(name).parts)):
                continue
            most = memory_budget() if _is_image(kind) else _LARGEST_LABEL
            if size > most and not _is_image(kind):
                continue  # masks, texts and arrays beside the images
            if size > most:
                raise DataError(f"{path} holds an image of {size:,} bytes, more than fits in memory")
            yield _Member(key, kind, place if place and _is_image(kind) else read())
    except DAMAGED as error:
        if isinstance(error, DataError):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path} is not a readable shard: {reason}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _split(name: str) -> tuple[str, str]:
    folder, _, file = name.rpartition("/")
    stem, _, kind = file.partition(".")
    return f"{folder}/{stem}".removeprefix(".").removeprefix("/"), kind.lower()


def _is_image(kind: str) -> bool:
    return f".{kind.rpartition('.')[2]}" in SUFFIXES


def _texts(files: Mapping[str, bytes]) -> dict[str, str]:
    """The files of a sample that are short texts, by their kinds."""
    found = {}
    for kind, content in files.items():
        if kind != _JSON and not _is_image(kind):
            with suppress(UnicodeDecodeError):
                found[kind] = content.decode().strip()
    return found


def _json(content: bytes | None, where: str) -> dict[str, Any]:
    if content is None:
        return {}
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: the .json is none: {' '.join(str(error).split())}") from error
    return found if isinstance(found, dict) else {}
