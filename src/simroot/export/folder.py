"""A folder that takes the place of an earlier one only when it is complete and right."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from simroot.errors import ExportError
from simroot.files import appearing

_MARK = "Written by simroot"

Names = set[str]


@contextmanager
def folder_appearing(path: Path, marked: str, known: Callable[[Names], Names]) -> Iterator[Path]:
    """An empty folder to be written into, which takes the place of ``path`` when the context is left well.

    An earlier export is replaced as a whole; after an error it stays as it was, and nothing else is left.

    Args:
        path: where the folder is to appear.
        marked: name of the file that says, in its first words, that simroot wrote it.
        known: from the names in a folder to those that an export there may have.

    Raises:
        ExportError: if there is something else at ``path``, or its folder is missing or cannot be written to.
    """
    if path.exists() and not _is_export(path, marked, known):
        raise ExportError(f"{path} exists and is no folder that simroot wrote; name another with --out, or remove it")
    former: Path | None = None
    try:
        with appearing(path, error=ExportError) as made:
            made.mkdir()
            yield made
            if path.exists():
                former = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)) / path.name
                os.replace(path, former)
    finally:
        if former is not None:
            _settle(path, former)


def _settle(path: Path, former: Path) -> None:
    """Bring an earlier export back if nothing has taken its place, and remove it otherwise."""
    if former.exists() and not path.exists():
        os.replace(former, path)
    shutil.rmtree(former.parent)


def _is_export(path: Path, marked: str, known: Callable[[Names], Names]) -> bool:
    """Whether a folder is empty, or holds an earlier export and nothing else."""
    if not path.is_dir() or path.is_symlink():
        return False
    found = {file.name for file in path.iterdir()}
    first = path / marked
    is_marked = first.is_file() and _MARK in first.read_text(encoding="utf-8", errors="replace")[:200]
    return not found or (is_marked and found <= known(found))
