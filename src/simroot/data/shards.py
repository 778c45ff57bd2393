"""WebDataset shards: archives in which the files of a sample have one name and stand side by side.

They are read here as all archives are, and not by the webdataset package: that would run a shell for a name such as
``pipe:...`` and read members of any size. Of an image it is noted where it lies; of a compressed archive, the image.
"""

from __future__ import annotations

import json
import logging
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from simroot.data.archives import DAMAGED, TarFile, damage, tar_files
from simroot.data.columns import Columns, choose
from simroot.data.rows import Row
from simroot.data.tree import memory_budget
from simroot.errors import DataError
from simroot.images.listing import NOT_READ, SUFFIXES, file_kind, ignored, name_text
from simroot.images.sources import Member, Source

_LOOKED_AT = 100  # members that tell what an archive is
_LARGEST_LABEL = 2**20
_CLASS, _JSON = "cls", "json"

logger = logging.getLogger("simroot")


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
    file, or a name in .json; the first sample that has one decides. Of several images that with the shortest kind is
    taken: jpg before depth.png. Images of archives that are not compressed are read when they are needed.

    Raises:
        DataError: the archive is damaged, image and label are apart, or no sample has a label in such a place.
    """
    chosen, unclear, seen = None, None, set[str]()
    for key, members in groupby(_members(path, columns.image), lambda member: member.key):
        files = {member.kind: member.content for member in members}
        kind = columns.image or min(filter(_is_image, files), key=lambda kind: kind.count("."), default=None)
        if not any(map(_is_of_sample, files)) and kind not in files:
            continue
        where = f"sample {key}"
        if key in seen and columns.label != "" and len(set(map(_is_image, files))) == 1:
            raise DataError(
                f"{path}, {where}: its files do not stand side by side; pack them in the order of their names, as by "
                "tar --sort=name"
            )
        seen.add(key)
        texts = {kind: content for kind, content in files.items() if isinstance(content, bytes)}
        cells = {**_json(texts.get(_JSON), f"{path}, {where}"), **_texts(texts)}
        if chosen is None and kind is not None:
            usual = {"label": _CLASS} if _CLASS in cells else {}
            names = dict.fromkeys([*files, *cells])
            try:
                chosen = choose([*names], replace(columns, image=kind), f"{path.name}, {where}", usual)
            except DataError as error:
                unclear = unclear or error
        rest = (None, None, where) if chosen is None else chosen.rest(cells, where)
        yield Row(files.get(kind or ""), f"{key}.{kind}", *rest)
    if chosen is None and unclear is not None:
        raise unclear


def _members(path: Path, image: str | None) -> Iterator[_Member]:
    try:
        for file in tar_files(path):
            key, kind = _split(file.name)
            if any(map(ignored, PurePosixPath(file.name).parts)):
                continue
            if kind == image or _is_image(kind):
                yield _Member(key, kind, _image(file, path))
            elif file.size <= _LARGEST_LABEL:
                yield _Member(key, kind, file.content())
            elif _is_of_sample(kind):  # others are masks, texts and arrays beside the images
                yield _Member(key, kind, b"")
    except DAMAGED as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not a readable shard: {damage(error)}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _image(file: TarFile, path: Path) -> bytes | Member:
    image = file.image()
    if len(image) < file.size:
        words = "%s: %s is said to have %s bytes, too many for its pixels; not read"
        logger.warning(words, path, name_text(file.name), f"{file.size:,}")
    elif file.size > memory_budget():
        raise DataError(f"{path} holds an image of {file.size:,} bytes, more than fits in memory")
    return image


def _split(name: str) -> tuple[str, str]:
    folder, _, file = name.rpartition("/")
    stem, _, kind = file.partition(".")
    return f"{folder}/{stem}".removeprefix(".").removeprefix("/"), kind.lower()


def _is_image(kind: str) -> bool:
    return f".{kind.rpartition('.')[2]}" in SUFFIXES


def _is_of_sample(kind: str) -> bool:
    """Whether a file is an image or says that there should be one."""
    return kind in (_CLASS, _JSON) or _is_image(kind) or file_kind(f".{kind}", None) == NOT_READ


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
