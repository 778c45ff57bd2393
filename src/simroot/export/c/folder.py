"""A folder that takes the place of an earlier one only when it is complete and right."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simroot.errors import ExportError
from simroot.export.sidecar import CLASSES
from simroot.files import appearing

_MARK = "Written by simroot"


@contextmanager
def folder_appearing(path: Path) -> Iterator[Path]:
    """An empty folder to be written into, which takes the place of ``path`` when the context is left well.

    An earlier export is replaced as a whole; after an error it stays as it was, and nothing else is left.

    Raises:
        ExportError: if there is something else at ``path``, or its folder is missing or cannot be written to.
    """
    if path.exists() and not _is_export(path):
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


def _is_export(path: Path) -> bool:
    """Whether a folder is empty, or holds an earlier export, maybe compiled, and nothing else."""
    if not path.is_dir() or path.is_symlink():
        return False
    found = {file.name for file in path.iterdir()}
    stem = next((name.removesuffix(".h") for name in found if name.endswith(".h")), "")
    known = {"Makefile", f"{stem}.h", f"{stem}.c", f"{stem}_test.c", f"{stem}_test", f"{stem}.c.json", CLASSES}
    makefile = path / "Makefile"
    marked = makefile.is_file() and _MARK in makefile.read_text(encoding="utf-8", errors="replace")[:200]
    return not found or (marked and found <= known)
